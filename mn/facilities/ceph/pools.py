"""Steps of jobs that make pools and take them away, whatever storage they are for."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cephagent.protocol import AddPool, PoolReport, RemovePool
from mn.facilities.ceph.asking import At, ask
from mn.facilities.ceph.servers import save_report
from mn.facilities.ceph.tables import Kind
from mn.facilities.undoing import undoing
from mn.rest.services import Services

PoolNameParameter = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,126}$(?!\n)",
        description="name of a pool: letters, digits and _ . + -, up to 127",
    ),
]


async def make_pool(
    services: Services, kind: Kind, at: At, storage_uuid: str, pool: str, task_uuid: str, create: bool
) -> PoolReport:
    """Have a pool made, or found."""
    command = AddPool(pool=pool, owner=storage_uuid, create=create)
    answered, reply = await ask(services, kind, storage_uuid, command, task_uuid, at)
    await services.db.write(save_report, answered.server_uuid, reply.inventory)
    return reply.pool


async def undo_pool(
    services: Services, kind: Kind, at: At, storage_uuid: str, pool: str, task_uuid: str, create: bool
) -> None:
    """Remove a pool that was made."""
    if create:
        with undoing(services, at.endpoint, task_uuid) as task:
            await unmake_pool(services, kind, at, storage_uuid, pool, task)


async def unmake_pool(
    services: Services, kind: Kind, at: At, storage_uuid: str, pool: str, task_uuid: str
) -> None:
    """Have a pool of a storage's own removed."""
    await ask(services, kind, storage_uuid, RemovePool(pool=pool, owner=storage_uuid), task_uuid, at)
