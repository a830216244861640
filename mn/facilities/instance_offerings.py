"""Instance offerings: how many CPUs and how much memory VMs have."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table

from mn.db.schema import date_columns, metadata, named_columns
from mn.facilities.cascade import delete_tree
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.states import check_event, state_after
from mn.query.resource import Resource
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, StateEvent, Uuid

CpuNum = Annotated[int, Meta(ge=1, le=1024, description="a number of virtual CPUs, 1 to 1024")]
MemorySize = Annotated[int, Meta(ge=1, le=2**63 - 1, description="a number of bytes of memory")]
SortKey = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1, description="a whole number that clients sort by")]
DEFAULT_ALLOCATOR = "DefaultHostAllocatorStrategy"
ALLOCATORS = (DEFAULT_ALLOCATOR, "LeastVmPreferredHostAllocatorStrategy")
"""How a VM's host is chosen among those that can take it: most free capacity, or fewest VMs."""
Allocator = Annotated[
    str,
    Meta(pattern=f"^({'|'.join(ALLOCATORS)})$", description=f"a strategy: {', '.join(ALLOCATORS)}"),
]

instance_offering_table = Table(
    "instance_offering",
    metadata,
    *named_columns("instance offering"),
    Column("cpu_num", Integer, nullable=False, index=True, comment="virtual CPUs"),
    Column("cpu_speed", Integer, nullable=False, comment="always 0: kept for clients that know it"),
    Column("memory_size", BigInteger, nullable=False, index=True, comment="bytes of memory"),
    Column("type", String(32), nullable=False, comment="UserVm"),
    Column("allocator_strategy", String(64), nullable=False, comment="how hosts for such VMs are chosen"),
    Column("sort_key", Integer, nullable=False, comment="a number that clients sort by"),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    *date_columns(),
)

INSTANCE_OFFERING = Resource("InstanceOffering", instance_offering_table)


class CreateInstanceOffering(Create, path="/instance-offerings", reply=INSTANCE_OFFERING):
    """Create an instance offering, enabled."""

    name: Name
    cpu_num: CpuNum
    memory_size: MemorySize
    description: Description | None = None
    allocator_strategy: Allocator = DEFAULT_ALLOCATOR
    sort_key: SortKey = 0
    type: Name = "UserVm"

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = self.resource_uuid or job.uuid_for("instance offering")
        await job.transact(insert_instance_offering, uuid, self)
        return await inventory(job.services, INSTANCE_OFFERING, uuid)


class DeleteInstanceOffering(Delete, path="/instance-offerings/{uuid}"):
    """Delete an instance offering; VMs made from it keep what they have."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    async def run(self, job: Job) -> Reply:
        """Delete the row."""
        await delete_tree(job, INSTANCE_OFFERING, self.uuid, self.delete_mode)
        return {}


class QueryInstanceOffering(
    Query, path=("/instance-offerings", "/instance-offerings/{uuid}"), reply=INSTANCE_OFFERING
):
    """Query instance offerings."""


class UpdateInstanceOffering(Action, path="/instance-offerings/{uuid}/actions", reply=INSTANCE_OFFERING):
    """Change an instance offering's name, description or strategy."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    allocator_strategy: Allocator | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_instance_offering, self)
        return await inventory(job.services, INSTANCE_OFFERING, self.uuid)


class ChangeInstanceOfferingState(Action, path="/instance-offerings/{uuid}/actions", reply=INSTANCE_OFFERING):
    """Enable or disable an instance offering; a disabled one makes no new VMs."""

    uuid: Ref
    state_event: StateEvent

    def check(self) -> None:
        """Offerings can be enabled and disabled only."""
        check_event(self.state_event, "enable", "disable")

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(change_instance_offering_state, self.uuid, state_after(self.state_event))
        return await inventory(job.services, INSTANCE_OFFERING, self.uuid)


def insert_instance_offering(connection: Connection, uuid: str, wanted: CreateInstanceOffering) -> None:
    """Insert an enabled offering."""
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "cpu_num": wanted.cpu_num,
        "cpu_speed": 0,
        "memory_size": wanted.memory_size,
        "type": wanted.type,
        "allocator_strategy": wanted.allocator_strategy,
        "sort_key": wanted.sort_key,
        "state": "Enabled",
    }
    add(connection, INSTANCE_OFFERING, values, wanted)


def update_instance_offering(connection: Connection, wanted: UpdateInstanceOffering) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such offering."""
    values = {
        "name": wanted.name,
        "description": wanted.description,
        "allocator_strategy": wanted.allocator_strategy,
    }
    change(connection, INSTANCE_OFFERING, wanted.uuid, values)


def change_instance_offering_state(connection: Connection, uuid: str, state: str) -> None:
    """Write an offering's state. Raises HardpointError (SYS.1003) when there is no such offering."""
    find(connection, INSTANCE_OFFERING, uuid)
    change(connection, INSTANCE_OFFERING, uuid, {"state": state})
