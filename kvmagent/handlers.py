"""What the agent does for each command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from agentkit.commands import InstallCertificate, Release
from agentkit.owner import Owner
from agentkit.standing import Standing, install_certificate, release
from agentkit.tasks import Handler
from agentkit.wire import Command
from kvmagent.host_iommu.keeper import IommuKeeper
from kvmagent.iscsi.handling import ISCSI_HANDLERS
from kvmagent.iscsi.keeper import Iscsi
from kvmagent.network.keeper import Networks
from kvmagent.os_update.follower import OsUpdates
from kvmagent.passthrough.handling import PCI_HANDLERS
from kvmagent.passthrough.keeper import PciKeeper
from kvmagent.protocol import (
    Connect,
    ConnectReply,
    GetIommu,
    GetOsUpdate,
    IommuReport,
    OsUpdateProgress,
    OsUpdateReply,
    SetIommu,
    TakeInventory,
    TakeInventoryReply,
    UpdateOs,
)
from kvmagent.protocol_network import (
    ApplyNetworks,
    ApplyNetworksReply,
    ConfirmNetworks,
    ConfirmNetworksReply,
)
from kvmagent.protocol_usb import AttachVmUsb, DetachVmUsb
from kvmagent.protocol_vms import (
    AbortVmMigration,
    AbortVmMigrationReply,
    AdmitVm,
    AdmitVmReply,
    AttachVmDisk,
    DetachVmDisk,
    DismissVm,
    DismissVmReply,
    GetVm,
    ListVms,
    ListVmsReply,
    MigrateVm,
    StartVm,
    StopVm,
    StopVmReply,
    VmReport,
)
from kvmagent.stock import Stock
from kvmagent.storage.handling import STORAGE_HANDLERS, Storages
from kvmagent.usb_sharing.keeper import UsbSharing
from kvmagent.vms.keeper import Vms
from kvmagent.vms.moving import Moves


@dataclass(kw_only=True)
class Context(Standing):
    """What the handlers work with."""

    stock: Stock
    iommu: IommuKeeper
    os_updates: OsUpdates
    storages: Storages
    vms: Vms
    moves: Moves
    networks: Networks
    pci: PciKeeper
    usb: UsbSharing
    iscsi: Iscsi


async def connect(context: Context, command: Connect) -> ConnectReply:
    """Take stock, then take the host: a host that cannot be read is not taken."""
    asking = Owner(command.host_uuid, command.fleet_uuid)
    async with context.owning:
        context.ownership.check(asking)
        inventory = await context.stock.take()
        await context.ownership.take(asking)
    return ConnectReply(inventory=inventory)


async def take_inventory(context: Context, _command: TakeInventory) -> TakeInventoryReply:
    """Read the machine again."""
    return TakeInventoryReply(inventory=await context.stock.take())


async def get_iommu(context: Context, _command: GetIommu) -> IommuReport:
    """Say what the IOMMU is."""
    return await context.iommu.report()


async def set_iommu(context: Context, command: SetIommu) -> IommuReport:
    """Enable or disable the IOMMU from the next boot on."""
    return await context.iommu.set(enabled=command.enabled)


async def update_os(context: Context, command: UpdateOs) -> OsUpdateReply:
    """Bring the host's packages up to date."""
    return await context.os_updates.run(command)


async def get_os_update(context: Context, command: GetOsUpdate) -> OsUpdateProgress:
    """Say how far an update is."""
    return await context.os_updates.progress(command.update_uuid)


async def start_vm(context: Context, command: StartVm) -> VmReport:
    """Start a VM."""
    domain = command.domain
    async with (
        context.storages.vm_disks.starting(domain.disks),
        context.pci.given(domain.uuid, domain.pci) as pci,
        context.usb.starting(domain) as usb,
    ):
        return VmReport(vm=await context.vms.start(msgspec.structs.replace(domain, pci=pci), usb))


async def stop_vm(context: Context, command: StopVm) -> StopVmReply:
    """End a VM."""
    async with context.pci.taken(command.uuid):
        forced = await context.vms.stop(command.uuid, command.patience_s)
    await context.storages.vm_disks.tidy()
    return StopVmReply(forced=forced)


async def get_vm(context: Context, command: GetVm) -> VmReport:
    """Read a VM."""
    return VmReport(vm=await context.vms.get(command.uuid))


async def list_vms(context: Context, _command: ListVms) -> ListVmsReply:
    """Read all VMs."""
    vms = await context.vms.list()
    for vm in vms:
        vm.devices = sorted({*vm.devices, *context.usb.wanted_by(vm.uuid)})
    return ListVmsReply(vms=vms)


async def attach_vm_disk(context: Context, command: AttachVmDisk) -> VmReport:
    """Give a VM a disk."""
    async with context.storages.vm_disks.starting([command.disk]):
        return VmReport(vm=await context.vms.attach(command.uuid, command.disk))


async def detach_vm_disk(context: Context, command: DetachVmDisk) -> VmReport:
    """Take a disk from a VM."""
    vm = await context.vms.detach(command.uuid, command.volume_uuid, command.patience_s)
    await context.storages.vm_disks.tidy()
    return VmReport(vm=vm)


async def attach_vm_usb(context: Context, command: AttachVmUsb) -> VmReport:
    """Give a VM a USB device."""
    return VmReport(vm=await context.usb.attach(command.uuid, command.device))


async def detach_vm_usb(context: Context, command: DetachVmUsb) -> VmReport:
    """Take a USB device from a VM."""
    return VmReport(vm=await context.usb.detach(command.uuid, command.device_uuid, command.patience_s))


async def admit_vm(context: Context, command: AdmitVm) -> AdmitVmReply:
    """Let a VM come."""
    await context.storages.vm_disks.admit(command.admission_uuid, command.disks)
    return await context.moves.admit(command.admission_uuid, command.token)


async def dismiss_vm(context: Context, command: DismissVm) -> DismissVmReply:
    """Let it come no longer."""
    await context.moves.dismiss(command.admission_uuid)
    await context.storages.vm_disks.dismiss(command.admission_uuid)
    return DismissVmReply()


async def migrate_vm(context: Context, command: MigrateVm) -> VmReport:
    """Move a running VM."""
    async with context.storages.vm_disks.leaving(command.disks):
        return VmReport(vm=await context.moves.send(command))


async def abort_vm_migration(context: Context, command: AbortVmMigration) -> AbortVmMigrationReply:
    """Keep a VM that is being moved."""
    await context.moves.abort(command.uuid)
    return AbortVmMigrationReply()


async def apply_networks(context: Context, command: ApplyNetworks) -> ApplyNetworksReply:
    """Have the bridges that are wanted."""
    return ApplyNetworksReply(pending=await context.networks.apply(command.change_uuid, command.bridges))


async def confirm_networks(context: Context, command: ConfirmNetworks) -> ConfirmNetworksReply:
    """Keep a change of bridges."""
    await context.networks.confirm(command.change_uuid)
    return ConfirmNetworksReply()


HANDLERS: dict[type[Command[Any]], Handler[Context]] = {
    Connect: connect,
    Release: release,
    TakeInventory: take_inventory,
    InstallCertificate: install_certificate,
    GetIommu: get_iommu,
    SetIommu: set_iommu,
    UpdateOs: update_os,
    GetOsUpdate: get_os_update,
    **STORAGE_HANDLERS,
    **PCI_HANDLERS,
    **ISCSI_HANDLERS,
    StartVm: start_vm,
    StopVm: stop_vm,
    GetVm: get_vm,
    ListVms: list_vms,
    AttachVmDisk: attach_vm_disk,
    DetachVmDisk: detach_vm_disk,
    AttachVmUsb: attach_vm_usb,
    DetachVmUsb: detach_vm_usb,
    AdmitVm: admit_vm,
    DismissVm: dismiss_vm,
    MigrateVm: migrate_vm,
    AbortVmMigration: abort_vm_migration,
    ApplyNetworks: apply_networks,
    ConfirmNetworks: confirm_networks,
}
RERUNNABLE: frozenset[type[Command[Any]]] = frozenset(HANDLERS)
"""Commands that do no harm when a restart interrupted them and they are run again."""
