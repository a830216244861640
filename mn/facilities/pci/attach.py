"""VMs get PCI devices and lose them, at once when they run (manual 4.3.11.6, 4.3.11.7)."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_devices import AttachVmPci, DetachVmPci, PlanPci
from kvmagent.protocol_vms import VmPciDevice
from mn.db.global_settings import WHOLE_GROUP, WITHOUT_RESET, GlobalSettings
from mn.facilities.common import find, inventory
from mn.facilities.hosts.tables import HOST
from mn.facilities.pci.claims import (
    attached,
    check_free,
    group_of,
    note_attached,
    note_free,
    pci_of,
    refused,
    told,
)
from mn.facilities.pci.tables import PCI_DEVICE
from mn.facilities.undoing import undoing
from mn.facilities.vms.allocation import Placed
from mn.facilities.vms.domain_devices import plugging
from mn.facilities.vms.domain_disks import hindered_by_disks
from mn.facilities.vms.life import placed
from mn.facilities.vms.tables import State, vm_in
from mn.rest.operation import Post, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref

PATIENCE_S = 60.0
TIMEOUT_S = 900.0


class Claim(msgspec.Struct, frozen=True):
    """Devices that a VM gets, or loses; `at` is their host, `running` that the VM runs there now."""

    vm_uuid: str
    devices: list[VmPciDevice]
    at: Placed
    running: bool

    @property
    def uuids(self) -> list[str]:
        """The devices' uuids."""
        return [device.device_uuid for device in self.devices]


class AttachPciDeviceToVm(
    Post,
    path="/pci-device/pci-devices/{pciDeviceUuid}/attach",
    reply=PCI_DEVICE,
    timeout_s=TIMEOUT_S,
):
    """Give a VM a PCI device, at once when it runs (manual 4.3.11.6).

    `wholeGroup` gives it all devices of the IOMMU group, which only go together.
    """

    pci_device_uuid: Ref
    vm_instance_uuid: Ref
    whole_group: bool | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a VM, and of a device, at a time."""
        return (f"vm/{self.vm_instance_uuid}", f"pci/{self.pci_device_uuid}")

    async def run(self, job: Job) -> Reply:
        """Reserve it, have its host plan or plug it; a failure gives everything back."""
        services = job.services
        whole = services.global_settings[WHOLE_GROUP] == 1 if self.whole_group is None else self.whole_group
        claim = await job.transact(
            check_attach, self.pci_device_uuid, self.vm_instance_uuid, services.global_settings, whole
        )
        await job.transact(note_attached, claim.uuids, claim.vm_uuid, undo=note_free)
        await give(job, claim)
        return await inventory(services, PCI_DEVICE, self.pci_device_uuid)


class DetachPciDeviceFromVm(
    Post,
    path="/pci-device/pci-devices/{pciDeviceUuid}/detach",
    reply=PCI_DEVICE,
    timeout_s=TIMEOUT_S,
):
    """Take a PCI device from its VM, with what only goes with it; its host's driver has it again
    (manual 4.3.11.7).
    """

    pci_device_uuid: Ref
    vm_instance_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a VM, and of a device, at a time."""
        return (f"vm/{self.vm_instance_uuid}", f"pci/{self.pci_device_uuid}")

    async def run(self, job: Job) -> Reply:
        """Unplug it, then write that it is free."""
        services = job.services
        claim = await job.transact(
            check_detach, self.pci_device_uuid, self.vm_instance_uuid, services.global_settings
        )
        if claim.running:
            task = job.task_uuid()
            await job.step(unplug, services, claim, task, undo=plug_again)
            services.fleet.acknowledge(claim.at.endpoint, task)
        await job.transact(note_free, claim.uuids)
        return await inventory(services, PCI_DEVICE, self.pci_device_uuid)


async def give(job: Job, claim: Claim) -> None:
    """Have a host plug reserved devices in, or say that it could. Raises HardpointError (SYS.1006)."""
    services = job.services
    task = job.task_uuid()
    if claim.running:
        await job.step(plug, services, claim, task, undo=unplug_again)
    else:
        await job.step(check_plan, services, claim, task)
    services.fleet.acknowledge(claim.at.endpoint, task)


def check_attach(
    connection: Connection, uuid: str, vm_uuid: str, settings: GlobalSettings, whole_group: bool
) -> Claim:
    """Return what a VM gets with a device: it runs on the device's host, or is stopped.

    Raises HardpointError: SYS.1003, SYS.1006 with the reason.
    """
    device = find(connection, PCI_DEVICE, uuid)
    vm = vm_in(connection, vm_uuid, State.RUNNING, State.STOPPED, State.CREATED)
    host = find(connection, HOST, device.host_uuid)
    check_place(connection, vm, device, host)
    together = group_of(connection, device) if whole_group else [device]
    for member in together:
        if member.vm_instance_uuid != vm_uuid or member.uuid == uuid:
            check_free(connection, member)
    mine = [member for member in together if member.vm_instance_uuid is None]
    return _claim(vm, mine, _at(host), settings)


def check_place(connection: Connection, vm: Row[Any], device: Row[Any], host: Row[Any]) -> None:
    """Raise HardpointError (SYS.1006) unless a VM can be where a device is."""
    named, whose = f"PCI device {device.name} ({device.uuid})", f"VM {vm.name} ({vm.uuid})"
    if host.status != "Connected" or host.agent_port is None:
        details = f"{named} is on host {host.name} ({host.uuid}), which is {host.status}"
        raise refused(details, "connect the host first (ReconnectHost)")
    if vm.host_uuid is not None and vm.host_uuid != host.uuid:
        details = f"{named} is on host {host.uuid}, {whose} runs on {vm.host_uuid}"
        raise refused(details, "stop the VM or move it there first, or choose a device of its host")
    if vm.host_uuid is None:
        if vm.cluster_uuid not in (None, host.cluster_uuid):
            details = f"{named} is in cluster {host.cluster_uuid}, {whose} in {vm.cluster_uuid}"
            raise refused(details, "choose a device of the VM's cluster")
        reason = hindered_by_disks(connection, vm.uuid, host)
        if reason is not None:
            raise refused(f"{whose} cannot start where {named} is: {reason}", "choose another device")
    for other in pci_of(connection, vm.uuid):
        if other.host_uuid != host.uuid:
            details = f"{whose} has PCI device {other.name} ({other.uuid}) of host {other.host_uuid}"
            raise refused(f"{details}, {named} is on {host.uuid}", "detach that one first")


def check_detach(connection: Connection, uuid: str, vm_uuid: str | None, settings: GlobalSettings) -> Claim:
    """Return what goes when a device is taken from its VM. Raises HardpointError (SYS.1003, SYS.1006)."""
    device = attached(connection, uuid, vm_uuid)
    states = (State.RUNNING, State.PAUSED, State.STOPPED, State.CREATED, State.DESTROYED)
    vm = vm_in(connection, device.vm_instance_uuid, *states)
    at = placed(connection, vm) if vm.host_uuid is not None else _at(find(connection, HOST, device.host_uuid))
    return _claim(vm, going_with(connection, device), at, settings)


def going_with(connection: Connection, device: Row[Any]) -> list[Row[Any]]:
    """Return what its VM has of a device's IOMMU group: it came together and goes together."""
    group = group_of(connection, device)
    return [row for row in group if row.vm_instance_uuid == device.vm_instance_uuid]


def _claim(vm: Row[Any], devices: list[Row[Any]], at: Placed, settings: GlobalSettings) -> Claim:
    bold = settings[WITHOUT_RESET] == 1
    return Claim(vm.uuid, [told(row, without_reset=bold) for row in devices], at, vm.host_uuid is not None)


def _at(host: Row[Any]) -> Placed:
    return Placed(host.uuid, host.agent_address or "", host.agent_port or 0)


async def plug(services: Services, claim: Claim, task_uuid: str) -> None:
    """Have a host give devices to a running VM."""
    command = AttachVmPci(uuid=claim.vm_uuid, devices=claim.devices)
    async with plugging.of(claim.vm_uuid):
        await services.fleet.call(claim.at.endpoint, command, task_uuid)


async def unplug(services: Services, claim: Claim, task_uuid: str) -> None:
    """Have a host take devices from a running VM."""
    command = DetachVmPci(uuid=claim.vm_uuid, device_uuids=claim.uuids, patience_s=PATIENCE_S)
    async with plugging.of(claim.vm_uuid):
        await services.fleet.call(claim.at.endpoint, command, task_uuid)


async def unplug_again(services: Services, claim: Claim, task_uuid: str) -> None:
    """Undo `plug`."""
    with undoing(services, claim.at.endpoint, task_uuid) as task:
        await unplug(services, claim, task)


async def plug_again(services: Services, claim: Claim, task_uuid: str) -> None:
    """Undo `unplug`."""
    with undoing(services, claim.at.endpoint, task_uuid) as task:
        await plug(services, claim, task)


async def check_plan(services: Services, claim: Claim, task_uuid: str) -> None:
    """Have a host say that a VM could get devices at its next start. Raises HardpointError (SYS.1006)."""
    command = PlanPci(
        vm_uuid=claim.vm_uuid,
        addresses=[device.address for device in claim.devices],
        without_reset=any(device.without_reset for device in claim.devices),
    )
    reply = await services.fleet.call(claim.at.endpoint, command, task_uuid)
    for planned in reply.plans:
        if planned.reasons:
            raise HardpointError(
                "SYS.1006",
                "Operation failed",
                f"VM {claim.vm_uuid} was not given {planned.address}: "
                + "; ".join(reason.text for reason in planned.reasons),
                remedy="; ".join(dict.fromkeys(reason.remedy for reason in planned.reasons)),
                blame=Blame.CALLER,
            )
