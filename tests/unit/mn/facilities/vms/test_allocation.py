"""What a VM must have before a host is chosen for it."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, update

from agentkit.errors import HardpointError
from mn.db.global_settings import GlobalSettings
from mn.facilities.hosts.tables import host_table
from mn.facilities.vms.allocation import Wish, place_vm
from mn.facilities.vms.draining import forget_vms
from mn.facilities.vms.life import end_start
from mn.facilities.vms.tables import load_vm
from tests.unit.mn.facilities.fleet import HOST, VM, new_connection, put_vm, put_volume

VOLUME = "d" * 32
SETTINGS = GlobalSettings(None)  # type: ignore[arg-type]


def stopped_vm(status: str, path: str | None) -> Connection:
    """Return a database with a VM that is stopped and its volume, which is on no storage."""
    connection = new_connection()
    room = {"total_cpu_capacity": 4, "total_memory_capacity": 2**33}
    room |= {"available_cpu_capacity": 4, "available_memory_capacity": 2**33}
    connection.execute(update(host_table).where(host_table.c.uuid == HOST).values(**room))
    put_vm(connection, state="Stopped", host_uuid=None)
    put_volume(connection, VOLUME, name="v", status=status, path=path, primary_storage_uuid=None)
    return connection


@pytest.mark.parametrize(
    "status", ["Migrating", "Snapshotting", "Reverting", "Merging", "Resizing", "Creating"]
)
def test_a_vm_does_not_start_while_a_job_works_on_its_volume(status: str) -> None:
    connection = stopped_vm(status, "v.qcow2")
    with pytest.raises(HardpointError, match=f"volume v .* is {status}, not Ready") as raised:
        place_vm(connection, VM, Wish(), SETTINGS)
    assert raised.value.code == "VOLUME.1000"
    row = load_vm(connection, VM)
    assert row is not None
    assert (row.state, row.host_uuid) == ("Stopped", None)


def test_a_volume_that_is_nowhere_yet_holds_up_nothing() -> None:
    connection = stopped_vm("NotInstantiated", None)
    assert place_vm(connection, VM, Wish(), SETTINGS).host_uuid == HOST


def test_a_vm_whose_host_is_deleted_while_it_starts_is_not_said_to_run_nowhere() -> None:
    connection = stopped_vm("Ready", None)
    place_vm(connection, VM, Wish(), SETTINGS)
    forget_vms(connection, HOST)
    with pytest.raises(HardpointError, match="is Stopped, not Starting or Rebooting"):
        end_start(connection, VM)
    row = load_vm(connection, VM)
    assert row is not None
    assert (row.state, row.host_uuid) == ("Stopped", None)
