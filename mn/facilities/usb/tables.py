"""USB devices (manual 4.3.12): what the hosts show, kept by identity."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Column, Connection, ForeignKey, String, Table, delete, update

from kvmagent.protocol import UsbDevice
from mn.db.schema import (
    DESCRIPTION_LENGTH,
    NAME_LENGTH,
    Document,
    date_columns,
    identity_columns,
    metadata,
    private,
    uuid_column,
)
from mn.facilities.cascade import part_of
from mn.facilities.devices import DeviceTable, Observation, Seen, identity_of, sync
from mn.facilities.hosts.tables import HOST
from mn.query.resource import Relation, Resource
from mn.rest.operation import Query

usb_table = Table(
    "usb_device",
    metadata,
    *identity_columns("device"),
    Column(
        "name", String(NAME_LENGTH), nullable=False, index=True, comment="name, at first product or vendor"
    ),
    Column("description", String(DESCRIPTION_LENGTH), comment="description"),
    uuid_column(
        "host_uuid", ForeignKey("host.uuid", ondelete="CASCADE"), nullable=False, index=True, comment="host"
    ),
    uuid_column("vm_instance_uuid", index=True, comment="UUID of the VM it is attached to"),
    Column("state", String(16), nullable=False, index=True, comment="Enabled or Disabled"),
    Column("bus_num", String(3), comment="bus number now, 3 digits"),
    Column("dev_num", String(3), comment="device number now, 3 digits"),
    Column("id_vendor", String(4), nullable=False, index=True, comment="vendor id, 4 hex digits"),
    Column("id_product", String(4), nullable=False, index=True, comment="product id, 4 hex digits"),
    Column(
        "i_manufacturer",
        String(255),
        index=True,
        nullable=False,
        comment="manufacturer's name, as the device says it",
    ),
    Column(
        "i_product", String(255), index=True, nullable=False, comment="product's name, as the device says it"
    ),
    Column(
        "i_serial", String(255), nullable=False, index=True, comment="serial number, as the device says it"
    ),
    Column("usb_version", String(16), nullable=False, comment="USB version, 1.1, 2.0, 3.0..."),
    Column(
        "boot_critical",
        String(255),
        comment="what the host would lose with it; such a device is not given away",
    ),
    private("address", String(64)),
    private("identity", Document, nullable=False),
    *date_columns(),
)

USB_DEVICE = Resource("UsbDevice", usb_table, {"host": Relation(lambda: HOST, "hostUuid", "uuid")})
HOST.relations["usbDevice"] = Relation(lambda: USB_DEVICE, "uuid", "hostUuid")
part_of(HOST, USB_DEVICE, "host_uuid")

_DEVICES = DeviceTable(usb_table, ("serial", "port"))


class QueryUsbDevice(
    Query, path=("/usb-device/usb-devices", "/usb-device/usb-devices/{uuid}"), reply=USB_DEVICE
):
    """Query USB devices (manual 4.3.12)."""


def sync_usb(connection: Connection, host_uuid: str, devices: Sequence[UsbDevice]) -> None:
    """Bring a host's USB devices in line with what it shows. One that is gone and free loses its row."""
    for row in sync(connection, _DEVICES, host_uuid, [_observe(device) for device in devices]):
        where = usb_table.c.uuid == row.uuid
        if row.vm_instance_uuid is None:
            connection.execute(delete(usb_table).where(where))
        else:
            connection.execute(
                update(usb_table).where(where).values(address=None, bus_num=None, dev_num=None)
            )


def _observe(device: UsbDevice) -> Observation:
    name = device.i_product or device.i_manufacturer or f"{device.id_vendor}:{device.id_product}"
    return Observation(
        Seen(device.port_path, identity_of(device.identity)),
        columns={
            "bus_num": device.bus_num,
            "dev_num": device.dev_num,
            "id_vendor": device.id_vendor,
            "id_product": device.id_product,
            "i_manufacturer": device.i_manufacturer[:255],
            "i_product": device.i_product[:255],
            "i_serial": device.i_serial[:255],
            "usb_version": device.usb_version,
            "boot_critical": device.boot_critical,
        },
        first={"name": name[:NAME_LENGTH], "state": "Enabled"},
    )
