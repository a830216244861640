"""A VM has a PCI device that its host does not show."""

from __future__ import annotations

from sqlalchemy import Connection

from mn.facilities.issues.findings import CRITICAL, Finding, check
from mn.facilities.issues.missing import find_missing
from mn.facilities.pci.tables import pci_table


@check(
    "PCI.DEVICE_MISSING",
    "PciDevice",
    severity=CRITICAL,
    operation="DetachPciDeviceFromVm",
    remedy="plug the device in again, hand the VM the one that replaces it (RebindPciDevice), "
    "or detach it (DetachPciDeviceFromVm)",
)
def find_missing_pci(connection: Connection) -> list[Finding]:
    """Find PCI devices that VMs have and hosts have not."""
    return find_missing(connection, pci_table)
