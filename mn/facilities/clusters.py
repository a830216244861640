"""Clusters (manual 4.2)."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Column, Connection, ForeignKey, String, Table

from mn.db.schema import date_columns, metadata, named_columns, uuid_column
from mn.facilities.common import add, find, inventory, refuse_tags
from mn.facilities.zones import ZONE
from mn.query.resource import Relation, Resource
from mn.rest.operation import Create, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref

cluster_table = Table(
    "cluster",
    metadata,
    *named_columns("cluster"),
    Column("state", String(32), nullable=False, comment="Enabled or Disabled"),
    Column("hypervisor_type", String(32), nullable=False, index=True, comment="KVM or Simulator"),
    Column("type", String(32), nullable=False, comment="zstack"),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of its zone"),
    *date_columns(),
)

CLUSTER = Resource("Cluster", cluster_table, {"zone": Relation(lambda: ZONE, "zoneUuid", "uuid")})
ZONE.relations["cluster"] = Relation(lambda: CLUSTER, "uuid", "zoneUuid")


class CreateCluster(Create, path="/clusters", reply=CLUSTER):
    """Create a cluster in a zone, enabled (manual 4.2.1)."""

    zone_uuid: Ref
    name: Name
    hypervisor_type: Literal["KVM", "Simulator"]
    description: Description | None = None
    type: Literal["zstack"] = "zstack"

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        refuse_tags(self)
        uuid = self.resource_uuid or job.uuid_for("cluster")
        await job.transact(insert_cluster, uuid, self)
        return await inventory(job.services, CLUSTER, uuid)


class QueryCluster(Query, path=("/clusters", "/clusters/{uuid}"), reply=CLUSTER):
    """Query clusters (manual 4.2.3)."""


def insert_cluster(connection: Connection, uuid: str, wanted: CreateCluster) -> None:
    """Insert an enabled cluster. Raises HardpointError (SYS.1003) when its zone does not exist."""
    find(connection, ZONE, wanted.zone_uuid)
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "state": "Enabled",
        "hypervisor_type": wanted.hypervisor_type,
        "type": wanted.type,
        "zone_uuid": wanted.zone_uuid,
    }
    add(connection, CLUSTER, values)
