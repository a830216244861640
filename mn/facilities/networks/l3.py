"""L3 networks and their address ranges."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select

from agentkit.errors import Blame, HardpointError
from mn.facilities.cascade import child_of, delete_tree
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.networks.ranges import Range, checked, first_free, of_network, overlaps
from mn.facilities.networks.tables import (
    IP_RANGE,
    L2_NETWORK,
    L3_NETWORK,
    ip_range_table,
    l3_network_table,
    used_ip_table,
)
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, Text, Uuid

Category = Literal["Public", "Private", "System"]


class CreateL3Network(Create, path="/l3-networks", reply=L3_NETWORK):
    """Create an L3 network on an L2 network, enabled and without addresses."""

    name: Name
    l2_network_uuid: Ref
    description: Description | None = None
    type: Literal["L3BasicNetwork"] = "L3BasicNetwork"
    category: Category = "Private"
    system: bool = False
    dns_domain: Name | None = None

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = self.resource_uuid or job.uuid_for("L3 network")
        await job.transact(insert_l3_network, uuid, self)
        return await inventory(job.services, L3_NETWORK, uuid)


class QueryL3Network(Query, path=("/l3-networks", "/l3-networks/{uuid}"), reply=L3_NETWORK):
    """Query L3 networks."""


class UpdateL3Network(Action, path="/l3-networks/{uuid}/actions", reply=L3_NETWORK):
    """Change what an L3 network is called and what it is for."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    dns_domain: Name | None = None
    category: Category | None = None
    system: bool | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_l3_network, self)
        return await inventory(job.services, L3_NETWORK, self.uuid)


class DeleteL3Network(Delete, path="/l3-networks/{uuid}"):
    """Delete an L3 network with its ranges; no VM may have an address of it, unless it is enforced."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    async def run(self, job: Job) -> Reply:
        """Delete the ranges, then the row."""
        await delete_tree(job, L3_NETWORK, self.uuid, self.delete_mode)
        return {}


class AddIpRange(Create, path="/l3-networks/{l3NetworkUuid}/ip-ranges", reply=IP_RANGE):
    """Give an L3 network a range of IPv4 addresses."""

    l3_network_uuid: Ref
    name: Name
    start_ip: Text
    end_ip: Text
    netmask: Text
    gateway: Text
    description: Description | None = None

    def check(self) -> None:
        """Refuse what is no range of one network."""
        checked(self.start_ip, self.end_ip, self.netmask, self.gateway)

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        wanted = checked(self.start_ip, self.end_ip, self.netmask, self.gateway)
        return await _add_range(job, self, wanted)


class AddIpRangeByNetworkCidr(Create, path="/l3-networks/{l3NetworkUuid}/ip-ranges/by-cidr", reply=IP_RANGE):
    """Give an L3 network all addresses of an IPv4 network but its gateway, the first one unless given."""

    l3_network_uuid: Ref
    name: Name
    network_cidr: Text
    gateway: Text | None = None
    description: Description | None = None

    def check(self) -> None:
        """Refuse what is no network."""
        of_network(self.network_cidr, self.gateway)

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        return await _add_range(job, self, of_network(self.network_cidr, self.gateway))


class QueryIpRange(Query, path=("/l3-networks/ip-ranges", "/l3-networks/ip-ranges/{uuid}"), reply=IP_RANGE):
    """Query address ranges."""


class DeleteIpRange(Delete, path="/l3-networks/ip-ranges/{uuid}"):
    """Delete an address range; no VM may have an address of it, unless it is enforced."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    async def run(self, job: Job) -> Reply:
        """Delete the row."""
        await delete_tree(job, IP_RANGE, self.uuid, self.delete_mode)
        return {}


async def _add_range(job: Job, wanted: AddIpRange | AddIpRangeByNetworkCidr, addresses: Range) -> Reply:
    uuid = wanted.resource_uuid or job.uuid_for("IP range")
    await job.transact(insert_range, uuid, wanted, addresses)
    return await inventory(job.services, IP_RANGE, uuid)


def insert_l3_network(connection: Connection, uuid: str, wanted: CreateL3Network) -> None:
    """Insert an enabled network. Raises HardpointError (SYS.1003) when its L2 network does not exist."""
    l2 = find(connection, L2_NETWORK, wanted.l2_network_uuid)
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "type": wanted.type,
        "zone_uuid": l2.zone_uuid,
        "l2_network_uuid": l2.uuid,
        "state": "Enabled",
        "dns_domain": wanted.dns_domain,
        "system": wanted.system,
        "category": wanted.category,
    }
    add(connection, L3_NETWORK, values, wanted)


def update_l3_network(connection: Connection, wanted: UpdateL3Network) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such network."""
    values = {
        "name": wanted.name,
        "description": wanted.description,
        "dns_domain": wanted.dns_domain,
        "category": wanted.category,
        "system": wanted.system,
    }
    change(connection, L3_NETWORK, wanted.uuid, values)


def insert_range(
    connection: Connection, uuid: str, wanted: AddIpRange | AddIpRangeByNetworkCidr, addresses: Range
) -> None:
    """Insert a range.

    Raises HardpointError: SYS.1003 when the network does not exist, SYS.1006 when another range of it has
    some of the addresses.
    """
    network = lock_l3_network(connection, wanted.l3_network_uuid)
    for other in _ranges_of(connection, network.uuid):
        if overlaps(addresses, other.start_ip, other.end_ip):
            raise _refused(
                f"the range {addresses.start} to {addresses.end} overlaps range {other.name} ({other.uuid}), "
                f"{other.start_ip} to {other.end_ip}",
                "choose addresses that no range of the L3 network has",
            )
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "l3_network_uuid": network.uuid,
        "start_ip": addresses.start,
        "end_ip": addresses.end,
        "netmask": addresses.netmask,
        "gateway": addresses.gateway,
        "network_cidr": addresses.cidr,
    }
    add(connection, IP_RANGE, values, wanted)


def lock_l3_network(connection: Connection, uuid: str) -> Row[Any]:
    """Return a network's row, which no other transaction gives addresses of until this one ends."""
    find(connection, L3_NETWORK, uuid)
    where = l3_network_table.c.uuid == uuid
    return connection.execute(select(l3_network_table).where(where).with_for_update()).one()


def take_address(connection: Connection, l3_uuid: str, nic_uuid: str) -> tuple[Row[Any], str] | None:
    """Give a NIC the lowest free address of an L3 network and return its range and it; None: it has no range.

    Raises HardpointError: SYS.1003 for no such network, SYS.1006 when no address is free.
    """
    network = lock_l3_network(connection, l3_uuid)
    ranges = _ranges_of(connection, l3_uuid)
    used = used_ip_table.c
    for row in ranges:
        taken = connection.execute(select(used.ip).where(used.ip_range_uuid == row.uuid)).scalars()
        ip = first_free(row.start_ip, row.end_ip, taken)
        if ip is not None:
            values = {
                "vm_nic_uuid": nic_uuid,
                "l3_network_uuid": l3_uuid,
                "ip_range_uuid": row.uuid,
                "ip": ip,
            }
            connection.execute(insert(used_ip_table), values)
            return row, ip
    if ranges:
        details = f"L3 network {network.name} ({l3_uuid}) has no free address"
        raise _refused(details, "give it another IP range, or delete VMs that have its addresses")
    return None


def give_back_address(connection: Connection, nic_uuid: str) -> None:
    """Let others have a NIC's address."""
    connection.execute(delete(used_ip_table).where(used_ip_table.c.vm_nic_uuid == nic_uuid))


def _ranges_of(connection: Connection, l3_uuid: str) -> list[Row[Any]]:
    table = ip_range_table
    query = select(table).where(table.c.l3_network_uuid == l3_uuid).order_by(table.c.seq)
    return list(connection.execute(query))


def check_range_unused(connection: Connection, uuid: str) -> None:
    """Raise HardpointError (SYS.1006) when a VM has an address of a range."""
    used = used_ip_table.c
    row = connection.execute(select(used.ip, used.vm_nic_uuid).where(used.ip_range_uuid == uuid)).first()
    if row is not None:
        raise _refused(f"NIC {row.vm_nic_uuid} has its address {row.ip}", "destroy and expunge its VM first")


async def remove_range(job: Job, uuid: str, _mode: DeletionMode) -> None:
    """Make sure that nobody has an address of a range."""
    await job.transact(check_range_unused, uuid)


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)


child_of(L2_NETWORK, L3_NETWORK, "l2_network_uuid")
child_of(L3_NETWORK, IP_RANGE, "l3_network_uuid", remove=remove_range)
