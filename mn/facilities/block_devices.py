"""Block devices of the hosts: an extension, the manual has no query for them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Boolean, Column, Connection, ForeignKey, String, Table, delete

from kvmagent.protocol import BlockDevice
from mn.db.schema import Document, date_columns, identity_columns, metadata, private, uuid_column
from mn.facilities.cascade import part_of
from mn.facilities.devices import DeviceTable, Observation, Seen, identity_of, sync
from mn.facilities.hosts.tables import HOST
from mn.query.resource import Relation, Resource
from mn.rest.operation import Query

block_table = Table(
    "block_device",
    metadata,
    *identity_columns("device"),
    uuid_column(
        "host_uuid", ForeignKey("host.uuid", ondelete="CASCADE"), nullable=False, index=True, comment="host"
    ),
    Column("name", String(128), nullable=False, index=True, comment="the kernel's name now, vda1"),
    Column("parent", String(128), comment="name of the disk that a partition is on"),
    Column(
        "transport", String(32), nullable=False, index=True, comment="virtio, nvme, sata, sas, usb, iscsi..."
    ),
    Column("size", BigInteger, index=True, nullable=False, comment="bytes"),
    Column("wwid", String(255), index=True, comment="world-wide identifier"),
    Column("vendor", String(255), comment="vendor"),
    Column("model", String(255), index=True, comment="model"),
    Column("serial", String(255), index=True, comment="serial number"),
    Column("rotational", Boolean, nullable=False, comment="whether it spins"),
    Column("read_only", Boolean, nullable=False, comment="whether it cannot be written"),
    Column("removable", Boolean, nullable=False, comment="whether its medium can be taken out"),
    Column("pci_device_address", String(32), index=True, comment="the PCI function it hangs on"),
    Column("mounts", Document, nullable=False, comment="where it is mounted, or [swap]"),
    Column("holders", Document, nullable=False, comment="devices made of it"),
    private("address", String(128)),
    private("identity", Document, nullable=False),
    *date_columns(),
)

BLOCK_DEVICE = Resource("BlockDevice", block_table, {"host": Relation(lambda: HOST, "hostUuid", "uuid")})
HOST.relations["blockDevice"] = Relation(lambda: BLOCK_DEVICE, "uuid", "hostUuid")
part_of(HOST, BLOCK_DEVICE, "host_uuid")

_DEVICES = DeviceTable(block_table, ("wwid", "serial", "name"))


class QueryBlockDevice(Query, path=("/block-devices", "/block-devices/{uuid}"), reply=BLOCK_DEVICE):
    """Query the hosts' block devices (extension)."""


def sync_block(connection: Connection, host_uuid: str, devices: Sequence[BlockDevice]) -> None:
    """Bring a host's block devices in line with what it shows. One that is gone loses its row."""
    for row in sync(connection, _DEVICES, host_uuid, [_observe(device) for device in devices]):
        connection.execute(delete(block_table).where(block_table.c.uuid == row.uuid))


def _observe(device: BlockDevice) -> Observation:
    identity = (*identity_of(device.identity), ("name", device.name))
    return Observation(
        Seen(device.name, identity),
        columns={
            "name": device.name,
            "parent": device.parent,
            "transport": device.transport,
            "size": device.size_bytes,
            "wwid": device.wwid,
            "vendor": device.vendor,
            "model": device.model,
            "serial": device.serial,
            "rotational": device.rotational,
            "read_only": device.read_only,
            "removable": device.removable,
            "pci_device_address": device.pci_address,
            "mounts": device.mounts,
            "holders": device.holders,
        },
        first={},
    )
