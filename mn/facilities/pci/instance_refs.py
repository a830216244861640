"""Instance offerings that ask for PCI devices: the system tag `pciDevice::UUID` or `pciDevice::UUID::COUNT`.

No operation of the manual makes these references, which the inventory of a PCI device offering shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from mn.db.schema import new_uuid
from mn.db.tags import SYSTEM, tag_table
from mn.facilities.cascade import when_deleted
from mn.facilities.common import find
from mn.facilities.instance_offerings import INSTANCE_OFFERING
from mn.facilities.pci.offering_tables import PCI_OFFERING, instance_ref_table, pci_offering_table
from mn.facilities.tags.rules import register, tag_value, type_name

TAG = "pciDevice::{offering}"
_VALUE = re.compile(r"([0-9a-f]{32})(?:::([1-9]\d{0,2}))?")


def parse_wish(value: str) -> tuple[str, int]:
    """Return the PCI device offering that a tag's value names and how many devices it asks for.

    Raises ValueError when it is `UUID` or `UUID::COUNT` in neither form.
    """
    match = _VALUE.fullmatch(value)
    if match is None:
        raise ValueError(f"'{value}' is neither the uuid of a PCI device offering nor UUID::COUNT")
    return match[1], int(match[2] or 1)


def _check(value: str) -> None:
    parse_wish(value)


def follow_wish(connection: Connection, instance_offering_uuid: str) -> None:
    """Bring the reference of an instance offering in line with its tag.

    Raises HardpointError (SYS.1003) when the tag names a PCI device offering that does not exist.
    """
    value = tag_value(connection, INSTANCE_OFFERING.name, instance_offering_uuid, TAG)
    before = _drop(connection, instance_ref_table.c.instance_offering_uuid == instance_offering_uuid)
    if value is not None:
        offering, count = parse_wish(value)
        find(connection, PCI_OFFERING, offering)
        values = {
            "uuid": new_uuid(),
            "instance_offering_uuid": instance_offering_uuid,
            "pci_device_offering_uuid": offering,
            "pci_device_count": count,
        }
        connection.execute(insert(instance_ref_table), values)
        before.append(offering)
    _show(connection, before)


def forget_wishes(connection: Connection, offering_uuid: str) -> None:
    """Take the references to a PCI device offering that goes away, and the tags that made them."""
    refs = instance_ref_table.c
    query = select(refs.instance_offering_uuid).where(refs.pci_device_offering_uuid == offering_uuid)
    asking = list(connection.execute(query).scalars())
    tags = tag_table.c
    theirs = (tags.resource_uuid.in_(asking)) & (tags.type == SYSTEM)
    theirs &= tags.resource_type == type_name(INSTANCE_OFFERING)
    theirs &= tags.tag.startswith(f"pciDevice::{offering_uuid}", autoescape=True)
    connection.execute(delete(tag_table).where(theirs))
    _drop(connection, refs.pci_device_offering_uuid == offering_uuid)


def _forget_instance_offering(connection: Connection, uuid: str) -> None:
    _show(connection, _drop(connection, instance_ref_table.c.instance_offering_uuid == uuid))


def _drop(connection: Connection, where: Any) -> list[str]:
    """Delete references; return the PCI device offerings that had them."""
    query = select(instance_ref_table.c.pci_device_offering_uuid).where(where)
    offerings = list(connection.execute(query).scalars())
    connection.execute(delete(instance_ref_table).where(where))
    return offerings


def _show(connection: Connection, offering_uuids: Iterable[str]) -> None:
    """Bring what PCI device offerings show in line with their references."""
    refs, table = instance_ref_table.c, pci_offering_table
    for uuid in sorted(set(offering_uuids)):
        rows = connection.execute(
            select(instance_ref_table).where(refs.pci_device_offering_uuid == uuid).order_by(refs.seq)
        )
        shown = [
            {
                "id": row.seq,
                "instanceOfferingUuid": row.instance_offering_uuid,
                "pciDeviceOfferingUuid": uuid,
                "pciDeviceCount": row.pci_device_count,
            }
            for row in rows
        ]
        connection.execute(
            update(table).where(table.c.uuid == uuid).values(attached_instance_offerings=shown)
        )


register(INSTANCE_OFFERING.name, TAG, "PCI devices that its VMs are for", _check, follow_wish)
when_deleted(INSTANCE_OFFERING, _forget_instance_offering)
