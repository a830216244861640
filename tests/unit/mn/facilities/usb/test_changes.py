"""What may be changed of a USB device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from agentkit.errors import HardpointError
from mn.facilities.usb.changes import UpdateUsbDevice, update_device
from mn.facilities.usb.tables import usb_table
from tests.unit.mn.facilities.fleet import VM, new_connection, put_usb

STICK = "c" * 32


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        put_usb(connection, STICK)
        yield connection


def change(connection: Connection, **wanted: Any) -> Any:
    update_device(connection, UpdateUsbDevice(uuid=STICK, **wanted))
    return connection.execute(select(usb_table)).one()


def test_what_is_given_is_written_and_the_rest_stays(connection: Connection) -> None:
    row = change(connection, name="usb", description="a stick", state="Disabled")
    assert (row.name, row.description, row.state) == ("usb", "a stick", "Disabled")
    assert change(connection, state="Enabled").name == "usb"


def test_a_device_that_a_vm_has_is_not_disabled_and_the_vm_is_named(connection: Connection) -> None:
    connection.execute(update(usb_table).values(vm_instance_uuid=VM))
    with pytest.raises(HardpointError) as caught:
        change(connection, state="Disabled", name="not written either")
    assert caught.value.code == "SYS.1006"
    assert VM in caught.value.details
    assert connection.execute(select(usb_table.c.name)).scalar() == "stick"
