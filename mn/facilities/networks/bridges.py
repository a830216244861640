"""L2 networks become bridges on hosts; hosts that were away catch up when they return."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
from sqlalchemy import Connection, select

from agentkit.errors import HardpointError
from agentkit.turns import Turns
from kvmagent.protocol_network import INTERFACE_NAME_LENGTH, ApplyNetworks, Bridge, ConfirmNetworks
from mn.db.schema import new_uuid
from mn.facilities.hosts.followers import when_connected
from mn.facilities.hosts.holdings import given_back, hold, holdings_of
from mn.facilities.hosts.tables import host_table, load_host
from mn.facilities.networks.tables import l2_cluster_ref_table, l2_network_table
from mn.fleet.client import Endpoint
from mn.rest.services import Services

HOSTS_AT_ONCE = 16
BRIDGES = "bridges"
_turns = Turns()
"""A host is told of its bridges by one at a time, who reads when it is his turn what it is to have."""


class Wanted(msgspec.Struct, frozen=True):
    """The bridges that a host is to have."""

    name: str
    endpoint: Endpoint
    bridges: list[Bridge]


def bridge_name(interface: str, vlan: int | None) -> str:
    """Return the name of an L2 network's bridge, `br_eth0` or `br_eth0_7`; a hash shortens long ones."""
    end = "" if vlan is None else f"_{vlan}"
    name = f"br_{interface}{end}"
    if len(name) <= INTERFACE_NAME_LENGTH:
        return name
    digest = hashlib.sha256(interface.encode()).hexdigest()
    return f"br_{digest[: INTERFACE_NAME_LENGTH - 3 - len(end)]}{end}"


def load_wanted(connection: Connection, host_uuid: str) -> Wanted | None:
    """Return what a host is to have, None when it cannot be told now or has nothing to be told."""
    row = load_host(connection, host_uuid)
    if row is None or row.status != "Connected" or row.agent_port is None:
        return None
    refs, networks = l2_cluster_ref_table.c, l2_network_table.c
    attached = refs.cluster_uuid == row.cluster_uuid
    found = (
        select(networks.physical_interface, networks.vlan)
        .join(l2_cluster_ref_table, refs.l2_network_uuid == networks.uuid)
        .where(attached)
        .order_by(networks.physical_interface, networks.vlan)
    )
    bridges = [
        Bridge(name=bridge_name(interface, vlan), interface=interface, vlan=vlan)
        for interface, vlan in connection.execute(found)
    ]
    if not bridges and not holdings_of(connection, host_uuid, BRIDGES):
        return None
    return Wanted(row.name, Endpoint(host_uuid, row.agent_address, row.agent_port), bridges)


def connected_hosts(connection: Connection, cluster_uuid: str) -> list[str]:
    """Return the uuids of a cluster's hosts that can be told of networks now."""
    hosts = host_table.c
    there = (hosts.cluster_uuid == cluster_uuid) & (hosts.status == "Connected")
    return list(connection.execute(select(hosts.uuid).where(there).order_by(hosts.seq)).scalars())


async def apply_to_host(services: Services, host_uuid: str) -> None:
    """Have a host make the bridges that are wanted of it, and confirm that it can still be reached.

    Raises HardpointError with what hinders it; the host then has what it had.
    """
    async with _turns.of(host_uuid):
        await _apply(services, host_uuid)


async def _apply(services: Services, host_uuid: str) -> None:
    wanted = await services.db.read(load_wanted, host_uuid)
    if wanted is None:
        return
    change, task = new_uuid(), new_uuid()
    fleet, endpoint = services.fleet, wanted.endpoint
    if wanted.bridges:
        await services.db.write(hold, host_uuid, BRIDGES)
    try:
        applied = await fleet.call(endpoint, ApplyNetworks(change_uuid=change, bridges=wanted.bridges), task)
        fleet.acknowledge(endpoint, task)
        if applied.pending:
            task = new_uuid()
            await fleet.call(endpoint, ConfirmNetworks(change_uuid=change), task)
            fleet.acknowledge(endpoint, task)
    except HardpointError as error:
        raise HardpointError(
            error.code,
            error.summary,
            f"host {wanted.name} ({host_uuid}): {error.details}",
            remedy=error.remedy,
            blame=error.blame,
            cause=error,
        ) from error
    if not wanted.bridges:
        await services.db.write(given_back, host_uuid, BRIDGES)


async def apply_to_hosts(services: Services, host_uuids: list[str]) -> None:
    """Do so on several hosts; raises the first failure when all have been tried."""
    places = asyncio.Semaphore(HOSTS_AT_ONCE)

    async def one(host_uuid: str) -> None:
        async with places:
            await apply_to_host(services, host_uuid)

    results = await asyncio.gather(*map(one, host_uuids), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


when_connected(apply_to_host)
