"""What is to be done for a VM to have the USB devices that it wants, as far as they are there; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvmagent.protocol import UsbDevice
from kvmagent.protocol_vms import VmUsbDevice
from kvmagent.usb_sharing.finding import find_usb
from kvmagent.vms.usb_ports import Attached, Given


@dataclass(frozen=True)
class Replug:
    """Devices to take from a VM because they are gone from where it got them, then those to give to it.

    `kept` are what it wants and the host cannot lose.
    """

    stale: list[str]
    given: list[Given]
    kept: list[Given]


def replug(
    attached: Mapping[str, Attached], wants: Sequence[VmUsbDevice], devices: Sequence[UsbDevice]
) -> Replug:
    """Return what is to be done; a device is given once, however many of the wanted it could be."""
    plan, taken = Replug([], [], []), set[Attached]()
    for want in wants:
        found, has = find_usb(devices, want.identity), attached.get(want.device_uuid)
        at = Attached(found.bus_num, found.dev_num) if found is not None else None
        if has is not None and has == at:
            taken.add(has)
            continue
        if has is not None:
            plan.stale.append(want.device_uuid)
        if found is None or at is None or at in taken:
            continue
        taken.add(at)
        (plan.given if found.boot_critical is None else plan.kept).append(Given(want.device_uuid, found))
    return plan
