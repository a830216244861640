"""Which VM has which PCI device: rows, and what they say of where a VM can be."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol import Evidence
from kvmagent.protocol_vms import VmPciDevice
from mn.db.schema import now_s
from mn.facilities.common import find
from mn.facilities.devices import address_table
from mn.facilities.pci.tables import PCI_DEVICE, pci_table

ATTACHED = "Attached"
_FREE = ("System", "Active")
_BRIDGE = "06"


def pci_of(connection: Connection, vm_uuid: str) -> list[Row[Any]]:
    """Return the rows of a VM's PCI devices, in one order."""
    mine = pci_table.c.vm_instance_uuid == vm_uuid
    return list(connection.execute(select(pci_table).where(mine).order_by(pci_table.c.uuid)))


def load_pci(connection: Connection, vm_uuid: str, *, without_reset: bool) -> list[VmPciDevice]:
    """Return a VM's PCI devices as its host is told of them."""
    return [told(row, without_reset=without_reset) for row in pci_of(connection, vm_uuid)]


def told(row: Row[Any], *, without_reset: bool) -> VmPciDevice:
    """Return a device as its host is told of it."""
    return VmPciDevice(
        device_uuid=row.uuid,
        address=row.address or "",
        identity=[Evidence(kind=kind, value=value) for kind, value in row.identity],
        without_reset=without_reset,
    )


def lost_pci(connection: Connection, vm_uuid: str) -> str | None:
    """Say which of a VM's PCI devices is gone from its host, None when none is."""
    lost = (device for device in pci_of(connection, vm_uuid) if device.address is None)
    return next((f"the VM's {missing(connection, device)}" for device in lost), None)


def missing(connection: Connection, device: Row[Any]) -> str:
    """Say of a device that it is gone, where it was, and what is there now."""
    history = address_table.c
    last = select(history.address).where(history.device_uuid == device.uuid).order_by(history.id.desc())
    address = connection.execute(last.limit(1)).scalar()
    text = f"PCI device {device.name} ({device.uuid}) is gone from the host"
    if address is None:
        return text
    here = (pci_table.c.host_uuid == device.host_uuid) & (pci_table.c.address == address)
    other = connection.execute(select(pci_table).where(here)).first()
    if other is None:
        return f"{text}, it was at {address}; plug it in again, or detach it"
    remedy = f"if that is to replace it, RebindPciDevice with newPciDeviceUuid {other.uuid}"
    return f"{text}, at {address}, where it was, is {other.name} ({other.uuid}); {remedy}"


def group_of(connection: Connection, device: Row[Any]) -> list[Row[Any]]:
    """Return a device and what shares its IOMMU group, without bridges."""
    if device.iommu_group is None:
        return [device]
    table = pci_table.c
    same = (table.host_uuid == device.host_uuid) & (table.iommu_group == device.iommu_group)
    here = same & table.address.is_not(None) & ~table.class_code.startswith(_BRIDGE)
    rows = list(connection.execute(select(pci_table).where(here).order_by(table.address)))
    return rows if any(row.uuid == device.uuid for row in rows) else [device, *rows]


def check_free(connection: Connection, device: Row[Any]) -> None:
    """Raise HardpointError (SYS.1006) unless a device may be given to a VM."""
    named = f"PCI device {device.name} ({device.uuid})"
    if device.vm_instance_uuid is not None:
        raise refused(f"{named} is attached to VM {device.vm_instance_uuid}", "detach it first")
    if device.address is None:
        raise refused(missing(connection, device), "plug it in again, or choose another device")
    if device.state != "Enabled":
        raise refused(f"{named} is {device.state}", "enable it first (UpdatePciDevice)")
    if device.status not in _FREE:
        raise refused(f"{named} is {device.status}, not {' or '.join(_FREE)}", "choose another device")
    if device.boot_critical is not None:
        details = f"the host lives on {named} at {device.address}: {device.boot_critical}"
        raise refused(details, "move that elsewhere first, or choose another device")


def attached(connection: Connection, uuid: str, vm_uuid: str | None) -> Row[Any]:
    """Return the row of a device that a VM has. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = find(connection, PCI_DEVICE, uuid)
    named = f"PCI device {row.name} ({uuid})"
    if row.vm_instance_uuid is None:
        raise refused(f"{named} is attached to no VM", "see its vmInstanceUuid")
    if vm_uuid not in (None, row.vm_instance_uuid):
        details = f"{named} is attached to VM {row.vm_instance_uuid}, not {vm_uuid}"
        raise refused(details, "name that VM")
    return row


def note_attached(connection: Connection, uuids: list[str], vm_uuid: str) -> None:
    """Write that a VM has devices. Raises HardpointError (SYS.1006) when another has come first."""
    values = {"vm_instance_uuid": vm_uuid, "status": ATTACHED, "last_op_date": now_s()}
    free = pci_table.c.uuid.in_(uuids) & pci_table.c.vm_instance_uuid.is_(None)
    if connection.execute(update(pci_table).where(free).values(**values)).rowcount != len(uuids):
        raise refused(f"of PCI devices {', '.join(uuids)} another VM has got one", "choose others")


def note_free(connection: Connection, uuids: list[str], *_: object) -> None:
    """Write that no VM has devices."""
    rows = connection.execute(select(pci_table).where(pci_table.c.uuid.in_(uuids))).all()
    for row in rows:
        values = {"vm_instance_uuid": None, "status": _status(row), "last_op_date": now_s()}
        connection.execute(update(pci_table).where(pci_table.c.uuid == row.uuid).values(**values))


def free_pci(connection: Connection, vm_uuid: str) -> None:
    """Write that a VM has no PCI devices any more."""
    note_free(connection, [row.uuid for row in pci_of(connection, vm_uuid)])


def _status(row: Row[Any]) -> str:
    if row.address is None:
        return "Inactive"
    return "Active" if row.iommu_group and not row.boot_critical else "System"


def refused(details: str, remedy: str) -> HardpointError:
    """Return the error of what cannot be done with a device as it is."""
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
