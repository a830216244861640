"""Disk offerings: sizes of data volumes that have a name."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta
from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table

from mn.db.schema import date_columns, metadata, named_columns
from mn.facilities.cascade import delete_row
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.states import check_event, state_after
from mn.query.resource import Resource
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, StateEvent, Uuid

DISK_MOST = 2**50

DiskSize = Annotated[
    int, Meta(ge=1, le=DISK_MOST, description=f"bytes, a whole number from 1 to {DISK_MOST}")
]
SortKey = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1, description="a whole number")]

disk_offering_table = Table(
    "disk_offering",
    metadata,
    *named_columns("disk offering"),
    Column("disk_size", BigInteger, nullable=False, index=True, comment="bytes of a volume"),
    Column("sort_key", Integer, nullable=False, comment="where it stands in lists"),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    Column("type", String(32), nullable=False, comment="zstack"),
    Column("allocator_strategy", String(64), nullable=False, comment="how a primary storage is chosen"),
    *date_columns(),
)

DISK_OFFERING = Resource("DiskOffering", disk_offering_table)


class CreateDiskOffering(Create, path="/disk-offerings", reply=DISK_OFFERING):
    """Create a disk offering, enabled."""

    name: Name
    disk_size: DiskSize
    description: Description | None = None
    sort_key: SortKey = 0
    allocation_strategy: Literal["DefaultPrimaryStorageAllocationStrategy"] = (
        "DefaultPrimaryStorageAllocationStrategy"
    )
    type: Literal["zstack"] = "zstack"

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = self.resource_uuid or job.uuid_for("disk-offering")
        await job.transact(insert_offering, uuid, self)
        return await inventory(job.services, DISK_OFFERING, uuid)


class QueryDiskOffering(Query, path=("/disk-offerings", "/disk-offerings/{uuid}"), reply=DISK_OFFERING):
    """Query disk offerings."""


class UpdateDiskOffering(Action, path="/disk-offerings/{uuid}/actions", reply=DISK_OFFERING):
    """Change a disk offering's name or description."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_offering, self)
        return await inventory(job.services, DISK_OFFERING, self.uuid)


class ChangeDiskOfferingState(Action, path="/disk-offerings/{uuid}/actions", reply=DISK_OFFERING):
    """Enable or disable a disk offering: no volume is made of a disabled one."""

    uuid: Ref
    state_event: StateEvent

    def check(self) -> None:
        """Offerings can be enabled and disabled only."""
        check_event(self.state_event, "enable", "disable")

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(change_offering_state, self.uuid, state_after(self.state_event))
        return await inventory(job.services, DISK_OFFERING, self.uuid)


class DeleteDiskOffering(Delete, path="/disk-offerings/{uuid}"):
    """Delete a disk offering; volumes that were made of it stay."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    async def run(self, job: Job) -> Reply:
        """Delete the row."""
        await job.transact(delete_row, DISK_OFFERING.name, self.uuid)
        return {}


def insert_offering(connection: Connection, uuid: str, wanted: CreateDiskOffering) -> None:
    """Insert an enabled disk offering."""
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "disk_size": wanted.disk_size,
        "sort_key": wanted.sort_key,
        "state": "Enabled",
        "type": wanted.type,
        "allocator_strategy": wanted.allocation_strategy,
    }
    add(connection, DISK_OFFERING, values, wanted)


def update_offering(connection: Connection, wanted: UpdateDiskOffering) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such offering."""
    change(connection, DISK_OFFERING, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def change_offering_state(connection: Connection, uuid: str, state: str) -> None:
    """Write a disk offering's state. Raises HardpointError (SYS.1003) when there is none."""
    change(connection, DISK_OFFERING, uuid, {"state": state})


def offered_size(connection: Connection, uuid: str) -> tuple[int, str]:
    """Return the size and the state of a disk offering. Raises HardpointError (SYS.1003)."""
    row = find(connection, DISK_OFFERING, uuid)
    return int(row.disk_size), str(row.state)
