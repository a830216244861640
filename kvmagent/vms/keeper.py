"""The life of the VMs on a host."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from agentkit.errors import HardpointError
from agentkit.turns import Turns
from kvmagent.protocol_vms import VmDisk, VmDomain, VmPciDevice, VmSeen, VmState
from kvmagent.vms.domain_xml import (
    Machine,
    attached_device,
    attached_disk,
    dashed,
    disk_xml,
    domain_xml,
    kind_of_mode,
    seen,
)
from kvmagent.vms.hostdev_xml import pci_xml
from kvmagent.vms.library import (
    DEVICE_MISSING,
    NO_DOMAIN,
    PAUSED_STATES,
    RUNNING_STATES,
    LibvirtError,
    Session,
)
from kvmagent.vms.libvirt import Libvirt
from kvmagent.vms.usb_ports import Given, with_usb

T = TypeVar("T")

PRESS_EVERY_S = 10.0
"""A guest that is booting does not see its power button: it is pressed again."""
ASK_AGAIN_S = 10.0
"""A guest that is booting, or busy with the slot, loses the request to let go of a device: it is repeated."""
BUSY = ("guest is busy", "process of unplug")
"""What QEMU says of a slot that is being changed."""
REMEDY = "see the log of libvirt and /var/log/libvirt/qemu on the host"


class Vms(Protocol):
    """What a host can do with VMs; uuids are without dashes."""

    async def start(self, domain: VmDomain, usb: Sequence[Given] = ()) -> VmSeen:
        """Start a VM with these USB devices of the host, or find it running."""

    async def stop(self, uuid: str, patience_s: float) -> bool:
        """End a VM that may not be there; True when its power had to be taken."""

    async def get(self, uuid: str) -> VmSeen | None:
        """Return a VM, None when it does not run here."""

    async def list(self) -> list[VmSeen]:
        """Return all VMs."""

    async def attach(self, uuid: str, disk: VmDisk) -> VmSeen:
        """Give a VM a disk."""

    async def detach(self, uuid: str, volume_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a disk from a VM."""

    async def plug_pci(self, uuid: str, device: VmPciDevice) -> VmSeen:
        """Give a VM a PCI function that is bound to vfio-pci."""

    async def unplug_pci(self, uuid: str, device_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a PCI function from a VM."""


class LibvirtVms:
    """The VMs that libvirt has. `machine` is asked whenever one is started.

    Local storages are below `local_root`.
    """

    def __init__(
        self, libvirt: Libvirt, machine: Callable[[], Machine], local_root: Path = Path("/")
    ) -> None:
        self._libvirt = libvirt
        self._machine = machine
        self._local_root = local_root
        self._plugging = Turns()
        """Held of a device, or a volume, while a VM is given it or lets go of it."""

    async def start(self, domain: VmDomain, usb: Sequence[Given] = ()) -> VmSeen:
        """Start a VM, or find it running. Raises HardpointError (SYS.1006) with what libvirt says."""
        found = await self.get(domain.uuid)
        if found is not None:
            return found
        domain = msgspec.structs.replace(domain, disks=[self._placed(disk) for disk in domain.disks])
        xml = with_usb(await asyncio.to_thread(domain_xml, domain, self._machine(), _kind), usb)
        try:
            await self._libvirt.call(lambda session: session.create(xml))
        except LibvirtError as error:
            found = await self.get(domain.uuid)
            if found is None:
                raise _failed(f"VM {domain.name} ({domain.uuid}) was not started", error) from error
            return found
        started = await self.get(domain.uuid)
        if started is None:
            details = f"VM {domain.name} ({domain.uuid}) was started and has ended at once"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy=REMEDY)
        return started

    async def stop(self, uuid: str, patience_s: float) -> bool:
        """Press the power button until the VM has ended or `patience_s` is over, then take its power."""
        end = time.monotonic() + patience_s

        async def ended() -> bool:
            return await self.get(uuid) is None

        if await ended():
            return False
        while (left := end - time.monotonic()) > 0:
            await self._press(uuid)
            if await self._libvirt.until(dashed(uuid), ended, min(left, PRESS_EVERY_S)):
                return False
        try:
            await self._libvirt.call(lambda session: session.destroy(dashed(uuid)))
        except LibvirtError as error:
            if error.code == NO_DOMAIN or await ended():
                return False
            raise _failed(f"VM {uuid} was not stopped", error) from error
        return True

    async def _press(self, uuid: str) -> None:
        try:
            await self._libvirt.call(lambda session: session.press_power_button(dashed(uuid)))
        except LibvirtError as error:
            if await self.get(uuid) is not None:
                raise _failed(f"the power button of VM {uuid} was not pressed", error) from error

    async def get(self, uuid: str) -> VmSeen | None:
        """Return a VM, None when it does not run here."""
        return await self._ask(lambda session: _look(session, dashed(uuid)))

    async def list(self) -> list[VmSeen]:
        """Return all VMs of this project."""

        def look(session: Session) -> list[VmSeen]:
            return [vm for uuid in session.running() if (vm := _look(session, uuid)) is not None]

        return await self._ask(look)

    async def _ask(self, look: Callable[[Session], T]) -> T:
        try:
            return await self._libvirt.call(look)
        except LibvirtError as error:
            raise _failed("libvirt does not tell of its VMs", error) from error

    async def attach(self, uuid: str, disk: VmDisk) -> VmSeen:
        """Give a running VM a disk, after it has let go of it when it is just to.

        Raises HardpointError (SYS.1006).
        """
        async with self._plugging.of(disk.volume_uuid):
            vm = await self._running(uuid)
            if disk.volume_uuid in vm.disks:
                return vm
            xml = await asyncio.to_thread(disk_xml, self._placed(disk), _kind)
            await self.plug(uuid, f"volume {disk.volume_uuid}", xml)
            return await self._running(uuid)

    async def detach(self, uuid: str, volume_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a disk from a VM; one that is gone, or whose VM is, was taken already.

        Raises HardpointError as `unplug` does.
        """
        remedy = "unmount it inside the VM and detach it again, or stop the VM first"
        async with self._plugging.of(volume_uuid):
            await self.unplug(
                uuid, f"volume {volume_uuid}", lambda xml: attached_disk(xml, volume_uuid), patience_s, remedy
            )
            return await self.get(uuid)

    async def plug_pci(self, uuid: str, device: VmPciDevice) -> VmSeen:
        """Give a running VM a PCI function; it has it already: nothing. Raises HardpointError (SYS.1006)."""
        async with self._plugging.of(device.device_uuid):
            vm = await self._running(uuid)
            if device.device_uuid in vm.devices:
                return vm
            xml = pci_xml(device.device_uuid, device.address)
            await self.plug(uuid, f"PCI device {device.device_uuid} ({device.address})", xml)
            return await self._running(uuid)

    async def unplug_pci(self, uuid: str, device_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a PCI function from a VM, as `detach` does a disk."""
        remedy = "unload its driver inside the VM and detach it again, or stop the VM first"
        look_for = functools.partial(attached_device, device_uuid=device_uuid)
        async with self._plugging.of(device_uuid):
            await self.unplug(uuid, f"PCI device {device_uuid}", look_for, patience_s, remedy)
            return await self.get(uuid)

    async def xml(self, uuid: str) -> str | None:
        """Return what a VM is made of now, None when it does not run here."""
        return await self._ask(lambda session: _running_xml(session, dashed(uuid)))

    async def written(self, domain: str, disks: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return of a domain's disks up to where they are written, and how large it sees them."""

        def look(session: Session) -> dict[str, tuple[int, int]]:
            try:
                return {disk: session.written(domain, disk) for disk in disks}
            except LibvirtError as error:
                if error.code == NO_DOMAIN:
                    return {}
                raise

        return await self._ask(look)

    async def go_on(self, uuid: str) -> bool:
        """Have a VM go on that waits as one of its disks was full; return whether it did wait."""

        def revive(session: Session) -> bool:
            try:
                if not session.is_stopped_by_disk(dashed(uuid)):
                    return False
                session.resume(dashed(uuid))
            except LibvirtError as error:
                if error.code == NO_DOMAIN:
                    return False
                raise
            return True

        return await self._ask(revive)

    async def plug(self, uuid: str, what: str, xml: str) -> None:
        """Plug a device into a VM. Raises HardpointError (SYS.1006) with what libvirt says."""
        try:
            await self._libvirt.call(lambda session: session.attach(dashed(uuid), xml))
        except LibvirtError as error:
            raise _failed(f"{what} was not attached to VM {uuid}", error) from error

    async def unplug(
        self, uuid: str, what: str, look_for: Callable[[str], str | None], patience_s: float, remedy: str
    ) -> None:
        """Take the device from a VM that `look_for` finds in its XML, done when it is not there any more.

        Raises HardpointError: SYS.1006 with what libvirt says, SYS.1001 when the VM does not let go of it.
        """

        async def gone() -> bool:
            xml = await self.xml(uuid)
            return xml is None or look_for(xml) is None

        end = asyncio.get_running_loop().time() + patience_s
        while True:
            try:
                await self._libvirt.call(lambda session: _detach(session, dashed(uuid), look_for))
            except LibvirtError as error:
                if not any(word in str(error) for word in BUSY) and not await gone():
                    raise _failed(f"{what} was not detached from VM {uuid}", error) from error
            left = end - asyncio.get_running_loop().time()
            if await self._libvirt.until(dashed(uuid), gone, min(left, ASK_AGAIN_S)):
                return
            if left <= ASK_AGAIN_S:
                details = f"VM {uuid} has not let go of {what} within {patience_s:g} s"
                raise HardpointError("SYS.1001", "A message or a operation timeout", details, remedy=remedy)

    def _placed(self, disk: VmDisk) -> VmDisk:
        if not disk.local:
            return disk
        return msgspec.structs.replace(disk, path=str(self._local_root / disk.path.lstrip("/")))

    async def _running(self, uuid: str) -> VmSeen:
        vm = await self.get(uuid)
        if vm is None:
            details = f"VM {uuid} does not run on this host"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy="start it first")
        return vm


def host_machine(root: Path, console_address: str | None, *, emulated: bool) -> Callable[[], Machine]:
    """Return what tells what the host gives to its VMs."""
    address = console_address or "127.0.0.1"

    def machine() -> Machine:
        return Machine(not emulated and (root / "dev/kvm").exists(), address)

    return machine


def _look(session: Session, uuid: str) -> VmSeen | None:
    running = _running(session, uuid)
    return None if running is None else seen(running[1], running[0])


def _running_xml(session: Session, uuid: str) -> str | None:
    running = _running(session, uuid)
    return None if running is None else running[1]


def _running(session: Session, uuid: str) -> tuple[VmState, str] | None:
    """Return how a domain is and its XML, None when it does not run or has ended while it was asked."""
    try:
        state, xml = session.state(uuid), session.xml(uuid)
    except LibvirtError as error:
        if error.code == NO_DOMAIN:
            return None
        raise
    if state not in RUNNING_STATES | PAUSED_STATES:
        return None
    return (VmState.PAUSED if state in PAUSED_STATES else VmState.RUNNING), xml


def _detach(session: Session, uuid: str, look_for: Callable[[str], str | None]) -> None:
    try:
        device = look_for(session.xml(uuid))
        if device is not None:
            session.detach(uuid, device)
    except LibvirtError as error:
        if error.code not in (NO_DOMAIN, DEVICE_MISSING):
            raise


def _kind(path: str) -> str:
    try:
        return kind_of_mode(os.stat(path).st_mode)  # noqa: PTH116 a path for libvirt, not ours
    except OSError as error:
        details = f"the disk {path} cannot be opened: {error.strerror}"
        remedy = "see whether its primary storage is connected on the host"
        raise HardpointError("SYS.1006", "Operation failed", details, remedy=remedy) from error


def _failed(what: str, error: LibvirtError) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", f"{what}: {error}", remedy=REMEDY)
