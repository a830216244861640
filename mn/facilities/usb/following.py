"""A host that is back has its VMs have the USB devices that are theirs by now, and no others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import Connection, select

from kvmagent.protocol_usb import AttachVmUsb, DetachVmUsb
from kvmagent.protocol_vms import ListVms, VmSeen, VmUsbDevice
from mn.db.schema import new_uuid
from mn.facilities.hosts.followers import when_connected
from mn.facilities.pci.tables import pci_table
from mn.facilities.usb.attach import PATIENCE_S
from mn.facilities.usb.tables import usb_table
from mn.facilities.vms.domain_devices import load_usb, plugging, put_right
from mn.facilities.vms.tables import load_vm
from mn.facilities.vms.watching import had_vms, load_endpoint
from mn.fleet.client import Endpoint
from mn.rest.services import Services


class Amiss(msgspec.Struct, frozen=True):
    """What a running VM has too many and what it lacks of USB devices."""

    vm_uuid: str
    surplus: list[str]
    lacking: list[VmUsbDevice]


def what_is_amiss(vm_uuid: str, has: Collection[str], wanted: Sequence[VmUsbDevice]) -> Amiss | None:
    """Return how a VM's USB devices differ from what they are to be, None when they do not."""
    mine = {device.device_uuid for device in wanted}
    surplus = sorted(set(has) - mine)
    lacking = [device for device in wanted if device.device_uuid not in has]
    return Amiss(vm_uuid, surplus, lacking) if surplus or lacking else None


def load_amiss(connection: Connection, seen: list[VmSeen]) -> list[Amiss]:
    """Return which of a host's VMs, as it shows them, have other USB devices than their rows say."""
    held = {uuid for vm in seen for uuid in vm.devices}
    pci = set(connection.execute(select(pci_table.c.uuid).where(pci_table.c.uuid.in_(held))).scalars())
    found = (
        what_is_amiss(vm.uuid, set(vm.devices) - pci, load_usb(connection, vm.uuid))
        for vm in seen
        if load_vm(connection, vm.uuid) is not None
    )
    return [amiss for amiss in found if amiss is not None]


def has_usb(connection: Connection, host_uuid: str) -> bool:
    """Say whether a host may have a VM with a USB device."""
    devices = usb_table.c
    mine = select(devices.uuid).where(devices.host_uuid == host_uuid).limit(1)
    return had_vms(connection, host_uuid) and connection.execute(mine).first() is not None


async def follow_connected(services: Services, host_uuid: str) -> None:
    """Take the devices from VMs that were detached while their host was lost, give those that they lack."""
    endpoint = await services.db.read(load_endpoint, host_uuid)
    if endpoint is None or not await services.db.read(has_usb, host_uuid):
        return
    task = new_uuid()
    reply = await services.fleet.call(endpoint, ListVms(), task)
    services.fleet.acknowledge(endpoint, task)
    seen = {vm.uuid: vm for vm in reply.vms}
    for vm_uuid in [amiss.vm_uuid for amiss in await services.db.read(load_amiss, reply.vms)]:
        async with plugging.of(vm_uuid):
            for amiss in await services.db.read(load_amiss, [seen[vm_uuid]]):
                await _put_right(services, endpoint, amiss)


async def _put_right(services: Services, endpoint: Endpoint, amiss: Amiss) -> None:
    for uuid in amiss.surplus:
        detach = DetachVmUsb(uuid=amiss.vm_uuid, device_uuid=uuid, patience_s=PATIENCE_S)
        await _order(services, endpoint, detach, uuid)
    for device in amiss.lacking:
        attach = AttachVmUsb(uuid=amiss.vm_uuid, device=device)
        await _order(services, endpoint, attach, device.device_uuid)


async def _order(
    services: Services, endpoint: Endpoint, command: AttachVmUsb | DetachVmUsb, device: str
) -> None:
    what = "given to its VM" if isinstance(command, AttachVmUsb) else "taken from a VM that it is not of"
    extra = {"vm": command.uuid, "device": device}
    await put_right(services, endpoint, command, f"USB device {what}", extra)


when_connected(follow_connected)
