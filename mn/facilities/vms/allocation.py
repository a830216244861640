"""Hosts' capacity as VMs take of it, reserved in the transaction that chooses the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, func, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.global_settings import MEMORY_RATIO, RESERVED_MEMORY, GlobalSettings
from mn.facilities.hosts.tables import HOST, host_table
from mn.facilities.networks.tables import l2_cluster_ref_table, l3_network_table
from mn.facilities.tags.rules import tag_value
from mn.facilities.vms.domain_devices import hindered_by_devices
from mn.facilities.vms.domain_disks import hindered_by_disks
from mn.facilities.vms.placing import Candidate, Need, choose, explain, reason_against, size_of
from mn.facilities.vms.tables import ON_HOST, State, change_vm, nics_of, vm_in, vm_table
from mn.facilities.volumes.use import check_disks
from mn.fleet.client import Endpoint

_OWN_TAGS = ("reservedCpu::{capacity}", "reservedMemory::{capacity}")
_ABOVE_TAGS = ("host::reservedCpu::{capacity}", "host::reservedMemory::{capacity}")


Hindrance = Callable[[Connection, str, Row[Any]], str | None]
"""Says why a host cannot have the VM with a uuid, None when it can."""


class Wish(msgspec.Struct, frozen=True):
    """Where a VM shall run; None: anywhere."""

    zone_uuid: str | None = None
    cluster_uuid: str | None = None
    host_uuid: str | None = None


class Placed(msgspec.Struct, frozen=True):
    """Where a VM runs, or is about to."""

    host_uuid: str
    address: str
    port: int

    @property
    def endpoint(self) -> Endpoint:
        """Where the host's agent listens."""
        return Endpoint(self.host_uuid, self.address, self.port)


def place_vm(connection: Connection, uuid: str, wish: Wish, settings: GlobalSettings) -> Placed:
    """Choose a host for a VM that does not run and take of its capacity: the VM is Starting.

    Raises HardpointError: SYS.1003, SYS.1006 for a VM in another state, VOLUME.1000 while one of its volumes
    is worked on, VM.1000 when no host can take it, with each host's reason.
    """
    row = vm_in(connection, uuid, State.CREATED, State.STOPPED)
    check_disks(connection, uuid)
    host = choose_host(connection, row, wish, settings, _hindered)
    change_vm(
        connection,
        uuid,
        state=State.STARTING,
        host_uuid=host.uuid,
        cluster_uuid=host.cluster_uuid,
        hypervisor_type=host.hypervisor_type,
    )
    recount(connection, host.uuid, settings[MEMORY_RATIO])
    return Placed(host.uuid, host.agent_address, host.agent_port)


def _hindered(connection: Connection, vm_uuid: str, host: Row[Any]) -> str | None:
    return hindered_by_disks(connection, vm_uuid, host) or hindered_by_devices(connection, vm_uuid, host)


def choose_host(
    connection: Connection, vm: Row[Any], wish: Wish, settings: GlobalSettings, hindered: Hindrance
) -> Row[Any]:
    """Return the host that suits a VM best, of those that nothing hinders.

    Raises HardpointError (VM.1000) when no host can take it, with each host's reason.
    """
    need, hosts, candidates = _asked(connection, vm, _locked(_hosts_in(vm, wish)), settings, hindered)
    best = choose(candidates, need)
    if best is None:
        raise HardpointError(
            "VM.1000",
            "No host for the VM",
            f"no host can take VM {vm.name} ({vm.uuid}): {explain(candidates, need)}",
            remedy="free capacity, connect or enable a host, or name another cluster or host",
            blame=Blame.CALLER,
        )
    return next(host for host in hosts if host.uuid == best.uuid)


def possible_hosts(
    connection: Connection, vm: Row[Any], wish: Wish, settings: GlobalSettings, hindered: Hindrance
) -> list[str]:
    """Return the uuids of all hosts that can take a VM."""
    need, _, candidates = _asked(connection, vm, _hosts_in(vm, wish), settings, hindered)
    return [candidate.uuid for candidate in candidates if reason_against(candidate, need) is None]


def _asked(
    connection: Connection,
    vm: Row[Any],
    query: Select[Any],
    settings: GlobalSettings,
    hindered: Hindrance,
) -> tuple[Need, list[Row[Any]], list[Candidate]]:
    need = Need(vm.cpu_num, int(vm.memory_size / settings[MEMORY_RATIO]), vm.allocator_strategy)
    hosts = list(connection.execute(query))
    networks = [nic.l3_network_uuid for nic in nics_of(connection, vm.uuid)]
    candidates = [_candidate(connection, vm.uuid, host, networks, settings, hindered) for host in hosts]
    return need, hosts, candidates


def recount(connection: Connection, host_uuid: str, memory_ratio: float) -> None:
    """Write what VMs leave of a host's capacity; nothing happens when the host is gone."""
    vms, hosts = vm_table.c, host_table
    here = (vms.host_uuid == host_uuid) | (vms.destination_host_uuid == host_uuid)
    there = here & vms.state.in_(ON_HOST)
    taken = select(func.coalesce(func.sum(vms.cpu_num), 0), func.coalesce(func.sum(vms.memory_size), 0))
    cpus, memory = connection.execute(taken.where(there)).one()
    values = {
        "available_cpu_capacity": hosts.c.total_cpu_capacity - int(cpus),
        "available_memory_capacity": hosts.c.total_memory_capacity - int(int(memory) / memory_ratio),
    }
    connection.execute(update(hosts).where(hosts.c.uuid == host_uuid).values(**values))


def _hosts_in(vm: Row[Any], wish: Wish) -> Select[Any]:
    hosts = host_table.c
    where = hosts.zone_uuid == vm.zone_uuid
    if wish.cluster_uuid is not None:
        where &= hosts.cluster_uuid == wish.cluster_uuid
    if wish.host_uuid is not None:
        where &= hosts.uuid == wish.host_uuid
    return select(host_table).where(where).order_by(hosts.uuid)


def _locked(query: Select[Any]) -> Select[Any]:
    """Have a query, which has an order, lock its rows: allocations wait for each other, never in a circle."""
    return query.with_for_update()


def _candidate(
    connection: Connection,
    vm_uuid: str,
    host: Row[Any],
    networks: list[str],
    settings: GlobalSettings,
    hindered: Hindrance,
) -> Candidate:
    reserved_cpus, reserved_memory = _reserved(connection, host, settings)
    vms = vm_table.c
    count = select(func.count()).where((vms.host_uuid == host.uuid) & vms.state.in_(ON_HOST))
    return Candidate(
        host.uuid,
        host.name,
        (host.available_cpu_capacity or 0) - reserved_cpus,
        (host.available_memory_capacity or 0) - reserved_memory,
        connection.execute(count).scalar_one(),
        _obstacle(connection, host, networks) or hindered(connection, vm_uuid, host),
    )


def _obstacle(connection: Connection, host: Row[Any], networks: list[str]) -> str | None:
    if host.state != "Enabled":
        return f"its state is {host.state}"
    if host.status != "Connected" or host.agent_port is None:
        return f"it is {host.status}"
    refs, l3 = l2_cluster_ref_table.c, l3_network_table.c
    for network in dict.fromkeys(networks):
        attached = (
            select(refs.uuid)
            .join(l3_network_table, l3.l2_network_uuid == refs.l2_network_uuid)
            .where((l3.uuid == network) & (refs.cluster_uuid == host.cluster_uuid))
        )
        if connection.execute(attached).first() is None:
            return f"the L2 network of L3 network {network} is not attached to its cluster"
    return None


def _reserved(connection: Connection, host: Row[Any], settings: GlobalSettings) -> tuple[int, int]:
    """Return CPUs and bytes that are kept from VMs: as host, cluster, zone or the settings say."""
    found: list[str | None] = []
    for own, above in zip(_OWN_TAGS, _ABOVE_TAGS, strict=True):
        value = tag_value(connection, HOST.name, host.uuid, own)
        value = value or tag_value(connection, "Cluster", host.cluster_uuid, above)
        found.append(value or tag_value(connection, "Zone", host.zone_uuid, above))
    cpus, memory = found
    reserved = size_of(memory) if memory is not None else int(settings[RESERVED_MEMORY])
    return int(cpus or 0), reserved
