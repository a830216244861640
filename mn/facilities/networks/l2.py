"""L2 networks: create, change, delete, attach to clusters."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import Connection, delete, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.schema import new_uuid, now_s
from mn.facilities.cascade import child_of, delete_tree
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.networks.bridges import apply_to_hosts, connected_hosts
from mn.facilities.networks.tables import (
    L2_CLUSTER_REF,
    L2_NETWORK,
    L2_VLAN_NETWORK,
    NO_VLAN,
    VLAN,
    l2_cluster_ref_table,
    l2_network_table,
)
from mn.facilities.zones import ZONE
from mn.query.resource import Resource
from mn.rest.operation import Action, Create, Delete, Post, Query, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Description, Name, Ref, Uuid

log = logging.getLogger(__name__)

Interface = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}$",
        description="the name of a network interface, at most 15 characters",
    ),
]
Vlan = Annotated[int, Meta(ge=1, le=4094, description="a VLAN tag, 1 to 4094")]


class _CreateL2(Create, kw_only=True):
    name: Name
    zone_uuid: Ref
    physical_interface: Interface
    description: Description | None = None

    async def _create(self, job: Job, resource: Resource, kind: str, vlan: int | None) -> Reply:
        uuid = self.resource_uuid or job.uuid_for("L2 network")
        await job.transact(insert_l2_network, uuid, self, kind, vlan)
        return await inventory(job.services, resource, uuid)


class CreateL2NoVlanNetwork(_CreateL2, path="/l2-networks/no-vlan", reply=L2_NETWORK):
    """Create an L2 network whose VMs are on an interface of the hosts as it is."""

    type: Literal["L2NoVlanNetwork"] = "L2NoVlanNetwork"

    async def run(self, job: Job) -> Reply:
        """Insert the row; bridges are made when it is attached to a cluster."""
        return await self._create(job, L2_NETWORK, NO_VLAN, None)


class CreateL2VlanNetwork(_CreateL2, path="/l2-networks/vlan", reply=L2_VLAN_NETWORK):
    """Create an L2 network whose VMs are on a VLAN of an interface of the hosts."""

    vlan: Vlan
    type: Literal["L2VlanNetwork"] = "L2VlanNetwork"

    async def run(self, job: Job) -> Reply:
        """Insert the row; bridges are made when it is attached to a cluster."""
        return await self._create(job, L2_VLAN_NETWORK, VLAN, self.vlan)


class QueryL2Network(Query, path=("/l2-networks", "/l2-networks/{uuid}"), reply=L2_NETWORK):
    """Query L2 networks of both types."""


class QueryL2VlanNetwork(
    Query, path=("/l2-networks/vlan", "/l2-networks/vlan/{uuid}"), reply=L2_VLAN_NETWORK
):
    """Query L2 networks with a VLAN."""


class _ChangesL2(Action):
    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a network at a time."""
        return (f"l2-network/{self.uuid}",)


class UpdateL2Network(_ChangesL2, path="/l2-networks/{uuid}/actions", reply=L2_NETWORK):
    """Change an L2 network's name or description."""

    name: Name | None = None
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_l2_network, self)
        return await inventory(job.services, L2_NETWORK, self.uuid)


class DeleteL2Network(Delete, path="/l2-networks/{uuid}"):
    """Delete an L2 network with its L3 networks and take its bridges from the hosts."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a network at a time."""
        return (f"l2-network/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Delete what is on it, then the bridges, then the row."""
        await delete_tree(job, L2_NETWORK, self.uuid, self.delete_mode)
        return {}


class AttachL2NetworkToCluster(
    Post, path="/l2-networks/{l2NetworkUuid}/clusters/{clusterUuid}", reply=L2_NETWORK
):
    """Make an L2 network's bridge on the hosts of a cluster; all that are connected must be able to."""

    l2_network_uuid: Uuid
    cluster_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of a network at a time."""
        return (f"l2-network/{self.l2_network_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the reference, then make the bridges; a failure takes both back."""
        network, cluster = self.l2_network_uuid, self.cluster_uuid
        await job.transact(check_attach, network, cluster)
        await job.when_undone(follow_rows, job.services, cluster)
        await job.transact(attach, network, cluster, undo=detach)
        hosts = await job.transact(connected_hosts, cluster)
        job.at(20)
        await job.step(apply_to_hosts, job.services, hosts)
        return await inventory(job.services, L2_NETWORK, network)


class DetachL2NetworkFromCluster(
    Delete, path="/l2-networks/{l2NetworkUuid}/clusters/{clusterUuid}", reply=L2_NETWORK
):
    """Take an L2 network's bridge from the hosts of a cluster; no VM there may run on it."""

    l2_network_uuid: Uuid
    cluster_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of a network at a time."""
        return (f"l2-network/{self.l2_network_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Take the reference away, then the bridges; a failure gives both back."""
        network, cluster = self.l2_network_uuid, self.cluster_uuid
        await job.transact(check_attached, network, cluster)
        await job.when_undone(follow_rows, job.services, cluster)
        await job.transact(detach, network, cluster, undo=attach_again)
        hosts = await job.transact(connected_hosts, cluster)
        job.at(20)
        await job.step(apply_to_hosts, job.services, hosts)
        return await inventory(job.services, L2_NETWORK, network)


async def follow_rows(services: Services, cluster_uuid: str) -> None:
    """Have the hosts of a cluster what the rows say; one that cannot does so when it is connected next."""
    try:
        await apply_to_hosts(services, await services.db.read(connected_hosts, cluster_uuid))
    except HardpointError as error:
        log.warning("bridges not taken back", extra={"reason": error.details})


def insert_l2_network(
    connection: Connection, uuid: str, wanted: _CreateL2, kind: str, vlan: int | None
) -> None:
    """Insert a network. Raises HardpointError (SYS.1003) when its zone does not exist."""
    find(connection, ZONE, wanted.zone_uuid)
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "zone_uuid": wanted.zone_uuid,
        "physical_interface": wanted.physical_interface,
        "type": kind,
        "vlan": vlan,
        "attached_cluster_uuids": [],
    }
    add(connection, L2_NETWORK, values, wanted)


def update_l2_network(connection: Connection, wanted: UpdateL2Network) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such network."""
    change(connection, L2_NETWORK, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def attached_clusters(connection: Connection, network_uuid: str) -> list[str]:
    """Return the uuids of the clusters that a network is attached to."""
    refs = l2_cluster_ref_table.c
    found = select(refs.cluster_uuid).where(refs.l2_network_uuid == network_uuid).order_by(refs.seq)
    return list(connection.execute(found).scalars())


def check_attach(connection: Connection, network_uuid: str, cluster_uuid: str) -> None:
    """Raise HardpointError when a network cannot be attached to a cluster.

    SYS.1003 for what does not exist, SYS.1006 for what does not fit.
    """
    network, cluster = find(connection, L2_NETWORK, network_uuid), find(connection, CLUSTER, cluster_uuid)
    named = f"L2 network {network.name} ({network_uuid})"
    if network.zone_uuid != cluster.zone_uuid:
        raise _refused(
            f"{named} and cluster {cluster.name} ({cluster_uuid}) are in different zones", "choose others"
        )
    if cluster_uuid in attached_clusters(connection, network_uuid):
        raise _refused(f"{named} is attached to cluster {cluster.name} ({cluster_uuid}) already", "detach it")
    refs, networks = l2_cluster_ref_table.c, l2_network_table.c
    same = (
        select(networks.name, networks.uuid)
        .join(l2_cluster_ref_table, refs.l2_network_uuid == networks.uuid)
        .where(
            (refs.cluster_uuid == cluster_uuid)
            & (networks.physical_interface == network.physical_interface)
            & networks.vlan.is_not_distinct_from(network.vlan)
        )
    )
    other = connection.execute(same).first()
    if other is not None:
        raise _refused(
            f"{named} would have the bridge of L2 network {other.name} ({other.uuid}) in cluster "
            f"{cluster.name} ({cluster_uuid})",
            "use that one, or another interface or VLAN",
        )


def attach(connection: Connection, network_uuid: str, cluster_uuid: str) -> None:
    """Write that a network is attached to a cluster. Raises HardpointError as `check_attach` does."""
    check_attach(connection, network_uuid, cluster_uuid)
    attach_again(connection, network_uuid, cluster_uuid)


def attach_again(connection: Connection, network_uuid: str, cluster_uuid: str) -> None:
    """Write that a network is attached to a cluster."""
    now = now_s()
    values = {"uuid": new_uuid(), "l2_network_uuid": network_uuid, "cluster_uuid": cluster_uuid}
    connection.execute(insert(l2_cluster_ref_table), {**values, "create_date": now, "last_op_date": now})
    _show_clusters(connection, network_uuid)


def check_attached(connection: Connection, network_uuid: str, cluster_uuid: str) -> None:
    """Raise HardpointError (SYS.1003, SYS.1006) unless a network is attached to a cluster."""
    network = find(connection, L2_NETWORK, network_uuid)
    if cluster_uuid not in attached_clusters(connection, network_uuid):
        details = f"L2 network {network.name} ({network_uuid}) is not attached to cluster {cluster_uuid}"
        raise _refused(details, "see its attachedClusterUuids")


def detach(connection: Connection, network_uuid: str, cluster_uuid: str) -> None:
    """Write that a network is no longer attached to a cluster."""
    refs = l2_cluster_ref_table.c
    where = (refs.l2_network_uuid == network_uuid) & (refs.cluster_uuid == cluster_uuid)
    connection.execute(delete(l2_cluster_ref_table).where(where))
    _show_clusters(connection, network_uuid)


def _show_clusters(connection: Connection, network_uuid: str) -> None:
    values: dict[str, Any] = {
        "attached_cluster_uuids": attached_clusters(connection, network_uuid),
        "last_op_date": now_s(),
    }
    where = l2_network_table.c.uuid == network_uuid
    connection.execute(update(l2_network_table).where(where).values(**values))


async def remove_l2_network(job: Job, uuid: str, _mode: DeletionMode) -> None:
    """Take a network's bridges from all hosts."""
    for cluster in await job.transact(attached_clusters, uuid):
        await job.when_undone(follow_rows, job.services, cluster)
        await job.transact(detach, uuid, cluster, undo=attach_again)
        hosts = await job.transact(connected_hosts, cluster)
        await job.step(apply_to_hosts, job.services, hosts)


def ref_parties(connection: Connection, uuid: str) -> tuple[str, str] | None:
    """Return the network and the cluster of a reference."""
    refs = l2_cluster_ref_table.c
    row = connection.execute(select(refs.l2_network_uuid, refs.cluster_uuid).where(refs.uuid == uuid)).first()
    return (row.l2_network_uuid, row.cluster_uuid) if row is not None else None


async def leave_cluster(job: Job, uuid: str, _mode: DeletionMode) -> None:
    """Take a network from a cluster that goes, whose hosts are gone."""
    parties = await job.transact(ref_parties, uuid)
    if parties is not None:
        await job.transact(detach, *parties)


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)


child_of(ZONE, L2_NETWORK, "zone_uuid", remove=remove_l2_network)
child_of(CLUSTER, L2_CLUSTER_REF, "cluster_uuid", remove=leave_cluster)
