"""A VM has a USB device that its host does not show."""

from __future__ import annotations

from sqlalchemy import Connection

from mn.facilities.issues.findings import WARNING, Finding, check
from mn.facilities.issues.missing import find_missing
from mn.facilities.usb.tables import usb_table


@check(
    "USB.DEVICE_MISSING",
    "UsbDevice",
    severity=WARNING,
    operation="DetachUsbDeviceFromVm",
    remedy="plug the device in again, into any port of the same host, or detach it (DetachUsbDeviceFromVm)",
)
def find_missing_usb(connection: Connection) -> list[Finding]:
    """Find USB devices that VMs have and hosts have not."""
    return find_missing(connection, usb_table)
