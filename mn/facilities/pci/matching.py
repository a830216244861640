"""Which PCI devices an offering matches: kept as references, and in the inventories of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select, update

from mn.db.schema import new_uuid
from mn.facilities.cascade import when_deleted
from mn.facilities.devices import forget_addresses
from mn.facilities.hosts.tables import HOST
from mn.facilities.pci.offering_tables import pci_offering_table, pci_ref_table
from mn.facilities.pci.tables import PCI_DEVICE, pci_table, when_synced

ANY = "0000"
"""A subsystem id of an offering that all devices have."""
GENERIC = "Generic"
_TYPES = {
    "GPU_Video_Controller": "GPU_Video",
    "GPU_3D_Controller": "GPU_Video",
    "GPU_Audio_Controller": "GPU_Audio",
}


@dataclass(frozen=True)
class Ids:
    """The four ids of a device; of an offering, whose subsystem ids may be None or `ANY`."""

    vendor: str
    device: str
    subvendor: str | None
    subdevice: str | None

    @classmethod
    def of(cls, row: Any) -> Ids:
        """Return the ids in a row of either table."""
        return cls(row.vendor_id, row.device_id, row.subvendor_id, row.subdevice_id)

    def meant(self) -> Ids:
        """Return what is equal for offerings that match the same devices."""
        return Ids(self.vendor, self.device, _given(self.subvendor), _given(self.subdevice))

    def match(self, device: Ids) -> bool:
        """Say whether an offering with these ids matches a device."""
        wanted = self.meant()
        return (
            (wanted.vendor, wanted.device) == (device.vendor, device.device)
            and wanted.subvendor in (None, device.subvendor)
            and wanted.subdevice in (None, device.subdevice)
        )


def _given(subsystem_id: str | None) -> str | None:
    return None if subsystem_id == ANY else subsystem_id


def type_of(device_types: Iterable[str]) -> str:
    """Return the type of an offering whose devices have these types: that of the first one that tells."""
    return next((_TYPES[kind] for kind in device_types if kind in _TYPES), GENERIC)


def load_ids(connection: Connection) -> dict[str, Ids]:
    """Return the ids of all offerings by uuid, in the order they were created."""
    table = pci_offering_table.c
    query = select(table.uuid, table.vendor_id, table.device_id, table.subvendor_id, table.subdevice_id)
    return {row.uuid: Ids.of(row) for row in connection.execute(query.order_by(table.seq))}


def match_devices(
    connection: Connection, devices: ColumnElement[bool], offerings: Mapping[str, Ids] | None = None
) -> None:
    """Bring the references of the devices that a condition finds in line with the offerings.

    The number of statements does not grow with that of the devices.
    """
    offerings = load_ids(connection) if offerings is None else offerings
    columns = pci_table.c
    ids = (columns.vendor_id, columns.device_id, columns.subvendor_id, columns.subdevice_id)
    query = select(columns.uuid, *ids, columns.matched_pci_device_offering_ref.label("shown")).where(devices)
    rows = connection.execute(query).all()
    wanted = {row.uuid: _matching(offerings, Ids.of(row)) for row in rows}
    refs = pci_ref_table.c
    mine = refs.pci_device_uuid.in_(select(columns.uuid).where(devices))
    found = select(refs.seq, refs.pci_device_uuid, refs.pci_device_offering_uuid).where(mine)
    known = {(r.pci_device_uuid, r.pci_device_offering_uuid): r.seq for r in connection.execute(found)}
    pairs = {(uuid, offering) for uuid, matching in wanted.items() for offering in matching}
    _write_refs(connection, known, pairs)
    _show_on_devices(connection, rows, wanted)
    show_on_offerings(connection, {offering for _, offering in pairs ^ known.keys()})


def _matching(offerings: Mapping[str, Ids], device: Ids) -> list[str]:
    return [uuid for uuid, ids in offerings.items() if ids.match(device)]


def _write_refs(
    connection: Connection, known: Mapping[tuple[str, str], int], wanted: set[tuple[str, str]]
) -> None:
    over = [{"over": seq} for pair, seq in known.items() if pair not in wanted]
    if over:
        connection.execute(delete(pci_ref_table).where(pci_ref_table.c.seq == bindparam("over")), over)
    fresh = [
        {"uuid": new_uuid(), "pci_device_uuid": device, "pci_device_offering_uuid": offering}
        for device, offering in sorted(wanted - known.keys())
    ]
    if fresh:
        connection.execute(insert(pci_ref_table), fresh)


def _show_on_devices(connection: Connection, rows: Sequence[Any], wanted: Mapping[str, list[str]]) -> None:
    shown = {row.uuid: row.shown for row in rows}
    documents = {uuid: [_ref(uuid, o) for o in offerings] or None for uuid, offerings in wanted.items()}
    changed = [{"device": uuid, "refs": refs} for uuid, refs in documents.items() if refs != shown[uuid]]
    if changed:
        statement = update(pci_table).where(pci_table.c.uuid == bindparam("device"))
        connection.execute(statement.values(matched_pci_device_offering_ref=bindparam("refs")), changed)


def show_on_offerings(connection: Connection, uuids: Iterable[str]) -> None:
    """Bring what offerings show in line with their references; their type too, unless it was given."""
    among = pci_offering_table.c.uuid.in_(list(uuids))
    refs, table = pci_ref_table.c, pci_offering_table.c
    offerings = connection.execute(
        select(table.uuid, table.type, table.given_type, table.matched_pci_devices).where(among)
    ).all()
    if not offerings:
        return
    query = (
        select(refs.pci_device_offering_uuid, refs.pci_device_uuid, pci_table.c.type)
        .join(pci_table, pci_table.c.uuid == refs.pci_device_uuid)
        .where(refs.pci_device_offering_uuid.in_([o.uuid for o in offerings]))
        .order_by(refs.seq)
    )
    matched: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        matched.setdefault(row.pci_device_offering_uuid, []).append(row)
    for offering in offerings:
        devices = matched.get(offering.uuid, [])
        shown = [_ref(row.pci_device_uuid, offering.uuid) for row in devices]
        kind = offering.given_type or type_of(row.type for row in devices)
        if (shown, kind) != (offering.matched_pci_devices, offering.type):
            mine = table.uuid == offering.uuid
            connection.execute(
                update(pci_offering_table).where(mine).values(matched_pci_devices=shown, type=kind)
            )


def _ref(device: str, offering: str) -> dict[str, str]:
    return {"pciDeviceUuid": device, "pciDeviceOfferingUuid": offering}


def _match_host(connection: Connection, host_uuid: str) -> None:
    """Match the devices of a host that has been synced."""
    offerings = load_ids(connection)
    if offerings:
        match_devices(connection, pci_table.c.host_uuid == host_uuid, offerings)


def _forget_device(connection: Connection, uuid: str) -> None:
    """Let go of a device whose row goes."""
    refs = pci_ref_table.c
    mine = refs.pci_device_uuid == uuid
    offerings = list(connection.execute(select(refs.pci_device_offering_uuid).where(mine)).scalars())
    connection.execute(delete(pci_ref_table).where(mine))
    show_on_offerings(connection, offerings)
    forget_addresses(connection, uuid)


def _forget_host(connection: Connection, _uuid: str) -> None:
    """Let go of the devices of a host, whose rows have just gone with their references."""
    show_on_offerings(connection, load_ids(connection))


when_synced(_match_host)
when_deleted(PCI_DEVICE, _forget_device)
when_deleted(HOST, _forget_host)
