"""Devices that are plugged into a guest which is a host, and when the API shows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.helpers import wait_until
from tests.lab.guest import Guest
from tests.node import Rest

PCI = "/pci-device/pci-devices"
USB = "/usb-device/usb-devices"
SEEN_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Seconds:
    """From QMP to the API: after the device was plugged, and after the guest had let it go."""

    came: float
    went: float


def usb_serials(admin: Rest, host_uuid: str) -> list[str]:
    """Return the serial numbers of a host's USB devices."""
    return [device.get("iSerial", "") for device in admin.query(USB, f"hostUuid={host_uuid}")]


def pci_addresses(admin: Rest, host_uuid: str) -> list[str]:
    """Return the addresses of a host's PCI functions; what is gone has none."""
    return [device.get("pciDeviceAddress", "") for device in admin.query(PCI, f"hostUuid={host_uuid}")]


def usb_disk_comes_and_goes(guest: Guest, admin: Rest, host_uuid: str) -> Seconds:
    """Plug a USB disk and unplug it; returns when the API has shown both."""
    guest.add_disk("hot")

    def plug() -> None:
        guest.plug("usb-storage", "hotusb", bus="xhci.0", port="5", drive="hot", serial="HOTUSB1")

    try:
        return _comes_and_goes(guest, "hotusb", plug, lambda: "HOTUSB1" in usb_serials(admin, host_uuid))
    finally:
        guest.remove_disk("hot")


def pci_card_comes_and_goes(guest: Guest, admin: Rest, host_uuid: str) -> Seconds:
    """Plug a network card and unplug it; returns when the API has shown both."""

    def plug() -> None:
        guest.plug("e1000e", "hotnic", bus="rp7", mac="52:54:00:99:0e:07")

    def is_there() -> bool:
        return any("07:00.0" in address for address in pci_addresses(admin, host_uuid))

    return _comes_and_goes(guest, "hotnic", plug, is_there)


def _comes_and_goes(
    guest: Guest, identity: str, plug: Callable[[], None], is_there: Callable[[], bool]
) -> Seconds:
    plug()
    came = _seconds_until(is_there, f"{identity} is in the API")
    guest.unplug(identity)
    return Seconds(came, _seconds_until(lambda: not is_there(), f"{identity} is out of the API"))


def _seconds_until(condition: Callable[[], bool], what: str) -> float:
    begin = time.monotonic()
    wait_until(condition, what, SEEN_TIMEOUT_S)
    return time.monotonic() - begin
