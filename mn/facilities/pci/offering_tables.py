"""PCI device offerings, the devices that they match and the instance offerings that ask for them."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, String, Table, UniqueConstraint

from mn.db.schema import (
    Document,
    date_columns,
    identity_columns,
    metadata,
    named_columns,
    private,
    sequence_column,
    uuid_column,
)
from mn.facilities.instance_offerings import INSTANCE_OFFERING
from mn.facilities.pci.tables import PCI_DEVICE
from mn.query.resource import Relation, Resource

pci_offering_table = Table(
    "pci_device_offering",
    metadata,
    *named_columns("PCI device offering"),
    Column("type", String(32), nullable=False, comment="GPU_Video, GPU_Audio or Generic"),
    Column("vendor_id", String(4), nullable=False, index=True, comment="PCI vendor id, 4 hex digits"),
    Column("device_id", String(4), nullable=False, index=True, comment="PCI device id, 4 hex digits"),
    Column("subvendor_id", String(4), index=True, comment="subsystem vendor id, any when there is none"),
    Column("subdevice_id", String(4), index=True, comment="subsystem id, any when there is none"),
    Column("attached_instance_offerings", Document, nullable=False, comment="instance offerings that ask"),
    Column("matched_pci_devices", Document, nullable=False, comment="references to devices that it matches"),
    private("given_type", String(32)),
    *date_columns(),
)
"""`given_type` is the type that the creator chose; without one it is what the matched devices are."""

pci_ref_table = Table(
    "pci_device_offering_ref",
    metadata,
    *identity_columns("reference"),
    uuid_column(
        "pci_device_uuid",
        ForeignKey("pci_device.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the PCI device",
    ),
    uuid_column(
        "pci_device_offering_uuid",
        ForeignKey("pci_device_offering.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the offering",
    ),
    UniqueConstraint("pci_device_uuid", "pci_device_offering_uuid"),
)

instance_ref_table = Table(
    "pci_offering_instance_ref",
    metadata,
    sequence_column(),
    private("uuid", String(32), nullable=False, unique=True),
    uuid_column(
        "instance_offering_uuid",
        ForeignKey("instance_offering.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the instance offering",
    ),
    uuid_column(
        "pci_device_offering_uuid",
        ForeignKey("pci_device_offering.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the PCI device offering",
    ),
    Column("pci_device_count", Integer, nullable=False, index=True, comment="how many devices it asks for"),
)

PCI_OFFERING: Resource = Resource(
    "PciDeviceOffering",
    pci_offering_table,
    {
        "matchedPciDevices": Relation(lambda: PCI_REF, "uuid", "pciDeviceOfferingUuid"),
        "attachedInstanceOfferings": Relation(lambda: INSTANCE_REF, "uuid", "pciDeviceOfferingUuid"),
    },
)
PCI_REF: Resource = Resource(
    "PciDevicePciDeviceOffering",
    pci_ref_table,
    {
        "pciDevice": Relation(lambda: PCI_DEVICE, "pciDeviceUuid", "uuid"),
        "pciDeviceOffering": Relation(lambda: PCI_OFFERING, "pciDeviceOfferingUuid", "uuid"),
    },
)
INSTANCE_REF: Resource = Resource(
    "PciDeviceOfferingInstanceOfferingRef",
    instance_ref_table,
    {
        "instanceOffering": Relation(lambda: INSTANCE_OFFERING, "instanceOfferingUuid", "uuid"),
        "pciDeviceOffering": Relation(lambda: PCI_OFFERING, "pciDeviceOfferingUuid", "uuid"),
    },
)
PCI_DEVICE.relations["matchedPciDeviceOfferingRef"] = Relation(lambda: PCI_REF, "uuid", "pciDeviceUuid")
