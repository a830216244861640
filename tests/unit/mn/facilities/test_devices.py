"""Devices are told by what they are, not by where they are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, StaticPool, create_engine, insert, select

from kvmagent.protocol import Evidence, PciFunction, UsbDevice
from mn import facilities
from mn.db.schema import metadata
from mn.facilities.devices import Known, Matches, Seen, address_table, device_uuid, match
from mn.facilities.pci.tables import pci_table, sync_pci
from mn.facilities.usb.tables import sync_usb, usb_table

KINDS = ("serial", "mac", "path")
HOST = "h" * 32


def seen(address: str, **evidence: str) -> Seen:
    return Seen(address, tuple((k, evidence[k]) for k in KINDS if k in evidence))


def known(uuid: str, address: str | None, **evidence: str) -> Known:
    return Known(uuid, address, seen("", **evidence).identity)


def same(matches: Matches) -> dict[str, str]:
    """Return where each known device is now."""
    return {row.uuid: device.address for row, device in matches.same}


def test_a_device_that_moved_to_another_address_is_the_same() -> None:
    matches = match([known("a", "01:00.0", serial="S1")], [seen("05:00.0", serial="S1")], KINDS)
    assert same(matches) == {"a": "05:00.0"}
    assert (matches.new, matches.gone) == ([], [])


def test_another_device_at_the_old_address_is_a_new_one() -> None:
    old, device = known("a", "01:00.0", serial="S1", path="P1"), seen("01:00.0", serial="S2", path="P1")
    matches = match([old], [device], KINDS)
    assert (matches.same, matches.new, matches.gone) == ([], [device], [old])


def test_two_devices_that_swapped_their_places_keep_their_names() -> None:
    rows = [known("a", "01", serial="S1", path="P1"), known("b", "02", serial="S2", path="P2")]
    devices = [seen("01", serial="S2", path="P1"), seen("02", serial="S1", path="P2")]
    assert same(match(rows, devices, KINDS)) == {"a": "02", "b": "01"}


def test_two_identical_cards_without_serial_stay_where_they_are() -> None:
    rows = [known("a", "01", path="P"), known("b", "02", path="P")]
    devices = [seen("02", path="P"), seen("01", path="P")]
    assert same(match(rows, devices, KINDS)) == {"a": "01", "b": "02"}


def test_of_two_identical_cards_without_serial_the_one_that_is_left_keeps_its_name() -> None:
    rows = [known("a", "01", path="P"), known("b", "02", path="P")]
    matches = match(rows, [seen("02", path="P")], KINDS)
    assert same(matches) == {"b": "02"}
    assert matches.gone == [rows[0]]


def test_two_identical_cards_that_both_moved_are_taken_in_the_order_of_their_addresses() -> None:
    rows = [known("b", "02", path="P"), known("a", "01", path="P")]
    assert same(match(rows, [seen("12", path="P"), seen("11", path="P")], KINDS)) == {"a": "11", "b": "12"}


def test_a_third_identical_card_is_the_new_one() -> None:
    rows = [known("a", "01", path="P"), known("b", "02", path="P")]
    devices = [seen(address, path="P") for address in ("00", "01", "02")]
    matches = match(rows, devices, KINDS)
    assert same(matches) == {"a": "01", "b": "02"}
    assert matches.new == [devices[0]]


def test_a_serial_number_wins_over_a_path() -> None:
    rows = [known("a", "01", serial="S1", path="P1"), known("b", "02", serial="S2", path="P2")]
    device = seen("01", serial="S2", path="P1")
    assert same(match(rows, [device], KINDS)) == {"b": "01"}


def test_a_serial_number_that_differs_overrules_an_equal_mac_and_path() -> None:
    row = known("a", "01", serial="S1", mac="M", path="P")
    assert match([row], [seen("01", serial="S2", mac="M", path="P")], KINDS).same == []


def test_a_serial_number_that_became_readable_does_not_make_a_new_device() -> None:
    row = known("a", "01", path="P")
    assert same(match([row], [seen("01", serial="S1", path="P")], KINDS)) == {"a": "01"}
    row = known("a", "01", serial="S1", path="P")
    assert same(match([row], [seen("01", path="P")], KINDS)) == {"a": "01"}


def test_a_device_that_had_vanished_is_itself_when_it_is_back() -> None:
    row = known("a", None, serial="S1")
    assert same(match([row], [seen("07", serial="S1")], KINDS)) == {"a": "07"}


def test_a_device_that_is_there_goes_before_one_that_vanished() -> None:
    rows = [known("gone", None, path="P"), known("there", "02", path="P")]
    assert same(match(rows, [seen("03", path="P")], KINDS)) == {"there": "03"}


def test_evidence_of_unknown_kinds_and_none_at_all_match_nothing() -> None:
    bare, odd = Seen("01", ()), Seen("02", (("colour", "red"),))
    rows = [Known("a", "01", ()), Known("b", "02", (("colour", "red"),))]
    matches = match(rows, [bare, odd], KINDS)
    assert (matches.same, matches.new, matches.gone) == ([], [bare, odd], rows)


words = st.sampled_from(["x", "y", "z"])
identities = st.dictionaries(st.sampled_from(KINDS), words).map(lambda e: seen("", **e).identity)
known_lists = st.lists(st.tuples(st.none() | st.integers(0, 9), identities), max_size=6)
seen_lists = st.lists(st.tuples(st.integers(0, 9), identities), max_size=6, unique_by=lambda item: item[0])


@settings(max_examples=300)
@given(known_lists, seen_lists, st.randoms(use_true_random=False))
def test_a_match_parts_both_sides_and_does_not_depend_on_their_order(
    rows: list[tuple[int | None, Any]], devices: list[tuple[int, Any]], shuffled: random.Random
) -> None:
    taken: set[int] = set()
    known_now = []
    for number, (place, identity) in enumerate(rows):
        address = None if place is None or place in taken else str(place)
        taken |= {place} if place is not None else set()
        known_now.append(Known(f"u{number}", address, identity))
    seen_now = [Seen(str(place), identity) for place, identity in devices]
    matches = match(known_now, seen_now, KINDS)
    assert sorted([d.address for _, d in matches.same] + [d.address for d in matches.new]) == sorted(
        d.address for d in seen_now
    )
    assert sorted([r.uuid for r, _ in matches.same] + [r.uuid for r in matches.gone]) == sorted(
        r.uuid for r in known_now
    )
    for row, device in matches.same:
        shared = set(row.identity) & set(device.identity)
        assert shared, "matched without evidence"
    shuffled.shuffle(known_now)
    shuffled.shuffle(seen_now)
    assert same(match(known_now, seen_now, KINDS)) == same(matches)


@given(identities, st.integers(0, 3))
def test_the_uuid_of_a_new_device_is_the_same_each_time_and_never_one_that_is_taken(
    identity: Any, collisions: int
) -> None:
    device = Seen("01", identity)
    taken: set[str] = set()
    for _ in range(collisions):
        taken.add(device_uuid(HOST, device, taken))
    assert len(taken) == collisions
    fresh = device_uuid(HOST, device, taken)
    assert fresh not in taken
    assert fresh == device_uuid(HOST, device, taken)
    assert fresh != device_uuid("i" * 32, device, taken)


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A database with one host."""
    facilities.load()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def card(address: str, serial: str | None = None, **changed: Any) -> PciFunction:
    identity = [Evidence(kind="serial", value=serial)] if serial else []
    values: dict[str, Any] = {
        "address": address,
        "vendor_id": "10de",
        "device_id": "1b38",
        "subvendor_id": "10de",
        "subdevice_id": "11d9",
        "class_code": "030200",
        "revision": "a1",
        "type": "GPU_3D_Controller",
        "name": "NVIDIA_Tesla P40",
        "description": "3D controller: NVIDIA Tesla P40",
        "vendor_name": "NVIDIA",
        "device_name": "Tesla P40",
        "driver": None,
        "iommu_group": "/sys/kernel/iommu_groups/1",
        "numa_node": 0,
        "boot_critical": None,
        "identity": [*identity, Evidence(kind="path", value="00:1c.0/10de:1b38")],
    }
    return PciFunction(**{**values, **changed})


def cards(connection: Connection) -> dict[str, Any]:
    return {row.uuid: row for row in connection.execute(select(pci_table))}


def test_a_card_keeps_its_uuid_name_and_state_where_it_is_moved(connection: Connection) -> None:
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1")])
    (uuid,) = cards(connection)
    connection.execute(pci_table.update().values(name="the good one", state="Disabled"))
    sync_pci(connection, HOST, [card("0000:05:00.0", "S1", driver="vfio-pci")])
    (row,) = cards(connection).values()
    assert (row.uuid, row.name, row.state) == (uuid, "the good one", "Disabled")
    assert (row.pci_device_address, row.driver, row.status) == ("0000:05:00.0", "vfio-pci", "Active")
    history = connection.execute(select(address_table).order_by(address_table.c.id)).all()
    assert [(h.address, h.until is None) for h in history] == [
        ("0000:01:00.0", False),
        ("0000:05:00.0", True),
    ]


def test_a_card_that_is_taken_out_is_inactive_and_itself_when_it_is_back(connection: Connection) -> None:
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1")])
    (uuid,) = cards(connection)
    sync_pci(connection, HOST, [])
    assert [(r.uuid, r.status, r.pci_device_address) for r in cards(connection).values()] == [
        (uuid, "Inactive", None)
    ]
    sync_pci(connection, HOST, [card("0000:02:00.0", "S1")])
    assert [(r.uuid, r.status, r.pci_device_address) for r in cards(connection).values()] == [
        (uuid, "Active", "0000:02:00.0")
    ]


def test_a_card_of_a_vm_stays_attached_when_it_vanishes(connection: Connection) -> None:
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1")])
    connection.execute(pci_table.update().values(status="Attached", vm_instance_uuid="v" * 32))
    sync_pci(connection, HOST, [])
    assert [r.status for r in cards(connection).values()] == ["Attached"]
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1")])
    assert [r.status for r in cards(connection).values()] == ["Attached"]


def test_another_card_in_the_same_slot_is_another_device(connection: Connection) -> None:
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1")])
    (first,) = cards(connection)
    sync_pci(connection, HOST, [card("0000:01:00.0", "S2")])
    rows = cards(connection)
    assert len(rows) == 2
    assert (rows[first].status, rows[first].pci_device_address) == ("Inactive", None)
    (second,) = rows.keys() - {first}
    assert (rows[second].status, rows[second].pci_device_address) == ("Active", "0000:01:00.0")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, "Active"),
        ({"iommu_group": None}, "System"),
        ({"boot_critical": "root file system on /dev/vda1"}, "System"),
    ],
)
def test_a_card_is_free_with_an_iommu_group_and_nothing_of_the_host_on_it(
    connection: Connection, changed: dict[str, Any], status: str
) -> None:
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1")])
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1", **changed)])
    assert [r.status for r in cards(connection).values()] == [status]


def test_the_same_report_again_changes_no_row(connection: Connection) -> None:
    devices = [card("0000:01:00.0", "S1"), card("0000:02:00.0")]
    sync_pci(connection, HOST, devices)
    connection.execute(pci_table.update().values(last_op_date=1))
    sync_pci(connection, HOST, list(reversed(devices)))
    assert {row.last_op_date for row in cards(connection).values()} == {1}


def test_the_devices_of_other_hosts_are_left_alone(connection: Connection) -> None:
    other = {**card_columns(), "uuid": "o" * 32, "host_uuid": "i" * 32}
    connection.execute(insert(pci_table), other)
    sync_pci(connection, HOST, [card("0000:01:00.0", "S1")])
    sync_pci(connection, HOST, [])
    assert cards(connection)["o" * 32].status == "Active"


def card_columns() -> dict[str, Any]:
    ids = {"vendor_id": "10de", "device_id": "1b38", "subvendor_id": "10de", "subdevice_id": "11d9"}
    dates = {"create_date": 1, "last_op_date": 1}
    where = {"address": "0000:01:00.0", "pci_device_address": "0000:01:00.0"}
    rest = {"name": "n", "type": "Generic", "state": "Enabled", "status": "Active", "identity": []}
    return {**ids, **dates, **where, **rest}


def stick(port: str, dev_num: str, serial: str | None = "AB12") -> UsbDevice:
    identity = [Evidence(kind="serial", value=serial)] if serial else []
    return UsbDevice(
        bus_num="001",
        dev_num=dev_num,
        port_path=port,
        id_vendor="0781",
        id_product="5581",
        i_manufacturer="SanDisk",
        i_product="Ultra",
        i_serial=serial or "",
        usb_version="3.0",
        speed_mbit=5000.0,
        identity=[*identity, Evidence(kind="port", value=f"{port}/0781:5581")],
    )


def test_a_usb_stick_is_the_same_in_another_port_and_after_it_was_out(connection: Connection) -> None:
    sync_usb(connection, HOST, [stick("1-1", "004")])
    (first,) = connection.execute(select(usb_table)).all()
    sync_usb(connection, HOST, [stick("1-2", "005")])
    (moved,) = connection.execute(select(usb_table)).all()
    assert (moved.uuid, moved.dev_num) == (first.uuid, "005")
    sync_usb(connection, HOST, [])
    assert connection.execute(select(usb_table)).all() == []
    sync_usb(connection, HOST, [stick("1-3", "006")])
    (back,) = connection.execute(select(usb_table)).all()
    assert back.uuid == first.uuid


def test_a_usb_stick_of_a_vm_keeps_its_row_while_it_is_out(connection: Connection) -> None:
    sync_usb(connection, HOST, [stick("1-1", "004")])
    connection.execute(usb_table.update().values(vm_instance_uuid="v" * 32))
    sync_usb(connection, HOST, [])
    (row,) = connection.execute(select(usb_table)).all()
    assert (row.vm_instance_uuid, row.bus_num, row.dev_num) == ("v" * 32, None, None)
    sync_usb(connection, HOST, [stick("1-1", "009")])
    (row,) = connection.execute(select(usb_table)).all()
    assert (row.vm_instance_uuid, row.dev_num) == ("v" * 32, "009")
