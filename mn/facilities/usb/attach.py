"""USB devices are given to VMs and taken from them (manual 4.3.13.1, 4.3.13.2)."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, update

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_usb import AttachVmUsb, DetachVmUsb
from mn.db.schema import now_s
from mn.facilities.common import find, inventory
from mn.facilities.hosts.tables import load_host
from mn.facilities.undoing import undoing
from mn.facilities.usb.candidates import AttachType, load_device, load_taker, reasons_against
from mn.facilities.usb.tables import USB_DEVICE, usb_table
from mn.facilities.vms.allocation import Placed
from mn.facilities.vms.domain_devices import load_usb, plugging
from mn.facilities.vms.life import placed
from mn.facilities.vms.tables import UNDER_WAY, State, load_vm, vm_in
from mn.rest.operation import Post, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref

PATIENCE_S = 30.0
SETTLED = tuple(state for state in State if state not in UNDER_WAY)


class Plugged(msgspec.Struct, frozen=True):
    """Where a VM runs whose host has to act; None: its row is all there is."""

    at: Placed | None


class AttachUsbDeviceToVm(Post, path="/usb-device/usb-devices/{usbDeviceUuid}/attach", reply=USB_DEVICE):
    """Give a VM a USB device of its host (manual 4.3.13.1): at once when it runs, else at its next start.

    A VM that does not run starts on the device's host only.
    """

    usb_device_uuid: Ref
    vm_instance_uuid: Ref
    attach_type: AttachType = "PassThrough"

    def locks(self) -> tuple[str, ...]:
        """One change of a VM, and of a device, at a time."""
        return (f"vm/{self.vm_instance_uuid}", usb_lock(self.usb_device_uuid))

    async def run(self, job: Job) -> Reply:
        """Write it, plug it in; a failure takes both back."""
        services, device, vm = job.services, self.usb_device_uuid, self.vm_instance_uuid
        plugged = await job.transact(claim, device, vm, undo=unclaim)
        job.at(30)
        if plugged.at is not None:
            task = job.task_uuid()
            await job.step(plug, services, device, vm, plugged.at, task, undo=unplug_again)
            services.fleet.acknowledge(plugged.at.endpoint, task)
        return await inventory(services, USB_DEVICE, device)


class DetachUsbDeviceFromVm(Post, path="/usb-device/usb-devices/{usbDeviceUuid}/detach", reply=USB_DEVICE):
    """Take a USB device from its VM (manual 4.3.13.2), also from one that is stopped or whose host is lost.

    A host that comes back takes the device from the VM then.
    """

    usb_device_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a device at a time."""
        return (usb_lock(self.usb_device_uuid),)

    async def run(self, job: Job) -> Reply:
        """Free the row, so that no start brings it back, then unplug it; a failure gives it back."""
        services, device, task = job.services, self.usb_device_uuid, job.task_uuid()
        vm = await job.transact(load_owner, device)
        await job.when_undone(plug_again, services, device, vm, task)
        plugged = await job.transact(release, device, vm, undo=claim_again)
        job.at(30)
        if plugged.at is not None:
            await job.step(unplug, services, device, vm, plugged.at, task)
            services.fleet.acknowledge(plugged.at.endpoint, task)
        return await inventory(services, USB_DEVICE, device)


def usb_lock(uuid: str) -> str:
    """Return the lock of a USB device."""
    return f"usb-device/{uuid}"


def claim(connection: Connection, uuid: str, vm_uuid: str) -> Plugged:
    """Write that a VM has a device.

    Raises HardpointError: SYS.1003, SYS.1006 for a VM in another state, or with all reasons against it.
    """
    find(connection, USB_DEVICE, uuid)
    taker, device = load_taker(connection, vm_uuid), load_device(connection, uuid)
    if device is None:
        raise HardpointError("SYS.1003", "Resource not found", f"the host of USB device {uuid} is gone")
    reasons = reasons_against(taker, device)
    if reasons:
        details = f"VM {vm_uuid} cannot have USB device {device.name} ({uuid}): {'; '.join(reasons)}"
        raise _refused(
            details, f"choose one of GET /vm-instances/{vm_uuid}/candidate-usb-devices?explain=true"
        )
    _write_owner(connection, uuid, vm_uuid)
    vm = vm_in(connection, vm_uuid, *SETTLED)
    return Plugged(placed(connection, vm) if vm.host_uuid is not None else None)


def unclaim(connection: Connection, uuid: str, _vm_uuid: str) -> None:
    """Write that a device is no VM's after all."""
    _write_owner(connection, uuid, None)


def load_owner(connection: Connection, uuid: str) -> str:
    """Return the VM that has a device. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = find(connection, USB_DEVICE, uuid)
    if row.vm_instance_uuid is None:
        raise _refused(f"USB device {row.name} ({uuid}) is attached to no VM", "see its vmInstanceUuid")
    return str(row.vm_instance_uuid)


def release(connection: Connection, uuid: str, vm_uuid: str) -> Plugged:
    """Write that a device is no VM's any more; its VM runs where its host has to take it from it.

    Raises HardpointError (SYS.1006) while a job is at the VM, or when the device went to another one.
    """
    if load_owner(connection, uuid) != vm_uuid:
        raise _refused(
            f"USB device {uuid} is not attached to VM {vm_uuid} any more", "see its vmInstanceUuid"
        )
    _write_owner(connection, uuid, None)
    if load_vm(connection, vm_uuid) is None:
        return Plugged(None)
    return Plugged(_reachable(connection, vm_in(connection, vm_uuid, *SETTLED)))


def claim_again(connection: Connection, uuid: str, vm_uuid: str) -> None:
    """Write that a VM has kept its device."""
    if load_vm(connection, vm_uuid) is not None:
        _write_owner(connection, uuid, vm_uuid)


def _reachable(connection: Connection, vm: Row[Any]) -> Placed | None:
    """Return where a VM runs, None when it does not or when its host is lost."""
    host = load_host(connection, vm.host_uuid) if vm.host_uuid is not None else None
    if host is None or host.status != "Connected" or host.agent_port is None:
        return None
    return Placed(host.uuid, host.agent_address, host.agent_port)


def _write_owner(connection: Connection, uuid: str, vm_uuid: str | None) -> None:
    values = {"vm_instance_uuid": vm_uuid, "last_op_date": now_s()}
    connection.execute(update(usb_table).where(usb_table.c.uuid == uuid).values(**values))


async def plug(services: Services, uuid: str, vm_uuid: str, at: Placed, task_uuid: str) -> None:
    """Have a VM's host plug a device in. Raises HardpointError (SYS.1006) with what the host says."""
    async with plugging.of(vm_uuid):
        devices = await services.db.read(load_usb, vm_uuid)
        device = next((device for device in devices if device.device_uuid == uuid), None)
        if device is None:
            raise _refused(f"USB device {uuid} is not VM {vm_uuid}'s any more", "attach it again")
        await services.fleet.call(at.endpoint, AttachVmUsb(uuid=vm_uuid, device=device), task_uuid)


async def unplug(services: Services, uuid: str, vm_uuid: str, at: Placed, task_uuid: str) -> None:
    """Have a VM's host take a device from it."""
    command = DetachVmUsb(uuid=vm_uuid, device_uuid=uuid, patience_s=PATIENCE_S)
    async with plugging.of(vm_uuid):
        await services.fleet.call(at.endpoint, command, task_uuid)


async def unplug_again(services: Services, uuid: str, vm_uuid: str, at: Placed, task_uuid: str) -> None:
    """Have a VM not have a device after all."""
    with undoing(services, at.endpoint, task_uuid) as task:
        await unplug(services, uuid, vm_uuid, at, task)


async def plug_again(services: Services, uuid: str, vm_uuid: str, task_uuid: str) -> None:
    """Have a running VM have its device, whose row is its own again."""
    at = await services.db.read(load_keeper, uuid, vm_uuid)
    if at is not None:
        with undoing(services, at.endpoint, task_uuid) as task:
            await plug(services, uuid, vm_uuid, at, task)


def load_keeper(connection: Connection, uuid: str, vm_uuid: str) -> Placed | None:
    """Return where a VM runs that has a device; None when it has it not, or nothing can be done there."""
    vm = load_vm(connection, vm_uuid)
    if vm is None or vm.state not in (State.RUNNING, State.PAUSED):
        return None
    if uuid not in {device.device_uuid for device in load_usb(connection, vm_uuid)}:
        return None
    return _reachable(connection, vm)


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
