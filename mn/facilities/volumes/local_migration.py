"""Local storage: on which other host a volume can be, and moving it there (manual 4.4.15.3, 4.4.15.5)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, select

from mn.db.global_settings import GlobalSettings
from mn.facilities.common import find
from mn.facilities.hosts.tables import HOST
from mn.facilities.primary_storage.capacity import Place, room
from mn.facilities.primary_storage.connecting import HostPlace, host_at, load_ref, usable_hosts
from mn.facilities.primary_storage.refusals import illegal, refused
from mn.facilities.primary_storage.tables import LOCAL, LOCAL_RESOURCE, PRIMARY_STORAGE, allocation_table
from mn.facilities.volumes.migrating import begin_move, end_move, move_volume, needed_room
from mn.facilities.volumes.tables import VOLUME
from mn.facilities.volumes.use import quiet_volume
from mn.query.plan import load_one
from mn.rest.operation import Action, Get, Reply
from mn.rest.services import Call, Job
from mn.rest.types import Ref

TIMEOUT_S = 24 * 3600.0


class LocalStorageGetVolumeMigratableHosts(
    Get,
    path="/volumes/{volumeUuid}/migration-target-hosts",
    returns={"inventories": Annotated[list[dict[str, Any]], Meta(description="hosts")]},
):
    """List the hosts that a volume on a local storage can be moved to (manual 4.4.15.5)."""

    volume_uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Read the hosts."""
        settings = call.services.global_settings
        found = await call.services.db.read(load_targets, self.volume_uuid, settings)
        return {"inventories": [msgspec.Raw(host.encode()) for host in found]}


class LocalStorageMigrateVolume(
    Action,
    path="/primary-storage/local-storage/volumes/{volumeUuid}/actions",
    reply=LOCAL_RESOURCE,
    timeout_s=TIMEOUT_S,
):
    """Move a volume on a local storage to another host (manual 4.4.15.3): no running VM may have it."""

    volume_uuid: Ref
    dest_host_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time."""
        return (f"volume/{self.volume_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Copy the files, then change the rows."""
        services = job.services
        ends = await job.transact(check_move, self.volume_uuid, self.dest_host_uuid)
        place = Place(ends.target.storage.uuid, ends.target.host_uuid)
        move = await job.transact(
            begin_move,
            self.volume_uuid,
            ends.source,
            ends.target,
            place,
            services.global_settings,
            undo=end_move,
        )
        await move_volume(job, move)
        found = await services.db.read(load_reference, self.volume_uuid)
        return {"inventory": msgspec.Raw(found.encode())}


class Ends(msgspec.Struct, frozen=True):
    """Where a volume is and where it is to be."""

    source: HostPlace
    target: HostPlace


def check_move(connection: Connection, volume_uuid: str, host_uuid: str) -> Ends:
    """Return both hosts of a move.

    Raises HardpointError: SYS.1003 for what does not exist, SYS.1007 for a volume that is not local or a host
    that it cannot go to, SYS.1006 and VOLUME.1000 when it cannot be moved now, PS.1003 for one that is away.
    """
    row, storage = _local_volume(connection, volume_uuid)
    host = find(connection, HOST, host_uuid)
    if load_ref(connection, storage.uuid, host_uuid) is None:
        raise illegal(
            f"host {host.name} ({host_uuid}) is none of primary storage {storage.name} ({storage.uuid})",
            "see LocalStorageGetVolumeMigratableHosts",
        )
    if row.host_uuid == host_uuid:
        raise illegal(
            f"volume {row.name} ({volume_uuid}) is on host {host.name} already", "name another host"
        )
    if storage.state != "Enabled":
        raise refused(
            f"primary storage {storage.name} ({storage.uuid}) is {storage.state}", "enable it first"
        )
    quiet_volume(connection, volume_uuid)
    source = host_at(connection, Place(storage.uuid, row.host_uuid))
    return Ends(source, host_at(connection, Place(storage.uuid, host_uuid)))


def load_targets(connection: Connection, volume_uuid: str, settings: GlobalSettings) -> list[str]:
    """Return the inventories of hosts with room for a volume; raises HardpointError as `check_move` does."""
    row, storage = _local_volume(connection, volume_uuid)
    found = []
    for host in usable_hosts(connection, storage.uuid):
        place = Place(storage.uuid, host.uuid)
        enough = room(connection, place, settings) >= needed_room(connection, volume_uuid, place)
        if host.uuid != row.host_uuid and host.state == "Enabled" and enough:
            found.append(load_one(connection, HOST, host.uuid) or "")
    return found


def load_reference(connection: Connection, volume_uuid: str) -> str:
    """Return the inventory of where a volume is."""
    rows = allocation_table.c
    uuid = connection.execute(select(rows.uuid).where(rows.resource_uuid == volume_uuid)).scalar_one()
    return load_one(connection, LOCAL_RESOURCE, uuid) or ""


def _local_volume(connection: Connection, uuid: str) -> tuple[Row[Any], Row[Any]]:
    row = find(connection, VOLUME, uuid)
    storage = None
    if row.primary_storage_uuid is not None:
        storage = find(connection, PRIMARY_STORAGE, row.primary_storage_uuid)
    if storage is None or storage.type != LOCAL:
        on = (
            f"primary storage {storage.name} of the type {storage.type}"
            if storage is not None
            else "none yet"
        )
        raise illegal(
            f"volume {row.name} ({uuid}) is on no local storage but on {on}",
            "use PrimaryStorageMigrateVolume",
        )
    return row, storage
