"""What may be changed of a PCI device, and when it may be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from agentkit.errors import HardpointError
from mn.facilities.devices import address_table, note_addresses
from mn.facilities.pci.changes import UpdatePciDevice, delete_device, update_device
from mn.facilities.pci.offering_tables import pci_offering_table
from mn.facilities.pci.offerings import CreatePciDeviceOffering, insert_offering
from mn.facilities.pci.tables import pci_table
from tests.unit.mn.facilities.fleet import VM, new_connection, put_pci

CARD = "c" * 32


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        put_pci(connection, CARD)
        note_addresses(connection, {CARD: "0000:01:00.0"})
        yield connection


def card(connection: Connection) -> Any:
    return connection.execute(select(pci_table).where(pci_table.c.uuid == CARD)).one_or_none()


def change(connection: Connection, **wanted: Any) -> Any:
    update_device(connection, UpdatePciDevice(uuid=CARD, **wanted))
    return card(connection)


def test_what_is_given_is_written_and_the_rest_stays(connection: Connection) -> None:
    row = change(connection, state="Disabled", description="test pci", meta_data="a:1")
    assert (row.name, row.state, row.description) == ("GPU", "Disabled", "test pci")
    assert row.meta_data["metaData"] == "a:Equal:1"
    again = change(connection, name="the good one")
    assert (again.name, again.state, again.meta_data) == ("the good one", "Disabled", row.meta_data)


def test_an_empty_text_clears_the_metadata(connection: Connection) -> None:
    change(connection, meta_data="a:1")
    assert change(connection, meta_data="").meta_data is None


def test_a_device_that_a_vm_has_is_not_disabled_and_the_vm_is_named(connection: Connection) -> None:
    connection.execute(update(pci_table).values(status="Attached", vm_instance_uuid=VM))
    with pytest.raises(HardpointError) as caught:
        change(connection, state="Disabled")
    assert caught.value.code == "SYS.1006"
    assert VM in caught.value.details
    assert "detach" in str(caught.value.remedy)
    assert change(connection, state="Enabled", name="n").name == "n"


@pytest.mark.parametrize("status", ["System", "Active", "Attached"])
def test_only_a_device_that_is_gone_is_deleted(connection: Connection, status: str) -> None:
    connection.execute(update(pci_table).values(status=status))
    with pytest.raises(HardpointError) as caught:
        delete_device(connection, CARD)
    assert caught.value.code == "SYS.1006"
    assert status in caught.value.details
    assert card(connection)


def test_a_device_that_a_vm_has_is_not_deleted_whatever_its_status(connection: Connection) -> None:
    connection.execute(update(pci_table).values(status="Inactive", vm_instance_uuid=VM))
    with pytest.raises(HardpointError, match="VM"):
        delete_device(connection, CARD)
    assert card(connection)


def test_a_device_is_deleted_with_its_history_and_its_place_in_offerings(connection: Connection) -> None:
    wanted = CreatePciDeviceOffering(vendor_id="10de", device_id="1b38")
    insert_offering(connection, "3" * 32, wanted)
    connection.execute(update(pci_table).values(status="Inactive"))
    delete_device(connection, CARD)
    assert card(connection) is None
    assert connection.execute(select(address_table)).all() == []
    assert connection.execute(select(pci_offering_table.c.matched_pci_devices)).scalar() == []
    delete_device(connection, CARD)  # gone already
