"""What goes beyond the manual: claims that move to another device, drivers from boot on, SR-IOV."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, update

from kvmagent.protocol_devices import BindPci, SetVirtualFunctions
from kvmagent.protocol_vms import VmPciDevice
from mn.db.global_settings import WITHOUT_RESET, GlobalSettings
from mn.db.schema import now_s
from mn.facilities.common import find, inventory
from mn.facilities.hosts.tables import HOST
from mn.facilities.pci.attach import Claim, check_attach, give
from mn.facilities.pci.claims import attached, note_attached, note_free, refused, told
from mn.facilities.pci.tables import PCI_DEVICE, VFIO_DRIVER, pci_table
from mn.facilities.undoing import undoing
from mn.facilities.vms.allocation import Placed
from mn.rest.operation import Action, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref

BootDriver = Annotated[
    Literal["host", "vfio-pci"], Meta(description="who has the device while no VM does, from each boot on")
]
Number = Annotated[int, Meta(ge=0, le=65_535, description="a whole number of virtual functions")]


class OnHost(msgspec.Struct, frozen=True):
    """A device and where its host's agent listens; `before` is what was wanted of it."""

    device: VmPciDevice
    at: Placed
    before: str


class RebindPciDevice(Action, path="/pci-device/pci-devices/{uuid}/actions", reply=PCI_DEVICE):
    """Have a VM's claim on a device that is gone go to another device, as after a card was replaced."""

    uuid: Ref
    new_pci_device_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of either device at a time."""
        return tuple(f"pci/{uuid}" for uuid in sorted({self.uuid, self.new_pci_device_uuid}))

    async def run(self, job: Job) -> Reply:
        """Attach the new one, then forget the old one; a failure leaves the claim where it was."""
        services = job.services
        settings, new = services.global_settings, self.new_pci_device_uuid
        claim = await job.transact(check_rebind, self.uuid, new, settings)
        await job.transact(note_attached, claim.uuids, claim.vm_uuid, undo=note_free)
        await give(job, claim)
        await job.transact(note_free, [self.uuid])
        return await inventory(services, PCI_DEVICE, new)


class UpdatePciDeviceBootDriver(Action, path="/pci-device/pci-devices/{uuid}/actions", reply=PCI_DEVICE):
    """Have a PCI device, with all that only goes with it, on vfio-pci from each boot on, or on the host's."""

    uuid: Ref
    driver: BootDriver

    def locks(self) -> tuple[str, ...]:
        """One change of a device at a time."""
        return (f"pci/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Have its host do it, then keep it."""
        services, task = job.services, job.task_uuid()
        there = await job.transact(load_on_host, self.uuid, services.global_settings)
        await job.step(bind, services, there, self.driver, task, undo=bind_again)
        await job.transact(save_boot_driver, self.uuid, self.driver)
        services.fleet.acknowledge(there.at.endpoint, task)
        return await inventory(services, PCI_DEVICE, self.uuid)


class UpdatePciDeviceVirtualFunctions(
    Action, path="/pci-device/pci-devices/{uuid}/actions", reply=PCI_DEVICE
):
    """Have so many virtual functions of a PCI device (SR-IOV), now and from each boot on."""

    uuid: Ref
    number: Number

    def locks(self) -> tuple[str, ...]:
        """One change of a device at a time."""
        return (f"pci/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Have its host make them; they come as devices of their own."""
        services, task = job.services, job.task_uuid()
        there = await job.transact(load_on_host, self.uuid, services.global_settings)
        await job.step(make_virtual, services, there, self.number, task)
        await job.transact(save_virtual, self.uuid, self.number)
        services.fleet.acknowledge(there.at.endpoint, task)
        return await inventory(services, PCI_DEVICE, self.uuid)


def check_rebind(connection: Connection, uuid: str, new_uuid: str, settings: GlobalSettings) -> Claim:
    """Return the claim on the new device. Raises HardpointError (SYS.1003, SYS.1006)."""
    old = attached(connection, uuid, None)
    if old.address is not None:
        details = f"PCI device {old.name} ({uuid}) is on its host at {old.address}"
        raise refused(details, "detach it from its VM, then attach the other one")
    return check_attach(connection, new_uuid, old.vm_instance_uuid, settings, whole_group=False)


def load_on_host(connection: Connection, uuid: str, settings: GlobalSettings) -> OnHost:
    """Return a free device of a connected host. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = find(connection, PCI_DEVICE, uuid)
    host = find(connection, HOST, row.host_uuid)
    named = f"PCI device {row.name} ({uuid})"
    if host.status != "Connected" or host.agent_port is None:
        details = f"{named} is on host {host.name} ({host.uuid}), which is {host.status}"
        raise refused(details, "connect the host first (ReconnectHost)")
    if row.vm_instance_uuid is not None:
        raise refused(f"{named} is attached to VM {row.vm_instance_uuid}", "detach it first")
    if row.address is None:
        raise refused(f"{named} is not on its host now", "plug it in again")
    at = Placed(host.uuid, host.agent_address, host.agent_port)
    return OnHost(told(row, without_reset=settings[WITHOUT_RESET] == 1), at, row.boot_driver)


async def bind(services: Services, there: OnHost, driver: str, task_uuid: str) -> None:
    """Have a host give a device another driver from now on."""
    command = BindPci(device=there.device, vfio=driver == VFIO_DRIVER)
    await services.fleet.call(there.at.endpoint, command, task_uuid)


async def bind_again(services: Services, there: OnHost, _driver: str, task_uuid: str) -> None:
    """Undo `bind`."""
    with undoing(services, there.at.endpoint, task_uuid) as task:
        await bind(services, there, there.before, task)


def save_boot_driver(connection: Connection, uuid: str, driver: str) -> None:
    """Keep who has a device while no VM does."""
    values = {"boot_driver": driver, "last_op_date": now_s()}
    connection.execute(update(pci_table).where(pci_table.c.uuid == uuid).values(**values))


async def make_virtual(services: Services, there: OnHost, number: int, task_uuid: str) -> None:
    """Have a host make virtual functions, or remove them."""
    command = SetVirtualFunctions(device=there.device, number=number)
    await services.fleet.call(there.at.endpoint, command, task_uuid)


def save_virtual(connection: Connection, uuid: str, number: int) -> None:
    """Write how many virtual functions a device has; its host's event says the same."""
    values = {"virtual_functions": number, "last_op_date": now_s()}
    connection.execute(update(pci_table).where(pci_table.c.uuid == uuid).values(**values))
