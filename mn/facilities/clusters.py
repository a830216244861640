"""Clusters (manual 4.2)."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Column, Connection, ForeignKey, String, Table

from mn.db.schema import date_columns, metadata, named_columns, uuid_column
from mn.facilities.cascade import change_state_tree, child_of, delete_tree
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.states import check_event, state_after
from mn.facilities.tags.rules import check_count, check_size, check_truth, register
from mn.facilities.zones import ZONE
from mn.query.resource import Relation, Resource
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, StateEvent, Uuid

cluster_table = Table(
    "cluster",
    metadata,
    *named_columns("cluster"),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    Column("hypervisor_type", String(32), nullable=False, index=True, comment="KVM or Simulator"),
    Column("type", String(32), nullable=False, comment="zstack"),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of its zone"),
    *date_columns(),
)

CLUSTER = Resource("Cluster", cluster_table, {"zone": Relation(lambda: ZONE, "zoneUuid", "uuid")})
ZONE.relations["cluster"] = Relation(lambda: CLUSTER, "uuid", "zoneUuid")
child_of(ZONE, CLUSTER, "zone_uuid")

register("Cluster", "host::reservedCpu::{capacity}", "CPUs kept from VMs on each host", check_count)
register("Cluster", "host::reservedMemory::{capacity}", "memory kept from VMs on each host", check_size)
register(
    "Cluster",
    "check::cluster::cpu::model::{enable}",
    "whether all hosts must have the same CPU model",
    check_truth,
)


class CreateCluster(Create, path="/clusters", reply=CLUSTER):
    """Create a cluster in a zone, enabled (manual 4.2.1)."""

    zone_uuid: Ref
    name: Name
    hypervisor_type: Literal["KVM", "Simulator"]
    description: Description | None = None
    type: Literal["zstack"] = "zstack"

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = self.resource_uuid or job.uuid_for("cluster")
        await job.transact(insert_cluster, uuid, self)
        return await inventory(job.services, CLUSTER, uuid)


class DeleteCluster(Delete, path="/clusters/{uuid}"):
    """Delete a cluster with its hosts (manual 4.2.2)."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a cluster at a time."""
        return (f"cluster/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Delete what is below it, then the row."""
        await delete_tree(job, CLUSTER, self.uuid, self.delete_mode)
        return {}


class QueryCluster(Query, path=("/clusters", "/clusters/{uuid}"), reply=CLUSTER):
    """Query clusters (manual 4.2.3)."""


class UpdateCluster(Action, path="/clusters/{uuid}/actions", reply=CLUSTER):
    """Change a cluster's name or description (manual 4.2.4)."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a cluster at a time."""
        return (f"cluster/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_cluster, self)
        return await inventory(job.services, CLUSTER, self.uuid)


class ChangeClusterState(Action, path="/clusters/{uuid}/actions", reply=CLUSTER):
    """Enable or disable a cluster with its hosts (manual 4.2.5)."""

    uuid: Ref
    state_event: StateEvent

    def check(self) -> None:
        """Clusters can be enabled and disabled only."""
        check_event(self.state_event, "enable", "disable")

    def locks(self) -> tuple[str, ...]:
        """One change of a cluster at a time."""
        return (f"cluster/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the rows of the cluster and of its hosts."""
        await job.transact(change_cluster_state, self.uuid, state_after(self.state_event))
        return await inventory(job.services, CLUSTER, self.uuid)


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
    add(connection, CLUSTER, values, wanted)


def update_cluster(connection: Connection, wanted: UpdateCluster) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such cluster."""
    change(connection, CLUSTER, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def change_cluster_state(connection: Connection, uuid: str, state: str) -> None:
    """Write a cluster's state and its hosts'.

    Raises HardpointError (SYS.1003) when there is no such cluster.
    """
    find(connection, CLUSTER, uuid)
    change_state_tree(connection, CLUSTER, [uuid], state)
