"""Claims on PCI devices: they follow their device, take no other for it, and are bound anew by one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Row, select

from agentkit.errors import HardpointError
from kvmagent.protocol import Evidence, PciFunction
from mn.db.global_settings import ALL, GlobalSettings
from mn.facilities.pci.claims import load_pci, lost_pci, note_attached, note_free
from mn.facilities.pci.extensions import check_rebind
from mn.facilities.pci.following import load_surplus
from mn.facilities.pci.tables import pci_table, sync_pci
from tests.unit.mn.facilities.fleet import HOST, VM, new_connection, put_vm, seen_vm

SETTINGS = cast("GlobalSettings", {setting: setting.default for setting in ALL})


def function(address: str, serial: str | None, **more: Any) -> PciFunction:
    identity = [Evidence(kind="serial", value=serial)] if serial else []
    values: dict[str, Any] = {
        "vendor_id": "8086",
        "device_id": "10d3",
        "subvendor_id": "0000",
        "subdevice_id": "0000",
        "class_code": "020000",
        "revision": "00",
        "type": "Generic",
        "name": f"card {serial}",
        "description": "",
        "vendor_name": "",
        "device_name": "",
        "driver": "e1000e",
        "iommu_group": f"/g/{address}",
        "numa_node": None,
        "boot_critical": None,
        "identity": [*identity, Evidence(kind="path", value=f"slot of {address}")],
    }
    return PciFunction(address=address, **values | more)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        put_vm(connection, state="Stopped", host_uuid=None, last_host_uuid=HOST)
        yield connection


def rows(connection: Connection) -> dict[str, Row[Any]]:
    return {row.name: row for row in connection.execute(select(pci_table))}


def test_a_claim_follows_its_device_to_another_address(connection: Connection) -> None:
    sync_pci(connection, HOST, [function("01:00.0", "x")])
    card = rows(connection)["card x"]
    note_attached(connection, [card.uuid], VM)
    sync_pci(connection, HOST, [function("06:00.0", "x")])
    (told,) = load_pci(connection, VM, without_reset=False)
    assert (told.device_uuid, told.address) == (card.uuid, "06:00.0")
    assert lost_pci(connection, VM) is None


def test_a_device_that_a_vm_has_shows_less_and_is_known_by_what_it_showed(connection: Connection) -> None:
    sync_pci(connection, HOST, [function("01:00.0", "x")])
    card = rows(connection)["card x"]
    note_attached(connection, [card.uuid], VM)
    sync_pci(connection, HOST, [function("01:00.0", None, driver="vfio-pci")])
    sync_pci(connection, HOST, [function("06:00.0", "x")])
    (row,) = rows(connection).values()
    assert (row.uuid, row.address, row.vm_instance_uuid) == (card.uuid, "06:00.0", VM)
    assert [kind for kind, _ in row.identity] == ["serial", "path"]


def test_another_device_at_its_address_is_refused_with_both_and_one_call_takes_it(
    connection: Connection,
) -> None:
    sync_pci(connection, HOST, [function("01:00.0", "x")])
    old = rows(connection)["card x"]
    note_attached(connection, [old.uuid], VM)
    sync_pci(connection, HOST, [function("01:00.0", "y")])
    new = rows(connection)["card y"]
    reason = lost_pci(connection, VM) or ""
    assert f"card x ({old.uuid}) is gone" in reason
    assert f"at 01:00.0, where it was, is card y ({new.uuid})" in reason
    assert f"RebindPciDevice with newPciDeviceUuid {new.uuid}" in reason
    claim = check_rebind(connection, old.uuid, new.uuid, SETTINGS)
    assert (claim.uuids, claim.vm_uuid, claim.running) == ([new.uuid], VM, False)
    note_attached(connection, claim.uuids, VM)
    note_free(connection, [old.uuid])
    assert lost_pci(connection, VM) is None
    assert {name: row.status for name, row in rows(connection).items()} == {
        "card x": "Inactive",
        "card y": "Attached",
    }


def test_of_two_that_want_a_device_one_is_refused(connection: Connection) -> None:
    sync_pci(connection, HOST, [function("01:00.0", "x")])
    (card,) = rows(connection).values()
    note_attached(connection, [card.uuid], VM)
    with pytest.raises(HardpointError, match="another VM has got one"):
        note_attached(connection, [card.uuid], "f" * 32)
    assert rows(connection)["card x"].vm_instance_uuid == VM


def test_what_a_vm_has_and_is_not_its_own_is_found(connection: Connection) -> None:
    sync_pci(connection, HOST, [function("01:00.0", "x"), function("02:00.0", "y")])
    mine, other = rows(connection)["card x"].uuid, rows(connection)["card y"].uuid
    note_attached(connection, [mine], VM)
    seen = seen_vm(VM, mine, other, "0" * 32)
    (surplus,) = load_surplus(connection, [seen])
    assert (surplus.vm_uuid, surplus.device_uuids) == (VM, [other])
    note_attached(connection, [other], VM)
    assert load_surplus(connection, [seen]) == []
