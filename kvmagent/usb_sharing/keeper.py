"""VMs have the USB devices that they want, through replugging and the agent's restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from agentkit.errors import HardpointError
from agentkit.turns import Turns
from kvmagent.protocol import Inventory, UsbDevice
from kvmagent.protocol_vms import VmDomain, VmSeen, VmUsbDevice
from kvmagent.stock import Stock
from kvmagent.usb_sharing.finding import described, giveable
from kvmagent.usb_sharing.replug import replug
from kvmagent.usb_sharing.wants import Wants
from kvmagent.vms.domain_xml import attached_device
from kvmagent.vms.hostdev_xml import usb_xml
from kvmagent.vms.usb_ports import Attached, Given, attached_usb, free_place

log = logging.getLogger(__name__)

STALE_PATIENCE_S = 20.0
RETRY_FIRST_S, RETRY_MOST_S = 2.0, 60.0
REMEDY = "detach it again, or stop the VM first"


class UsbSharing(Protocol):
    """What a host can do with its USB devices for VMs."""

    def starting(self, domain: VmDomain) -> AbstractAsyncContextManager[Sequence[Given]]:
        """Give the devices that a VM starts with, while it starts."""

    def wanted_by(self, uuid: str) -> list[str]:
        """Return the uuids of the devices that a running VM has, or will get when they are plugged in."""

    async def attach(self, uuid: str, device: VmUsbDevice) -> VmSeen | None:
        """Give a running VM a device."""

    async def detach(self, uuid: str, device_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a device from a VM."""


class Guests(Protocol):
    """The running VMs: `kvmagent.vms.keeper.LibvirtVms`."""

    async def get(self, uuid: str) -> VmSeen | None:
        """Return a VM, None when it does not run here."""

    async def xml(self, uuid: str) -> str | None:
        """Return what a VM is made of now, None when it does not run here."""

    async def plug(self, uuid: str, what: str, xml: str) -> None:
        """Plug a device in."""

    async def unplug(
        self, uuid: str, what: str, look_for: Callable[[str], str | None], patience_s: float, remedy: str
    ) -> None:
        """Take the device that `look_for` finds in the VM's XML."""


class UsbKeeper:
    """Belongs to one event loop. `latest` returns the last inventory without a look at the machine."""

    def __init__(
        self,
        guests: Guests,
        stock: Stock,
        latest: Callable[[], Awaitable[Inventory | None]],
        wants: Wants,
    ) -> None:
        self._guests = guests
        self._stock = stock
        self._latest = latest
        self._wants = wants
        self._locks = Turns()
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Have `run` look at all VMs that want devices: a device or a VM has come or gone."""
        self._stirred.set()

    async def run(self) -> None:
        """Give VMs the devices back that they want, at first and whenever it is stirred; until cancelled."""
        pause_s = RETRY_FIRST_S
        while True:
            self._stirred.clear()
            done = all(await asyncio.gather(*(self._try_to_mend(uuid) for uuid in self._wants.vms())))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if done else pause_s):
                    await self._stirred.wait()
            pause_s = RETRY_FIRST_S if done else min(2 * pause_s, RETRY_MOST_S)

    @asynccontextmanager
    async def starting(self, domain: VmDomain) -> AsyncIterator[Sequence[Given]]:
        """Give the devices that are there; those that are not are plugged in when they come."""
        if not domain.usb and domain.uuid not in self._wants.vms():
            yield ()
            return
        try:
            async with self._locks.of(domain.uuid):
                runs = await self._guests.xml(domain.uuid) is not None
                await self._wants.put(domain.uuid, domain.usb)
                yield () if runs else _at_hand(domain, (await self._stock.take_devices()).usb)
        finally:
            # A VM that was not started is forgotten; one that runs already may lack a device.
            self.stir()

    def wanted_by(self, uuid: str) -> list[str]:
        """Return the uuids of the devices that a VM has, or will get when they are plugged in."""
        return [want.device_uuid for want in self._wants.of(uuid)]

    async def attach(self, uuid: str, device: VmUsbDevice) -> VmSeen | None:
        """Give a running VM a device. Raises HardpointError (SYS.1006): see `AttachVmUsb`."""
        async with self._locks.of(uuid):
            found = giveable((await self._stock.take_devices()).usb, device)
            xml = await self._guests.xml(uuid)
            if xml is None:
                details = f"VM {uuid} does not run on this host"
                raise HardpointError("SYS.1006", "Operation failed", details, remedy="start it first")
            wanted = self._wants.of(uuid)
            others = [want for want in wanted if want.device_uuid != device.device_uuid]
            await self._wants.put(uuid, [*others, device])
            try:
                has = attached_usb(xml).get(device.device_uuid)
                if has != Attached(found.bus_num, found.dev_num):
                    if has is not None:
                        await self._unplug(uuid, device.device_uuid, STALE_PATIENCE_S)
                    await self._plug(uuid, Given(device.device_uuid, found))
            except HardpointError:
                await self._wants.put(uuid, wanted)
                raise
            return await self._guests.get(uuid)

    async def detach(self, uuid: str, device_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a device from a VM; it is the VM's still when that fails. Raises HardpointError."""
        async with self._locks.of(uuid):
            wanted = self._wants.of(uuid)
            await self._wants.put(uuid, [want for want in wanted if want.device_uuid != device_uuid])
            try:
                await self._unplug(uuid, device_uuid, patience_s)
            except HardpointError:
                await self._wants.put(uuid, wanted)
                raise
            return await self._guests.get(uuid)

    async def _try_to_mend(self, uuid: str) -> bool:
        """Bring a VM in line with what it wants; False: it has to be tried again."""
        try:
            async with self._locks.of(uuid):
                return await self._mend(uuid)
        except HardpointError as error:
            log.warning("USB devices of a VM not seen to", extra={"vm": uuid, "reason": error.details})
        except Exception:
            log.exception("USB devices of a VM not seen to", extra={"vm": uuid})
        return False

    async def _mend(self, uuid: str) -> bool:
        xml = await self._guests.xml(uuid)
        if xml is None:
            await self._wants.put(uuid, ())
            return True
        inventory = await self._latest()
        if inventory is None:
            return False
        plan = replug(attached_usb(xml), self._wants.of(uuid), inventory.usb)
        for device_uuid, device in plan.kept:
            extra = {"vm": uuid, "device": device_uuid, "reason": device.boot_critical}
            log.warning("USB device not given to its VM: the host needs it now", extra=extra)
        for device_uuid in plan.stale:
            await self._unplug(uuid, device_uuid, STALE_PATIENCE_S)
            log.info("USB device has left its VM", extra={"vm": uuid, "device": device_uuid})
        for given in plan.given:
            await self._plug(uuid, given)
            extra = {"vm": uuid, "device": given.device_uuid, "at": described(given.device)}
            log.info("USB device given back to its VM", extra=extra)
        return True

    async def _plug(self, uuid: str, given: Given) -> None:
        xml = await self._guests.xml(uuid) or "<domain/>"
        place = free_place(xml, given.device)
        what = f"USB device {given.device_uuid} ({described(given.device)})"
        await self._guests.plug(uuid, what, usb_xml(given.device_uuid, given.device, *place))

    async def _unplug(self, uuid: str, device_uuid: str, patience_s: float) -> None:
        def look_for(xml: str) -> str | None:
            return attached_device(xml, device_uuid) if device_uuid in attached_usb(xml) else None

        await self._guests.unplug(uuid, f"USB device {device_uuid}", look_for, patience_s, REMEDY)


def _at_hand(domain: VmDomain, devices: Sequence[UsbDevice]) -> list[Given]:
    """Return what of a VM's devices can be given now, and say what cannot: it runs without that at first."""
    plan = replug({}, domain.usb, devices)
    for device_uuid, device in plan.kept:
        extra = {"vm": domain.uuid, "device": device_uuid, "reason": device.boot_critical}
        log.warning("VM starts without a USB device: the host needs it now", extra=extra)
    there = {given.device_uuid for given in (*plan.given, *plan.kept)}
    for want in domain.usb:
        if want.device_uuid not in there:
            extra = {"vm": domain.uuid, "device": want.device_uuid}
            log.warning("VM starts without a USB device that is not plugged in", extra=extra)
    return plan.given
