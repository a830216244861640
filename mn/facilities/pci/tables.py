"""PCI devices (manual 4.3.11): what the hosts show, kept by identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Column, Connection, ForeignKey, Integer, String, Table, select, update

from kvmagent.protocol import PciFunction
from mn.db.schema import (
    DESCRIPTION_LENGTH,
    NAME_LENGTH,
    Document,
    date_columns,
    identity_columns,
    metadata,
    now_s,
    private,
    uuid_column,
)
from mn.facilities.cascade import part_of
from mn.facilities.devices import DeviceTable, Observation, Seen, identity_of, sync
from mn.facilities.hosts.tables import HOST
from mn.query.resource import Relation, Resource
from mn.rest.operation import Query

HOST_DRIVER, VFIO_DRIVER = "host", "vfio-pci"

pci_table = Table(
    "pci_device",
    metadata,
    *identity_columns("device"),
    Column(
        "name", String(NAME_LENGTH), nullable=False, index=True, comment="name, at first vendor and product"
    ),
    Column(
        "description", String(DESCRIPTION_LENGTH), comment="description, at first class, vendor and product"
    ),
    uuid_column(
        "host_uuid", ForeignKey("host.uuid", ondelete="CASCADE"), nullable=False, index=True, comment="host"
    ),
    uuid_column("vm_instance_uuid", index=True, comment="UUID of the VM it is attached to"),
    Column("vendor_id", String(4), nullable=False, index=True, comment="PCI vendor id, 4 hex digits"),
    Column("device_id", String(4), nullable=False, index=True, comment="PCI device id, 4 hex digits"),
    Column("subvendor_id", String(4), index=True, nullable=False, comment="subsystem vendor id"),
    Column("subdevice_id", String(4), index=True, nullable=False, comment="subsystem id"),
    Column("pci_device_address", String(32), index=True, comment="where it is now, 0000:3b:00.0"),
    Column("type", String(32), nullable=False, index=True, comment="PciDeviceType"),
    Column("state", String(16), nullable=False, index=True, comment="Enabled or Disabled"),
    Column("status", String(16), nullable=False, index=True, comment="System, Active, Attached or Inactive"),
    Column("meta_data", Document, comment="what the administrator wants known of it"),
    Column("matched_pci_device_offering_ref", Document, comment="offerings that it matches"),
    Column("class_code", String(6), index=True, comment="PCI class, subclass and interface, 6 hex digits"),
    Column("driver", String(64), index=True, comment="the driver on the host that has it"),
    Column("iommu_group", String(128), index=True, comment="its IOMMU group on the host"),
    Column("numa_node", Integer, comment="the NUMA node that it is near to"),
    Column(
        "boot_critical",
        String(255),
        comment="what the host would lose with it; such a device is not given away",
    ),
    Column(
        "physical_function",
        String(32),
        index=True,
        comment="address of the function that it is a virtual one of",
    ),
    Column("virtual_functions", Integer, index=True, comment="virtual functions that it has"),
    Column("max_virtual_functions", Integer, index=True, comment="virtual functions that it can have"),
    Column(
        "boot_driver",
        String(16),
        index=True,
        nullable=False,
        default=HOST_DRIVER,
        comment="who has it while no VM does: host or vfio-pci",
    ),
    private("address", String(32)),
    private("identity", Document, nullable=False),
    *date_columns(),
)

PCI_DEVICE = Resource("PciDevice", pci_table, {"host": Relation(lambda: HOST, "hostUuid", "uuid")})
HOST.relations["pciDevice"] = Relation(lambda: PCI_DEVICE, "uuid", "hostUuid")
part_of(HOST, PCI_DEVICE, "host_uuid")

_DEVICES = DeviceTable(pci_table, ("serial", "mac", "path"))
_followers: list[Callable[[Connection, str], None]] = []


class QueryPciDevice(
    Query, path=("/pci-device/pci-devices", "/pci-device/pci-devices/{uuid}"), reply=PCI_DEVICE
):
    """Query PCI devices (manual 4.3.11.1)."""


def when_synced(follower: Callable[[Connection, str], None]) -> None:
    """Have `follower(connection, host_uuid)` called in each transaction that has synced a host's devices."""
    _followers.append(follower)


def sync_pci(connection: Connection, host_uuid: str, functions: Sequence[PciFunction]) -> None:
    """Bring a host's PCI devices in line with what it shows.

    One that is gone is Inactive, or stays Attached.
    """
    observed = [_observe(function) for function in functions]
    for row in sync(connection, _DEVICES, host_uuid, observed):
        status = row.status if row.status == "Attached" else "Inactive"
        if (row.address, row.status) != (None, status):
            values = {"status": status, "address": None, "pci_device_address": None, "last_op_date": now_s()}
            connection.execute(update(pci_table).where(pci_table.c.uuid == row.uuid).values(**values))
    free = pci_table.c.vm_instance_uuid.is_(None) & (pci_table.c.host_uuid == host_uuid)
    shown = {function.address: free_status(function) for function in functions}
    query = select(pci_table.c.uuid, pci_table.c.address, pci_table.c.status).where(free)
    for free_row in connection.execute(query).all():
        status = shown.get(free_row.address, free_row.status)
        if status != free_row.status:
            mine = pci_table.c.uuid == free_row.uuid
            connection.execute(update(pci_table).where(mine).values(status=status))
    for follower in _followers:
        follower(connection, host_uuid)


def free_status(function: PciFunction) -> str:
    """Return the status of a device that no VM has: Active with an IOMMU group and nothing of the
    host's on it.
    """
    return "Active" if function.iommu_group and not function.boot_critical else "System"


def _observe(function: PciFunction) -> Observation:
    return Observation(
        Seen(function.address, identity_of(function.identity)),
        columns={
            "vendor_id": function.vendor_id,
            "device_id": function.device_id,
            "subvendor_id": function.subvendor_id,
            "subdevice_id": function.subdevice_id,
            "pci_device_address": function.address,
            "type": function.type,
            "class_code": function.class_code,
            "driver": function.driver,
            "iommu_group": function.iommu_group,
            "numa_node": function.numa_node,
            "boot_critical": function.boot_critical,
            "physical_function": function.physical_function,
            "virtual_functions": function.virtual_functions,
            "max_virtual_functions": function.max_virtual_functions,
        },
        first={
            "name": function.name[:NAME_LENGTH],
            "description": function.description[:DESCRIPTION_LENGTH],
            "state": "Enabled",
            "status": free_status(function),
        },
    )
