"""The USB devices of a simulated host as its VMs have them: nothing is ever unplugged there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from kvmagent.protocol_vms import VmDomain, VmSeen, VmUsbDevice
from kvmagent.stock import Stock
from kvmagent.usb_sharing.finding import giveable
from kvmagent.usb_sharing.replug import replug
from kvmagent.vms.usb_ports import Given
from simulator.vms import SimulatedVms


class SimulatedUsb:
    """Devices of the recorded machine, noted at the VM that has them."""

    def __init__(self, vms: SimulatedVms, stock: Stock) -> None:
        self._vms = vms
        self._stock = stock

    @asynccontextmanager
    async def starting(self, domain: VmDomain) -> AsyncIterator[Sequence[Given]]:
        """Give the devices that the machine has."""
        yield replug({}, domain.usb, (await self._stock.take_devices()).usb).given if domain.usb else ()

    def wanted_by(self, _uuid: str) -> list[str]:
        """Return none: a VM has all that it wants."""
        return []

    async def attach(self, uuid: str, device: VmUsbDevice) -> VmSeen | None:
        """Give a VM a device; raises HardpointError (SYS.1006) as a real host does."""
        giveable((await self._stock.take_devices()).usb, device)
        return self._vms.give(uuid, device.device_uuid)

    async def detach(self, uuid: str, device_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a device from a VM."""
        return self._vms.take(uuid, device_uuid)
