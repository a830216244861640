"""What the agent does for each command about PCI functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from agentkit.errors import HardpointError
from agentkit.tasks import Handler
from agentkit.wire import Command
from kvmagent.passthrough.keeper import PciKeeper
from kvmagent.protocol_devices import (
    AttachVmPci,
    BindPci,
    BindPciReply,
    DetachVmPci,
    PlanPci,
    PlanPciReply,
    SetVirtualFunctions,
    SetVirtualFunctionsReply,
)
from kvmagent.protocol_vms import VmReport
from kvmagent.vms.keeper import Vms

UNDO_PATIENCE_S = 30.0


class PciContext(Protocol):
    """What these handlers work with."""

    pci: PciKeeper
    vms: Vms


async def plan_pci(context: PciContext, command: PlanPci) -> PlanPciReply:
    """Say what it takes."""
    plans = await context.pci.plans(command.vm_uuid, command.addresses, without_reset=command.without_reset)
    return PlanPciReply(plans=plans)


async def attach_vm_pci(context: PciContext, command: AttachVmPci) -> VmReport:
    """Give a running VM functions, all or none."""
    uuid, vm = command.uuid, None
    async with context.pci.given(uuid, command.devices) as devices:
        before = await context.vms.get(uuid)
        had = set(before.devices) if before is not None else set()
        fresh = [device for device in devices if device.device_uuid not in had]
        for number, device in enumerate(fresh):
            try:
                vm = await context.vms.plug_pci(uuid, device)
            except HardpointError:
                for plugged in fresh[:number]:
                    await context.vms.unplug_pci(uuid, plugged.device_uuid, UNDO_PATIENCE_S)
                raise
    return VmReport(vm=vm or await context.vms.get(uuid))


async def detach_vm_pci(context: PciContext, command: DetachVmPci) -> VmReport:
    """Take functions from a VM."""
    vm = None
    async with context.pci.taken(command.uuid):
        for device_uuid in command.device_uuids:
            vm = await context.vms.unplug_pci(command.uuid, device_uuid, command.patience_s)
    return VmReport(vm=vm)


async def bind_pci(context: PciContext, command: BindPci) -> BindPciReply:
    """Have a function on vfio-pci, or not."""
    driver = await context.pci.bind(command.device, vfio=command.vfio)
    return BindPciReply(driver=driver)


async def set_virtual_functions(
    context: PciContext, command: SetVirtualFunctions
) -> SetVirtualFunctionsReply:
    """Have so many virtual functions."""
    number = await context.pci.set_virtual_functions(command.device, command.number)
    return SetVirtualFunctionsReply(number=number)


PCI_HANDLERS: Mapping[type[Command[Any]], Handler[Any]] = {
    PlanPci: plan_pci,
    AttachVmPci: attach_vm_pci,
    DetachVmPci: detach_vm_pci,
    BindPci: bind_pci,
    SetVirtualFunctions: set_virtual_functions,
}
