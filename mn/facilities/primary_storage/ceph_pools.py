"""The pools of Ceph primary storages (manual 4.4.18.6 to 4.4.18.9)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select

from cephagent.protocol import PoolReport
from mn.db.schema import new_uuid, now_s
from mn.facilities.ceph.asking import agent_of
from mn.facilities.ceph.pools import PoolNameParameter, make_pool, undo_pool
from mn.facilities.ceph.servers import refresh_storage
from mn.facilities.common import add, change, find, inventory
from mn.facilities.primary_storage.attaching import try_to_connect_hosts
from mn.facilities.primary_storage.ceph_tables import (
    CEPH_POOL,
    CEPH_STORAGE,
    KIND,
    OWNER,
    columns_of,
    pool_table,
)
from mn.facilities.primary_storage.connecting import load_hosts
from mn.facilities.primary_storage.refusals import illegal, refused
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, Uuid

log = logging.getLogger(__name__)

TIMEOUT_S = 3600.0

InPool = Callable[[Connection, str, str], str | None]
"""Names something that is in a pool of a storage (`volume web (uuid)`), None when nothing is."""

_users: list[InPool] = []


def pool_used_by(in_pool: InPool) -> None:
    """Have a pool stay while `in_pool` names something."""
    _users.append(in_pool)


class AddCephPrimaryStoragePool(
    Create, path="/primary-storage/ceph/{primaryStorageUuid}/pools", reply=CEPH_POOL, timeout_s=TIMEOUT_S
):
    """Let a Ceph primary storage use another pool (manual 4.4.18.6): one that is there, or a new one.

    Volumes get into it by the system tag `ceph::pool::name`.
    """

    primary_storage_uuid: Ref
    pool_name: PoolNameParameter
    alias_name: Name | None = None
    description: Description | None = None
    type: Literal["Root", "Data"] = "Data"
    is_create: bool = False

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.primary_storage_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Make or find it, insert the row."""
        services, storage = job.services, self.primary_storage_uuid
        uuid = self.resource_uuid or job.uuid_for("pool")
        await job.transact(check_new, storage, self.pool_name, self.type)
        at = await job.transact(agent_of, KIND, storage)
        task = job.task_uuid()
        report = await job.step(
            make_pool, services, KIND, at, storage, self.pool_name, task, self.is_create, undo=undo_pool
        )
        await job.transact(add_pool, uuid, self, report)
        hosts = await job.transact(load_hosts, storage)
        await job.step(try_to_connect_hosts, services, storage, hosts)
        return await inventory(services, CEPH_POOL, uuid)


class QueryCephPrimaryStoragePool(
    Query, path=("/primary-storage/ceph/pools", "/primary-storage/ceph/pools/{uuid}"), reply=CEPH_POOL
):
    """Query the pools of Ceph primary storages (manual 4.4.18.8)."""


class UpdateCephPrimaryStoragePool(
    Action, path="/primary-storage/ceph/pools/{uuid}/actions", reply=CEPH_POOL
):
    """Change a pool's alias or description (manual 4.4.18.9)."""

    uuid: Ref
    alias_name: Name | None = None
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_pool, self)
        return await inventory(job.services, CEPH_POOL, self.uuid)


class DeleteCephPrimaryStoragePool(Delete, path="/primary-storage/ceph/pools/{uuid}"):
    """Have a Ceph primary storage no longer use a pool (manual 4.4.18.7); the pool itself stays.

    Refused for a pool that new volumes or images get into by default, or that volumes are in.
    """

    uuid: Uuid

    async def run(self, job: Job) -> Reply:
        """Remove the row; one that does not exist is deleted already."""
        await job.transact(delete_pool, self.uuid)
        return {}


def check_new(connection: Connection, storage_uuid: str, name: str, kind: str) -> None:
    """Raise HardpointError: SYS.1003 for no such storage, SYS.1007 for a pool that it has already."""
    row = find(connection, CEPH_STORAGE, storage_uuid)
    columns = pool_table.c
    same = (columns[OWNER] == storage_uuid) & (columns.pool_name == name) & (columns.type == kind)
    if connection.execute(select(columns.uuid).where(same)).first() is not None:
        raise illegal(
            f"parameter 'poolName' is {name}: Ceph primary storage {row.name} ({storage_uuid}) has it as a "
            f"pool of the type {kind} already",
            "name another pool",
        )


def insert_pool(
    connection: Connection, storage_uuid: str, name: str, kind: str, create: bool, report: PoolReport
) -> None:
    """Insert a pool that a storage has from the beginning."""
    now = now_s()
    values = {**_values(new_uuid(), storage_uuid, name, kind, create, report)}
    connection.execute(insert(pool_table), {**values, "create_date": now, "last_op_date": now})


def add_pool(
    connection: Connection, uuid: str, wanted: AddCephPrimaryStoragePool, report: PoolReport
) -> None:
    """Insert a pool; raises as `check_new` does."""
    storage = wanted.primary_storage_uuid
    check_new(connection, storage, wanted.pool_name, wanted.type)
    values = _values(uuid, storage, wanted.pool_name, wanted.type, wanted.is_create, report)
    named = {"alias_name": wanted.alias_name, "description": wanted.description}
    add(connection, CEPH_POOL, {**values, **named}, wanted)
    refresh_storage(connection, KIND, storage)


def update_pool(connection: Connection, wanted: UpdateCephPrimaryStoragePool) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such pool."""
    values = {"alias_name": wanted.alias_name, "description": wanted.description}
    change(connection, CEPH_POOL, wanted.uuid, values)


def delete_pool(connection: Connection, uuid: str) -> None:
    """Remove a pool's row. Raises HardpointError (SYS.1006) for one that is in use."""
    pool = connection.execute(select(pool_table).where(pool_table.c.uuid == uuid)).first()
    if pool is None:
        return
    storage = find(connection, CEPH_STORAGE, getattr(pool, OWNER))
    named = f"pool {pool.pool_name} ({uuid}) of Ceph primary storage {storage.name}"
    defaults = (storage.root_volume_pool_name, storage.data_volume_pool_name, storage.image_cache_pool_name)
    if pool.pool_name in defaults:
        raise refused(f"{named} is one that it was added with", "delete the storage")
    for in_pool in _users:
        user = in_pool(connection, storage.uuid, pool.pool_name)
        if user is not None:
            raise refused(f"{named} has {user}", "migrate or delete and expunge what is in it first")
    connection.execute(delete(pool_table).where(pool_table.c.uuid == uuid))
    refresh_storage(connection, KIND, storage.uuid)


def _values(
    uuid: str, storage_uuid: str, name: str, kind: str, create: bool, report: PoolReport
) -> dict[str, Any]:
    return {
        "uuid": uuid,
        OWNER: storage_uuid,
        "pool_name": name,
        "type": kind,
        "self_made": create,
        **columns_of(report),
    }
