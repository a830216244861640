"""Local storage (manual 4.4.15): a directory on each host, whose volumes only that host can use."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, select

from agentkit.errors import HardpointError
from kvmagent.protocol_storage import StorageKind
from mn.facilities.cascade import child_of
from mn.facilities.common import DeletionMode, find
from mn.facilities.hosts.tables import HOST, load_host
from mn.facilities.primary_storage.adding import AddPrimaryStorage
from mn.facilities.primary_storage.capacity import Place
from mn.facilities.primary_storage.connecting import (
    connect_storage,
    leave_hosts,
    load_ref,
    release_storage,
)
from mn.facilities.primary_storage.driver import Driver, check_directory, register_driver
from mn.facilities.primary_storage.leaving import check_empty, drop_place
from mn.facilities.primary_storage.refusals import not_found, wrong_type
from mn.facilities.primary_storage.tables import (
    HOST_REF,
    LOCAL,
    LOCAL_RESOURCE,
    PRIMARY_STORAGE,
    host_ref_table,
)
from mn.rest.operation import Get, Query, Reply
from mn.rest.services import Call, Job, Services
from mn.rest.types import Ref

log = logging.getLogger(__name__)


class LocalDriver(Driver):
    """A directory on each host."""

    kind = StorageKind.LOCAL
    is_local = True

    def check_url(self, url: str) -> None:
        """Refuse what is no directory."""
        check_directory(url)


register_driver(LocalDriver())


class AddLocalPrimaryStorage(AddPrimaryStorage, path="/primary-storage/local-storage", reply=PRIMARY_STORAGE):
    """Add a local storage (manual 4.4.15.1): a directory on every host of the clusters it is attached to."""

    storage_type = LOCAL

    type: Literal["LocalStorage"] = "LocalStorage"


class QueryLocalStorageResourceRef(
    Query,
    path=(
        "/primary-storage/local-storage/resource-refs",
        "/primary-storage/local-storage/resource-refs/{uuid}",
    ),
    reply=LOCAL_RESOURCE,
):
    """Query what is on local storages, and on which hosts (manual 4.4.15.2)."""


class HostDiskCapacity(msgspec.Struct, rename="camel"):
    """The capacity of a local storage on a host, in bytes."""

    host_uuid: Annotated[str, Meta(description="UUID of the host")]
    total_capacity: Annotated[int, Meta(description="bytes that volumes may take")]
    available_capacity: Annotated[int, Meta(description="bytes of it that are free")]
    total_physical_capacity: Annotated[int, Meta(description="bytes of the file system")]
    available_physical_capacity: Annotated[int, Meta(description="bytes of it that are free")]


class GetLocalStorageHostDiskCapacity(
    Get,
    path="/primary-storage/local-storage/{primaryStorageUuid}/capacities",
    returns={"inventories": Annotated[list[HostDiskCapacity], Meta(description="one for each host")]},
):
    """Say how much room a local storage has on its hosts, or on one of them (manual 4.4.15.4)."""

    primary_storage_uuid: Ref
    host_uuid: Ref | None = None

    async def answer(self, call: Call) -> Reply:
        """Read the rows."""
        found = await call.services.db.read(load_host_capacities, self.primary_storage_uuid, self.host_uuid)
        return {"inventories": found}


def load_host_capacities(
    connection: Connection, storage_uuid: str, host_uuid: str | None
) -> list[HostDiskCapacity]:
    """Return the capacity on each host, or on one.

    Raises HardpointError: SYS.1003 for what does not exist, SYS.1007 for a storage that is not local.
    """
    row = find(connection, PRIMARY_STORAGE, storage_uuid)
    if row.type != LOCAL:
        raise wrong_type(row, LOCAL)
    if host_uuid is not None and load_ref(connection, storage_uuid, host_uuid) is None:
        raise not_found(f"host {host_uuid} is none of primary storage {row.name} ({storage_uuid})")
    refs = host_ref_table
    wanted = refs.c.primary_storage_uuid == storage_uuid
    if host_uuid is not None:
        wanted &= refs.c.host_uuid == host_uuid
    names = HostDiskCapacity.__struct_fields__
    found = connection.execute(select(refs).where(wanted).order_by(refs.c.seq))
    return [HostDiskCapacity(**{name: getattr(ref, name) for name in names}) for ref in found]


async def leave_host(job: Job, uuid: str, mode: DeletionMode) -> None:
    """Take a storage from a host that is deleted: its mount, its row, what a local one has there."""
    leaving = await job.transact(load_leaving, uuid, mode)
    if leaving is not None:
        ends = (job.services, leaving.storage_uuid, leaving.host_uuid)
        await job.step(try_to_release, *ends, undo=connect_storage)
    await job.transact(forget_host, uuid, mode)


class Leaving(msgspec.Struct, frozen=True):
    """A host that answers, and a storage that it has."""

    storage_uuid: str
    host_uuid: str


async def try_to_release(services: Services, storage_uuid: str, host_uuid: str) -> None:
    """Have a host no longer use a storage; what hinders it does not hinder the host's deletion."""
    try:
        await release_storage(services, storage_uuid, host_uuid)
    except HardpointError as error:
        extra = {"host": host_uuid, "storage": storage_uuid, "reason": error.details}
        log.warning("storage not released", extra=extra)


def load_leaving(connection: Connection, ref_uuid: str, mode: str) -> Leaving | None:
    """Return what a host that answers has to give up.

    Raises HardpointError (SYS.1006) as `forget_host` does.
    """
    ref = connection.execute(select(host_ref_table).where(host_ref_table.c.uuid == ref_uuid)).first()
    if ref is None:
        return None
    if mode == "Permissive":
        _check_leaving(connection, ref)
    host = load_host(connection, ref.host_uuid)
    if host is None or host.status != "Connected":
        return None
    return Leaving(ref.primary_storage_uuid, ref.host_uuid)


def forget_host(connection: Connection, ref_uuid: str, mode: str) -> None:
    """Forget that a host has a storage.

    Raises HardpointError (SYS.1006) when a local one has volumes there, unless `mode` is Enforcing.
    """
    found: Any = connection.execute(select(host_ref_table).where(host_ref_table.c.uuid == ref_uuid)).first()
    if found is None:
        return
    row = find(connection, PRIMARY_STORAGE, found.primary_storage_uuid)
    if row.type == LOCAL:
        if mode == "Permissive":
            _check_leaving(connection, found)
        drop_place(connection, Place(row.uuid, found.host_uuid))
    leave_hosts(connection, row.uuid, [found.host_uuid])


def _check_leaving(connection: Connection, ref: Row[Any]) -> None:
    row = find(connection, PRIMARY_STORAGE, ref.primary_storage_uuid)
    if row.type == LOCAL:
        what = f"host {ref.host_uuid} cannot leave primary storage {row.name} ({row.uuid})"
        check_empty(connection, Place(row.uuid, ref.host_uuid), what)


child_of(HOST, HOST_REF, "host_uuid", remove=leave_host)
