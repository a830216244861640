"""Which PCI devices offerings match, and that the references follow devices, offerings and tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event, select, update

from agentkit.errors import HardpointError
from mn.db.tags import tag_table
from mn.facilities.cascade import delete_row
from mn.facilities.instance_offerings import CreateInstanceOffering, insert_instance_offering
from mn.facilities.pci.instance_refs import parse_wish
from mn.facilities.pci.matching import Ids, match_devices, type_of
from mn.facilities.pci.offering_tables import instance_ref_table, pci_offering_table, pci_ref_table
from mn.facilities.pci.offerings import CreatePciDeviceOffering, insert_offering
from mn.facilities.pci.tables import pci_table, sync_pci
from mn.facilities.tags.operations import delete_tag, insert_tag
from tests.unit.mn.facilities.fleet import HOST, new_connection, put_host, put_pci

CARD, OTHER = "c" * 32, "d" * 32
ANY_CARD, THIS_CARD, INSTANCE = "3" * 32, "4" * 32, "5" * 32


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        put_pci(connection, CARD)
        put_pci(connection, OTHER, device_id="0e0f", type="GPU_Audio_Controller", address="0000:01:00.1")
        yield connection


def offer(connection: Connection, uuid: str, **changed: Any) -> None:
    wanted = {"vendor_id": "10DE", "device_id": "1B38", **changed}
    insert_offering(connection, uuid, CreatePciDeviceOffering(**wanted))


def refs(connection: Connection) -> set[tuple[str, str]]:
    rows = connection.execute(select(pci_ref_table))
    return {(row.pci_device_uuid, row.pci_device_offering_uuid) for row in rows}


def offering(connection: Connection, uuid: str) -> Any:
    return connection.execute(select(pci_offering_table).where(pci_offering_table.c.uuid == uuid)).one()


def shown(connection: Connection, device: str) -> list[str] | None:
    row = connection.execute(select(pci_table).where(pci_table.c.uuid == device)).one()
    document = row.matched_pci_device_offering_ref
    return document and [ref["pciDeviceOfferingUuid"] for ref in document]


@pytest.mark.parametrize(
    ("subvendor", "subdevice", "does"),
    [
        (None, None, True),
        ("0000", "0000", True),
        ("10de", None, True),
        ("10de", "11d9", True),
        ("10de", "0000", True),
        ("1043", None, False),
        ("10de", "11d8", False),
    ],
)
def test_subsystem_ids_are_the_devices_own_or_any(
    subvendor: str | None, subdevice: str | None, does: bool
) -> None:
    device = Ids("10de", "1b38", "10de", "11d9")
    assert Ids("10de", "1b38", subvendor, subdevice).match(device) is does
    assert not Ids("10de", "1b39", subvendor, subdevice).match(device)
    assert not Ids("1002", "1b38", subvendor, subdevice).match(device)


def test_devices_that_are_there_are_matched_at_once_and_shown_on_both_sides(connection: Connection) -> None:
    offer(connection, ANY_CARD)
    row = offering(connection, ANY_CARD)
    assert (row.vendor_id, row.device_id, row.name, row.type) == ("10de", "1b38", "10de:1b38", "GPU_Video")
    assert refs(connection) == {(CARD, ANY_CARD)}
    assert row.matched_pci_devices == [{"pciDeviceUuid": CARD, "pciDeviceOfferingUuid": ANY_CARD}]
    assert (shown(connection, CARD), shown(connection, OTHER)) == ([ANY_CARD], None)


def test_a_device_that_two_offerings_match_shows_both(connection: Connection) -> None:
    offer(connection, ANY_CARD)
    offer(connection, THIS_CARD, subvendor_id="10DE", subdevice_id="11D9")
    assert shown(connection, CARD) == [ANY_CARD, THIS_CARD]


@pytest.mark.parametrize("subsystem", [{}, {"subvendor_id": "0000"}, {"subdevice_id": "0000"}])
def test_the_same_ids_make_no_second_offering(connection: Connection, subsystem: dict[str, str]) -> None:
    offer(connection, ANY_CARD)
    with pytest.raises(HardpointError) as caught:
        offer(connection, THIS_CARD, **subsystem)
    assert caught.value.code == "SYS.1007"
    assert ANY_CARD in caught.value.details


def test_a_device_that_comes_later_is_matched_with_its_sync_and_gives_the_type(
    connection: Connection,
) -> None:
    connection.execute(pci_table.delete())
    offer(connection, ANY_CARD)
    assert offering(connection, ANY_CARD).type == "Generic"
    put_pci(connection, CARD)
    sync_pci(connection, HOST, [])
    assert refs(connection) == {(CARD, ANY_CARD)}
    assert offering(connection, ANY_CARD).type == "GPU_Video"


def test_a_type_that_was_given_stays(connection: Connection) -> None:
    offer(connection, ANY_CARD, type="Generic")
    assert offering(connection, ANY_CARD).type == "Generic"


def test_a_device_whose_ids_change_is_matched_anew(connection: Connection) -> None:
    offer(connection, ANY_CARD)
    offer(connection, THIS_CARD, device_id="1111")
    connection.execute(update(pci_table).where(pci_table.c.uuid == CARD).values(device_id="1111"))
    sync_pci(connection, HOST, [])
    assert refs(connection) == {(CARD, THIS_CARD)}
    assert shown(connection, CARD) == [THIS_CARD]
    assert offering(connection, ANY_CARD).matched_pci_devices == []


def test_an_offering_that_is_deleted_leaves_no_reference(connection: Connection) -> None:
    offer(connection, ANY_CARD)
    offer(connection, THIS_CARD, subvendor_id="10de")
    delete_row(connection, "PciDeviceOffering", ANY_CARD)
    assert refs(connection) == {(CARD, THIS_CARD)}
    assert shown(connection, CARD) == [THIS_CARD]
    delete_row(connection, "PciDeviceOffering", THIS_CARD)
    assert (refs(connection), shown(connection, CARD)) == (set(), None)


def test_the_devices_of_a_host_that_is_deleted_are_in_no_offering(connection: Connection) -> None:
    offer(connection, ANY_CARD)
    delete_row(connection, "Host", HOST)
    assert refs(connection) == set()
    assert offering(connection, ANY_CARD).matched_pci_devices == []


def test_devices_of_other_hosts_keep_their_references(connection: Connection) -> None:
    put_host(connection, "b" * 32)
    put_pci(connection, "f" * 32, host_uuid="b" * 32)
    offer(connection, ANY_CARD)
    sync_pci(connection, HOST, [])
    assert refs(connection) == {(CARD, ANY_CARD), ("f" * 32, ANY_CARD)}
    assert len(offering(connection, ANY_CARD).matched_pci_devices) == 2


def test_many_devices_take_no_more_statements_than_few(connection: Connection) -> None:
    def statements() -> int:
        seen: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            seen.append(statement)

        event.listen(connection.engine, "before_cursor_execute", note)
        match_devices(connection, pci_table.c.host_uuid == HOST)
        event.remove(connection.engine, "before_cursor_execute", note)
        return len(seen)

    offer(connection, ANY_CARD)
    put_pci(connection, f"{1:032x}")
    few = statements()
    for number in range(2, 60):
        put_pci(connection, f"{number:032x}")
    assert statements() == few
    assert len(offering(connection, ANY_CARD).matched_pci_devices) == 60


def test_the_first_telling_device_gives_the_type() -> None:
    assert type_of([]) == "Generic"
    assert type_of(["Generic", "GPU_Audio_Controller", "GPU_Video_Controller"]) == "GPU_Audio"


def instance_offering(connection: Connection, *tags: str) -> None:
    wanted = CreateInstanceOffering(name="small", cpu_num=1, memory_size=1, system_tags=list(tags))
    insert_instance_offering(connection, INSTANCE, wanted)


def asking(connection: Connection, uuid: str = ANY_CARD) -> list[tuple[str, int]]:
    documents = offering(connection, uuid).attached_instance_offerings
    assert all(d["pciDeviceOfferingUuid"] == uuid for d in documents)
    return [(d["instanceOfferingUuid"], d["pciDeviceCount"]) for d in documents]


def test_an_instance_offerings_tag_makes_a_reference_and_takes_it_along(connection: Connection) -> None:
    offer(connection, ANY_CARD)
    instance_offering(connection, f"pciDevice::{ANY_CARD}::2")
    assert asking(connection) == [(INSTANCE, 2)]
    (tag,) = connection.execute(select(tag_table.c.uuid)).scalars()
    delete_tag(connection, tag)
    assert asking(connection) == []
    insert_tag(connection, "InstanceOfferingVO", INSTANCE, f"pciDevice::{ANY_CARD}", "System")
    assert asking(connection) == [(INSTANCE, 1)]
    delete_row(connection, "InstanceOffering", INSTANCE)
    assert asking(connection) == []


def test_an_offering_that_is_deleted_takes_the_tags_along_that_name_it(connection: Connection) -> None:
    offer(connection, ANY_CARD)
    instance_offering(connection, f"pciDevice::{ANY_CARD}")
    delete_row(connection, "PciDeviceOffering", ANY_CARD)
    assert connection.execute(select(tag_table)).all() == []
    assert connection.execute(select(instance_ref_table)).all() == []


def test_a_tag_that_names_no_offering_is_refused(connection: Connection) -> None:
    with pytest.raises(HardpointError) as caught:
        instance_offering(connection, f"pciDevice::{ANY_CARD}")
    assert caught.value.code == "SYS.1003"


@pytest.mark.parametrize(
    "value", ["", "x", ANY_CARD[:31], f"{ANY_CARD}::", f"{ANY_CARD}::0", f"{ANY_CARD}:2"]
)
def test_a_wish_is_a_uuid_and_perhaps_a_number(value: str) -> None:
    with pytest.raises(ValueError, match="neither the uuid"):
        parse_wish(value)
