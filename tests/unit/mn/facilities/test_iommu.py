"""Whose IOMMU may be changed, and when it must be written again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, StaticPool, create_engine, event, insert, update

from agentkit.errors import HardpointError
from kvmagent.protocol import IommuReport
from mn import facilities
from mn.db.schema import metadata
from mn.facilities.clusters import cluster_table
from mn.facilities.hosts.tables import host_table
from mn.facilities.pci.iommu import check_change, is_missing, is_wanted, load_state, save_state
from mn.facilities.pci.tables import pci_table
from mn.facilities.zones import zone_table

HOST = "a" * 32
DATES = {"create_date": 0, "last_op_date": 0}


@pytest.fixture
def connection() -> Iterator[Connection]:
    facilities.load()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA foreign_keys=ON"))
    metadata.create_all(engine)
    zone = {"uuid": "1" * 32, "name": "z", "state": "Enabled", "type": "zstack", **DATES}
    cluster = {**zone, "uuid": "2" * 32, "hypervisor_type": "KVM", "zone_uuid": zone["uuid"]}
    host = {
        "uuid": HOST,
        "name": "h1",
        "zone_uuid": zone["uuid"],
        "cluster_uuid": cluster["uuid"],
        "management_ip": "192.0.2.1",
        "hypervisor_type": "KVM",
        "state": "Enabled",
        "status": "Connected",
        "username": "root",
        "password": "sealed",
        "ssh_port": 22,
        "agent_address": "192.0.2.1",
        "agent_port": 7070,
        **DATES,
    }
    device = {
        "uuid": "d" * 32,
        "name": "GPU",
        "host_uuid": HOST,
        "vm_instance_uuid": "e" * 32,
        "vendor_id": "10de",
        "device_id": "1eb8",
        "subvendor_id": "10de",
        "subdevice_id": "12a2",
        "type": "Generic",
        "state": "Enabled",
        "status": "Attached",
        "identity": [],
        **DATES,
    }
    with engine.begin() as connection:
        for table, row in (
            (zone_table, zone),
            (cluster_table, cluster),
            (host_table, host),
            (pci_table, device),
        ):
            connection.execute(insert(table), row)
        yield connection


def refusal(connection: Connection, state: str) -> HardpointError:
    with pytest.raises(HardpointError) as caught:
        check_change(connection, HOST, state)
    assert caught.value.code == "SYS.1006"
    assert caught.value.remedy
    return caught.value


def test_it_is_not_disabled_while_a_vm_has_a_device_and_both_are_named(connection: Connection) -> None:
    assert check_change(connection, HOST, "Enabled").state == "Disabled"
    details = refusal(connection, "Disabled").details
    assert "GPU" in details
    assert "e" * 32 in details
    connection.execute(update(pci_table).values(status="Active", vm_instance_uuid=None))
    assert check_change(connection, HOST, "Disabled").endpoint.port == 7070


@pytest.mark.parametrize("status", ["Connecting", "Disconnected"])
def test_a_host_that_does_not_answer_is_refused(connection: Connection, status: str) -> None:
    connection.execute(update(host_table).values(status=status))
    assert f"h1 ({HOST}) is {status}" in refusal(connection, "Enabled").details


def test_a_host_that_is_not_kvm_is_refused(connection: Connection) -> None:
    connection.execute(update(host_table).values(hypervisor_type="Simulator"))
    assert "Simulator" in refusal(connection, "Enabled").details


def test_what_is_wanted_is_kept_until_the_host_goes(connection: Connection) -> None:
    assert load_state(connection, HOST) == "Disabled"
    save_state(connection, HOST, "Enabled")
    save_state(connection, HOST, "Enabled")
    assert load_state(connection, HOST) == "Enabled"
    save_state(connection, HOST, "Disabled")
    assert load_state(connection, HOST) == "Disabled"
    with pytest.raises(HardpointError, match="no Host"):
        save_state(connection, "0" * 32, "Enabled")


def test_it_is_wanted_while_somebody_has_asked_for_it(connection: Connection) -> None:
    assert not is_wanted(connection, HOST)
    save_state(connection, HOST, "Enabled")
    assert is_wanted(connection, HOST)
    save_state(connection, HOST, "Disabled")
    assert not is_wanted(connection, HOST)


@pytest.mark.parametrize(
    ("option", "configured", "missing"),
    [
        ("intel_iommu=on", False, True),
        ("intel_iommu=on", True, False),
        (None, False, False),
        (None, True, False),
    ],
)
def test_it_is_missing_where_the_next_boot_has_to_ask_for_it_and_does_not(
    option: str | None, configured: bool, missing: bool
) -> None:
    assert is_missing(IommuReport("Inactive", option, configured, False, "GRUB")) == missing
