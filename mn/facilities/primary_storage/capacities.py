"""GetPrimaryStorageCapacity and SyncPrimaryStorageCapacity."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta
from sqlalchemy import Connection, func, select

from agentkit.errors import HardpointError
from kvmagent.protocol_storage import GetStorageCapacity, StorageEvent
from mn.db.schema import new_uuid
from mn.facilities.common import find, inventory
from mn.facilities.primary_storage.capacity import Place, recount
from mn.facilities.primary_storage.connecting import HostPlace, host_at, no_host, save_found, usable_hosts
from mn.facilities.primary_storage.refusals import illegal
from mn.facilities.primary_storage.tables import (
    LOCAL,
    PRIMARY_STORAGE,
    cluster_ref_table,
    primary_storage_table,
)
from mn.rest.operation import Action, Get, Reply
from mn.rest.services import Call, Job, Services
from mn.rest.types import Ref

Bytes = Annotated[int, Meta(description="bytes")]
_COLUMNS = ("total_capacity", "available_capacity", "total_physical_capacity", "available_physical_capacity")
_KEYS = ("totalCapacity", "availableCapacity", "totalPhysicalCapacity", "availablePhysicalCapacity")


class GetPrimaryStorageCapacity(Get, path="/primary-storage/capacities", returns=dict.fromkeys(_KEYS, Bytes)):
    """Add up the capacity of primary storages, of zones or clusters, or of all (manual 4.4.6)."""

    zone_uuids: list[Ref] | None = None
    cluster_uuids: list[Ref] | None = None
    primary_storage_uuids: list[Ref] | None = None
    all: bool = False

    def check(self) -> None:
        """Something has to be named, or all."""
        if not (self.zone_uuids or self.cluster_uuids or self.primary_storage_uuids or self.all):
            raise illegal(
                "none of zoneUuids, clusterUuids and primaryStorageUuids is given", "give one, or all=true"
            )

    async def answer(self, call: Call) -> Reply:
        """Add them up."""
        return await call.services.db.read(add_up, self)


class SyncPrimaryStorageCapacity(
    Action, path="/primary-storage/{primaryStorageUuid}/actions", reply=PRIMARY_STORAGE
):
    """Ask the hosts for a storage's capacity and count all that is on it anew (manual 4.4.7)."""

    primary_storage_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.primary_storage_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Ask, write."""
        uuid = self.primary_storage_uuid
        places = await job.transact(load_places, uuid)
        asked: list[HardpointError] = []
        for at in places:
            try:
                await job.step(sync_capacity, job.services, at)
            except HardpointError as error:
                asked.append(error)
        if asked and len(asked) == len(places):
            raise asked[0]
        await job.transact(recount, uuid)
        return await inventory(job.services, PRIMARY_STORAGE, uuid)


def add_up(connection: Connection, wanted: GetPrimaryStorageCapacity) -> dict[str, int]:
    """Return the sums over the storages that are meant."""
    table, refs = primary_storage_table, cluster_ref_table.c
    conditions: list[Any] = [table.c.state.in_(("Enabled", "Disabled"))]
    if wanted.zone_uuids:
        conditions.append(table.c.zone_uuid.in_(wanted.zone_uuids))
    if wanted.primary_storage_uuids:
        conditions.append(table.c.uuid.in_(wanted.primary_storage_uuids))
    if wanted.cluster_uuids:
        attached = select(refs.primary_storage_uuid).where(refs.cluster_uuid.in_(wanted.cluster_uuids))
        conditions.append(table.c.uuid.in_(attached))
    sums = select(*(func.sum(table.c[name]) for name in _COLUMNS)).where(*conditions)
    found = connection.execute(sums).one()
    return {key: int(value or 0) for key, value in zip(_KEYS, found, strict=True)}


def load_places(connection: Connection, uuid: str) -> list[HostPlace]:
    """Return where to ask for a storage's capacity: one host, of a local storage all.

    Raises HardpointError (SYS.1003, PS.1003) when there is none to ask.
    """
    row = find(connection, PRIMARY_STORAGE, uuid)
    if row.type != LOCAL:
        return [host_at(connection, Place(uuid))]
    hosts = usable_hosts(connection, uuid)
    if not hosts:
        raise no_host(connection, row, None)
    return [host_at(connection, Place(uuid, host.uuid)) for host in hosts]


async def sync_capacity(services: Services, at: HostPlace) -> None:
    """Ask a host for a storage's capacity and write it."""
    task = new_uuid()
    reply = await services.fleet.call(at.endpoint, GetStorageCapacity(storage=at.storage), task)
    services.fleet.acknowledge(at.endpoint, task)
    told = StorageEvent(storage_uuid=at.storage.uuid, answering=True, capacity=reply.capacity)
    await services.db.write(save_found, at.storage.uuid, at.host_uuid, told)
