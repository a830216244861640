"""Query, update, delete, reconnect and the state of primary storages (manual 4.4.1 to 4.4.14)."""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from agentkit.errors import HardpointError
from mn.facilities.cascade import child_of, delete_tree
from mn.facilities.common import DeletionMode, change, find, inventory
from mn.facilities.primary_storage.attaching import connect_hosts, release_hosts
from mn.facilities.primary_storage.capacity import Place
from mn.facilities.primary_storage.connecting import load_hosts, no_host, refresh_status, usable_hosts
from mn.facilities.primary_storage.driver import driver_of, known_types
from mn.facilities.primary_storage.leaving import check_empty, drop_place
from mn.facilities.primary_storage.refusals import illegal, refused
from mn.facilities.primary_storage.tables import (
    LOCAL,
    NFS,
    PRIMARY_STORAGE,
    attached_clusters,
    change_storage,
    load_storage,
)
from mn.facilities.states import check_event, state_after
from mn.facilities.zones import ZONE
from mn.rest.operation import Action, Delete, Get, Query, Reply
from mn.rest.services import Call, Job
from mn.rest.types import Description, Name, Ref, StorageStateEvent, StorageUrl, Uuid

log = logging.getLogger(__name__)

TIMEOUT_S = 3600.0
ALLOCATOR_STRATEGIES = [
    "DefaultPrimaryStorageAllocationStrategy",
    "LeastVolumePrimaryStorageAllocationStrategy",
    "MaximumAvailableCapacityAllocationStrategy",
    "LocalPrimaryStorageStrategy",
]


class QueryPrimaryStorage(Query, path=("/primary-storage", "/primary-storage/{uuid}"), reply=PRIMARY_STORAGE):
    """Query primary storages (manual 4.4.2)."""


class GetPrimaryStorageTypes(Get, path="/primary-storage/types"):
    """List the types of primary storage (manual 4.4.12); under the table's key and the example's."""

    async def answer(self, call: Call) -> Reply:
        """Return the list."""
        return {"types": known_types(), "primaryStorageTypes": known_types()}


class GetPrimaryStorageAllocatorStrategies(Get, path="/primary-storage/allocators/strategies"):
    """List the strategies that choose a primary storage (manual 4.4.11); under both keys."""

    async def answer(self, call: Call) -> Reply:
        """Return the list."""
        return {"strategies": ALLOCATOR_STRATEGIES, "primaryStorageAllocatorStrategies": ALLOCATOR_STRATEGIES}


class _Change(Action):
    """What changes of a storage have in common."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.uuid}",)


class UpdatePrimaryStorage(
    _Change, path="/primary-storage/{uuid}/actions", reply=PRIMARY_STORAGE, timeout_s=TIMEOUT_S
):
    """Change a primary storage's name, description, or, of an NFS storage, its export (manual 4.4.9).

    Another export must hold the same files: its marker is looked for before it is used.
    """

    name: Name | None = None
    description: Description | None = None
    url: StorageUrl | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row; mount another export on all hosts, or the former one again."""
        services = job.services
        before = await job.transact(check_url, self.uuid, self.url)
        if before is not None and self.url is not None:
            hosts = await job.transact(load_hosts, self.uuid)
            await job.step(release_hosts, services, self.uuid, hosts, undo=connect_hosts)
            await job.transact(change_url, self.uuid, self.url, before, undo=restore_url)
            await job.step(connect_hosts, services, self.uuid, hosts, undo=release_hosts)
        await job.transact(update_storage, self)
        return await inventory(services, PRIMARY_STORAGE, self.uuid)


class ReconnectPrimaryStorage(
    _Change, path="/primary-storage/{uuid}/actions", reply=PRIMARY_STORAGE, timeout_s=TIMEOUT_S
):
    """Initialise a primary storage again on all its connected hosts (manual 4.4.5)."""

    async def run(self, job: Job) -> Reply:
        """Connect; the storage is what comes of it."""
        await job.transact(begin_connecting, self.uuid, undo=end_connecting)
        await driver_of(await job.transact(type_of, self.uuid)).connect(job, self.uuid)
        hosts = await job.transact(load_hosts, self.uuid)
        try:
            await job.step(connect_hosts, job.services, self.uuid, hosts)
        except HardpointError as error:
            if not await job.transact(is_usable, self.uuid):
                raise
            extra = {"storage": self.uuid, "reason": error.details}
            log.warning("storage reconnected on some of its hosts only", extra=extra)
        await job.transact(end_connecting, self.uuid)
        return await inventory(job.services, PRIMARY_STORAGE, self.uuid)


class ChangePrimaryStorageState(
    _Change, path="/primary-storage/{uuid}/actions", reply=PRIMARY_STORAGE, timeout_s=TIMEOUT_S
):
    """Enable, disable or maintain a primary storage (manual 4.4.8): only an enabled one takes new volumes."""

    state_event: StorageStateEvent

    def check(self) -> None:
        """Refuse what is no event of storages."""
        check_event(self.state_event, "enable", "disable", "maintain", "deleting")

    async def run(self, job: Job) -> Reply:
        """Write the row; one that was in maintenance is connected again."""
        state = state_after(self.state_event)
        before = await job.transact(change_state, self.uuid, state)
        if before == "Maintenance" and state == "Enabled":
            hosts = await job.transact(load_hosts, self.uuid)
            await job.step(connect_hosts, job.services, self.uuid, hosts)
        return await inventory(job.services, PRIMARY_STORAGE, self.uuid)


class DeletePrimaryStorage(Delete, path="/primary-storage/{uuid}", timeout_s=TIMEOUT_S):
    """Delete a primary storage that is attached to no cluster (manual 4.4.1); files on it stay.

    Permissive keeps one that has volumes; Enforcing forgets them.
    """

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Delete what is on it, then the row."""
        await job.transact(check_detached, self.uuid)
        await delete_tree(job, PRIMARY_STORAGE, self.uuid, self.delete_mode)
        return {}


async def remove_storage(job: Job, uuid: str, mode: DeletionMode) -> None:
    """Forget what is on a storage."""
    await job.transact(empty_storage, uuid, mode)
    kind = await job.transact(load_type, uuid)
    if kind is not None:
        await driver_of(kind).remove(job, uuid)


child_of(ZONE, PRIMARY_STORAGE, "zone_uuid", remove=remove_storage)


def type_of(connection: Connection, uuid: str) -> str:
    """Return a storage's type. Raises HardpointError (SYS.1003) when there is none."""
    return str(find(connection, PRIMARY_STORAGE, uuid).type)


def load_type(connection: Connection, uuid: str) -> str | None:
    """Return a storage's type, None when there is no such storage."""
    row = load_storage(connection, uuid)
    return None if row is None else str(row.type)


def check_detached(connection: Connection, uuid: str) -> None:
    """Raise HardpointError (SYS.1006) when a storage is attached to a cluster."""
    clusters = attached_clusters(connection, uuid)
    if clusters:
        raise refused(
            f"primary storage {uuid} is attached to cluster {clusters[0]}",
            "detach it from all clusters first",
        )


def empty_storage(connection: Connection, uuid: str, mode: str) -> None:
    """Forget what is on a storage. Raises HardpointError (SYS.1006) for volumes, unless Enforcing."""
    row = load_storage(connection, uuid)
    if row is None:
        return
    if mode == "Permissive":
        check_empty(connection, Place(uuid), f"primary storage {row.name} ({uuid}) is not empty")
    drop_place(connection, Place(uuid))


def update_storage(connection: Connection, wanted: UpdatePrimaryStorage) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such storage."""
    change(connection, PRIMARY_STORAGE, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def check_url(connection: Connection, uuid: str, url: str | None) -> str | None:
    """Return the url that a storage has when it is to have another one, else None.

    Raises HardpointError: SYS.1003 for no such storage, SYS.1006 and SYS.1007 for a url that it cannot have.
    """
    row = find(connection, PRIMARY_STORAGE, uuid)
    if url is None or url == row.url:
        return None
    if row.type != NFS:
        raise refused(
            f"primary storage {row.name} ({uuid}) is of the type {row.type}: its url cannot be changed",
            "add another storage and migrate the volumes",
        )
    driver = driver_of(row.type)
    driver.check_url(url)
    driver.check_unique(connection, uuid, url, row.zone_uuid)
    return str(row.url)


def change_url(connection: Connection, uuid: str, url: str, _before: str) -> None:
    """Write another url."""
    change_storage(connection, uuid, url=url)


def restore_url(connection: Connection, uuid: str, _url: str, before: str) -> None:
    """Write the url that a storage had."""
    change_storage(connection, uuid, url=before)


def begin_connecting(connection: Connection, uuid: str) -> None:
    """Make a storage Connecting. Raises HardpointError (SYS.1003, PS.1003) when nothing could connect it."""
    row = find(connection, PRIMARY_STORAGE, uuid)
    needs_hosts = row.type != LOCAL and not driver_of(row.type).is_reported
    if needs_hosts and not load_hosts(connection, uuid):
        raise no_host(connection, row, None)
    change_storage(connection, uuid, status="Connecting")


def end_connecting(connection: Connection, uuid: str) -> None:
    """Make a storage what its hosts say."""
    row = load_storage(connection, uuid)
    if row is not None and row.status == "Connecting":
        change_storage(connection, uuid, status="Connected" if row.type == LOCAL else "Disconnected")
        refresh_status(connection, uuid)
        driver_of(row.type).recheck(connection, uuid)


def is_usable(connection: Connection, uuid: str) -> bool:
    """Say whether some host can use a storage."""
    return bool(usable_hosts(connection, uuid))


def change_state(connection: Connection, uuid: str, state: str) -> str:
    """Write a storage's state, return the former one. Raises HardpointError (SYS.1003)."""
    before = str(find(connection, PRIMARY_STORAGE, uuid).state)
    if before == "Deleting" != state:
        raise illegal(f"primary storage {uuid} is being deleted", "let it be deleted")
    if before != state:
        change_storage(connection, uuid, state=state)
    return before
