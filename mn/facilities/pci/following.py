"""A host that is back takes PCI devices from VMs that they are not of: an attach was not undone."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from kvmagent.protocol_devices import DetachVmPci
from kvmagent.protocol_vms import ListVms, VmSeen
from mn.db.schema import new_uuid
from mn.facilities.hosts.followers import when_connected
from mn.facilities.pci.attach import PATIENCE_S
from mn.facilities.pci.tables import pci_table
from mn.facilities.vms.domain_devices import plugging, put_right
from mn.facilities.vms.tables import load_vm
from mn.facilities.vms.watching import had_vms, load_endpoint
from mn.fleet.client import Endpoint
from mn.rest.services import Services


class Surplus(msgspec.Struct, frozen=True):
    """PCI devices that a running VM has and that are not its own."""

    vm_uuid: str
    device_uuids: list[str]


def load_surplus(connection: Connection, seen: list[VmSeen]) -> list[Surplus]:
    """Return what a host's VMs have too many of PCI devices, as the host shows them."""
    held = {uuid for vm in seen for uuid in vm.devices}
    query = select(pci_table.c.uuid, pci_table.c.vm_instance_uuid).where(pci_table.c.uuid.in_(held))
    owners = {row.uuid: row.vm_instance_uuid for row in connection.execute(query)}
    found = []
    for vm in seen:
        devices = sorted(uuid for uuid in vm.devices if uuid in owners and owners[uuid] != vm.uuid)
        if devices and load_vm(connection, vm.uuid) is not None:
            found.append(Surplus(vm.uuid, devices))
    return found


async def follow_connected(services: Services, host_uuid: str) -> None:
    """Take from VMs what is not theirs."""
    endpoint = await services.db.read(load_endpoint, host_uuid)
    if endpoint is None or not await services.db.read(had_vms, host_uuid):
        return
    task = new_uuid()
    reply = await services.fleet.call(endpoint, ListVms(), task)
    services.fleet.acknowledge(endpoint, task)
    seen = {vm.uuid: vm for vm in reply.vms}
    for vm_uuid in [surplus.vm_uuid for surplus in await services.db.read(load_surplus, reply.vms)]:
        async with plugging.of(vm_uuid):
            for surplus in await services.db.read(load_surplus, [seen[vm_uuid]]):
                await _take(services, endpoint, surplus)


async def _take(services: Services, endpoint: Endpoint, surplus: Surplus) -> None:
    detach = DetachVmPci(uuid=surplus.vm_uuid, device_uuids=surplus.device_uuids, patience_s=PATIENCE_S)
    extra = {"vm": surplus.vm_uuid, "devices": surplus.device_uuids}
    await put_right(services, endpoint, detach, "PCI devices taken from a VM that they are not of", extra)


when_connected(follow_connected)
