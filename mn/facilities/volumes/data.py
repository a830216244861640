"""Data volumes: create, query, delete, recover, expunge."""

from __future__ import annotations

import re

from sqlalchemy import Connection, select

from mn.db.schema import now_s
from mn.facilities.common import DeletionMode, find, inventory
from mn.facilities.hosts.tables import HOST
from mn.facilities.offerings import DiskSize, offered_size
from mn.facilities.primary_storage.refusals import illegal, refused
from mn.facilities.tags.rules import register
from mn.facilities.volumes.life import NewVolume, create_volume, drop_volume, expunge_volume
from mn.facilities.volumes.tables import SNAPSHOT, VOLUME, change_volume, load_volume, volume_table
from mn.facilities.volumes.use import detached_volume, volume_in
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, Uuid

TIMEOUT_S = 24 * 3600.0
HOST_TAG = "localStorage::hostUuid::{hostUuid}"
_HOST_TAG = re.compile(r"localStorage::hostUuid::([0-9a-f]{32})")


def check_uuid(value: str) -> None:
    """Take a uuid."""
    if not re.fullmatch(r"[0-9a-f]{32}", value):
        raise ValueError(f"'{value}' is no uuid")


register("Volume", HOST_TAG, "the host that a volume on a local storage is made on", check_uuid)


class CreateDataVolume(Create, path="/volumes/data", reply=VOLUME):
    """Create an empty data volume, of a disk offering or of a size.

    Without `primaryStorageUuid` it gets its place when it is first attached to a VM. On a local storage the
    system tag `localStorage::hostUuid::<uuid>` says on which host it is.
    """

    name: Name
    description: Description | None = None
    disk_offering_uuid: Ref | None = None
    disk_size: DiskSize | None = None
    primary_storage_uuid: Ref | None = None

    def check(self) -> None:
        """One of the two says how large it is."""
        if (self.disk_offering_uuid is None) == (self.disk_size is None):
            raise illegal(
                "parameter 'diskOfferingUuid' and parameter 'diskSize' are "
                + ("both missing" if self.disk_size is None else "both given"),
                "give one of them",
            )

    async def run(self, job: Job) -> Reply:
        """Make it."""
        uuid = self.resource_uuid or job.uuid_for("volume")
        size = await job.transact(wanted_size, self)
        host = named_host(self.system_tags)
        if host is not None:
            await job.transact(check_host, host)
        new = NewVolume(
            uuid,
            self.name,
            "Data",
            size,
            description=self.description,
            storage_uuid=self.primary_storage_uuid,
            host_uuid=host,
            disk_offering_uuid=self.disk_offering_uuid,
            system_tags=self.system_tags,
            user_tags=self.user_tags,
        )
        await create_volume(job, new)
        return await inventory(job.services, VOLUME, uuid)


class QueryVolume(Query, path=("/volumes", "/volumes/{uuid}"), reply=VOLUME):
    """Query volumes."""


class QueryVolumeSnapshot(Query, path=("/volume-snapshots", "/volume-snapshots/{uuid}"), reply=SNAPSHOT):
    """Query snapshots of volumes."""


class DeleteDataVolume(Delete, path="/volumes/{uuid}"):
    """Delete a data volume that is attached to no VM; it can be recovered for three days."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time."""
        return (f"volume/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(delete_volume, self.uuid)
        return {}


class RecoverDataVolume(Action, path="/volumes/{uuid}/actions", reply=VOLUME):
    """Make a deleted data volume usable again."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time."""
        return (f"volume/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(recover_volume, self.uuid)
        return await inventory(job.services, VOLUME, self.uuid)


class ExpungeDataVolume(Action, path="/volumes/{uuid}/actions", timeout_s=TIMEOUT_S):
    """Remove a deleted data volume for good, with its snapshots."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time."""
        return (f"volume/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Remove the files, then the rows."""
        await job.transact(check_deleted, self.uuid)
        await expunge_volume(job, self.uuid)
        return {}


def named_host(system_tags: list[str]) -> str | None:
    """Return the host that a tag names."""
    found = (_HOST_TAG.fullmatch(tag) for tag in system_tags)
    return next((match[1] for match in found if match), None)


def check_host(connection: Connection, uuid: str) -> None:
    """Raise HardpointError (SYS.1003) when there is no such host."""
    find(connection, HOST, uuid)


def wanted_size(connection: Connection, wanted: CreateDataVolume) -> int:
    """Return how large a volume is to be.

    Raises HardpointError: SYS.1003 for no such offering, SYS.1006 for one that is disabled.
    """
    if wanted.disk_offering_uuid is None:
        return wanted.disk_size or 0
    size, state = offered_size(connection, wanted.disk_offering_uuid)
    if state != "Enabled":
        raise refused(
            f"disk offering {wanted.disk_offering_uuid} is {state}", "enable it, or choose another one"
        )
    return size


def delete_volume(connection: Connection, uuid: str) -> None:
    """Write that a volume is Deleted; one that is on no storage goes at once. Gone already, nothing happens.

    Raises HardpointError (VOLUME.1000, SYS.1006) when it cannot be deleted now.
    """
    row = load_volume(connection, uuid)
    if row is None or row.status == "Deleted":
        return
    detached_volume(connection, uuid, "Ready", "NotInstantiated")
    if row.status == "NotInstantiated":
        drop_volume(connection, uuid)
    else:
        change_volume(connection, uuid, status="Deleted")


def recover_volume(connection: Connection, uuid: str) -> None:
    """Write that a deleted volume is Ready. Raises HardpointError (SYS.1003, VOLUME.1000)."""
    volume_in(connection, uuid, "Deleted")
    change_volume(connection, uuid, status="Ready")


def check_deleted(connection: Connection, uuid: str) -> None:
    """Raise HardpointError (SYS.1003, VOLUME.1000) for a volume that is not deleted."""
    volume_in(connection, uuid, "Deleted")


def long_deleted(connection: Connection, seconds: float) -> list[str]:
    """Return the data volumes that were deleted so long ago."""
    table = volume_table.c
    due = (table.status == "Deleted") & (table.type == "Data") & (table.last_op_date < now_s() - seconds)
    return list(connection.execute(select(table.uuid).where(due).order_by(table.seq)).scalars())
