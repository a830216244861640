"""Zones (manual 4.1)."""

from __future__ import annotations

from sqlalchemy import Column, Connection, String, Table

from mn.db.schema import date_columns, metadata, named_columns
from mn.facilities.cascade import change_state_tree, delete_tree
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.states import check_event, state_after
from mn.facilities.tags.rules import check_count, check_size, register
from mn.query.resource import Resource
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, StateEvent, Uuid

zone_table = Table(
    "zone",
    metadata,
    *named_columns("zone"),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    Column("type", String(32), nullable=False, comment="zstack"),
    *date_columns(),
)

ZONE = Resource("Zone", zone_table)

register("Zone", "host::reservedCpu::{capacity}", "CPUs kept from VMs on each host", check_count)
register("Zone", "host::reservedMemory::{capacity}", "memory kept from VMs on each host", check_size)


class CreateZone(Create, path="/zones", reply=ZONE):
    """Create a zone, enabled (manual 4.1.1)."""

    name: Name
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = self.resource_uuid or job.uuid_for("zone")
        await job.transact(insert_zone, uuid, self)
        return await inventory(job.services, ZONE, uuid)


class DeleteZone(Delete, path="/zones/{uuid}"):
    """Delete a zone with its clusters and their hosts (manual 4.1.2)."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a zone at a time."""
        return (f"zone/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Delete what is below it, then the row."""
        await delete_tree(job, ZONE, self.uuid, self.delete_mode)
        return {}


class QueryZone(Query, path=("/zones", "/zones/{uuid}"), reply=ZONE):
    """Query zones (manual 4.1.3)."""


class UpdateZone(Action, path="/zones/{uuid}/actions", reply=ZONE):
    """Change a zone's name or description (manual 4.1.4)."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a zone at a time."""
        return (f"zone/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_zone, self)
        return await inventory(job.services, ZONE, self.uuid)


class ChangeZoneState(Action, path="/zones/{uuid}/actions", reply=ZONE):
    """Enable or disable a zone with its clusters and their hosts (manual 4.1.5)."""

    uuid: Ref
    state_event: StateEvent

    def check(self) -> None:
        """Zones can be enabled and disabled only."""
        check_event(self.state_event, "enable", "disable")

    def locks(self) -> tuple[str, ...]:
        """One change of a zone at a time."""
        return (f"zone/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the rows of the zone and of all below it."""
        await job.transact(change_zone_state, self.uuid, state_after(self.state_event))
        return await inventory(job.services, ZONE, self.uuid)


def insert_zone(connection: Connection, uuid: str, wanted: CreateZone) -> None:
    """Insert an enabled zone."""
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "state": "Enabled",
        "type": "zstack",
    }
    add(connection, ZONE, values, wanted)


def update_zone(connection: Connection, wanted: UpdateZone) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such zone."""
    change(connection, ZONE, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def change_zone_state(connection: Connection, uuid: str, state: str) -> None:
    """Write a zone's state and its children's.

    Raises HardpointError (SYS.1003) when there is no such zone.
    """
    find(connection, ZONE, uuid)
    change_state_tree(connection, ZONE, [uuid], state)
