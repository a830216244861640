"""Zones (manual 4.1)."""

from __future__ import annotations

from sqlalchemy import Column, Connection, String, Table

from mn.db.schema import date_columns, metadata, named_columns
from mn.facilities.common import add, inventory, refuse_tags
from mn.query.resource import Resource
from mn.rest.operation import Create, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name

zone_table = Table(
    "zone",
    metadata,
    *named_columns("zone"),
    Column("state", String(32), nullable=False, comment="Enabled or Disabled"),
    Column("type", String(32), nullable=False, comment="zstack"),
    *date_columns(),
)

ZONE = Resource("Zone", zone_table)


class CreateZone(Create, path="/zones", reply=ZONE):
    """Create a zone, enabled (manual 4.1.1)."""

    name: Name
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        refuse_tags(self)
        uuid = self.resource_uuid or job.uuid_for("zone")
        await job.transact(insert_zone, uuid, self.name, self.description)
        return await inventory(job.services, ZONE, uuid)


class QueryZone(Query, path=("/zones", "/zones/{uuid}"), reply=ZONE):
    """Query zones (manual 4.1.3)."""


def insert_zone(connection: Connection, uuid: str, name: str, description: str | None) -> None:
    """Insert an enabled zone."""
    values = {"uuid": uuid, "name": name, "description": description, "state": "Enabled", "type": "zstack"}
    add(connection, ZONE, values)
