"""Each check finds what it is for, says how it shows, and finds nothing where all is well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Table, update

from agentkit.errors import ErrorBody
from mn import facilities
from mn.facilities.backup_storage.tables import backup_storage_table
from mn.facilities.devices import note_addresses
from mn.facilities.hosts.tables import host_table
from mn.facilities.issues.findings import Finding, check, known_checks
from mn.facilities.pci.iommu import host_iommu_table
from mn.facilities.pci.tables import pci_table
from mn.facilities.primary_storage.shared_block.tables import host_table as group_host_table
from mn.facilities.primary_storage.tables import cluster_ref_table, host_ref_table, primary_storage_table
from mn.facilities.usb.tables import usb_table
from mn.facilities.vms.tables import vm_table
from mn.rest.operation import registry
from tests.contract.catalogue import OPERATIONS
from tests.unit.mn.facilities.fleet import (
    CLUSTER,
    HOST,
    STORAGE,
    VM,
    new_connection,
    put,
    put_host,
    put_pci,
    put_storage,
    put_usb,
    put_vm,
)

DEVICE, STORE, OTHER = "c" * 32, "6" * 32, "b" * 32


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        yield connection


def found(connection: Connection, code: str) -> list[Finding]:
    """What a check finds; no other check finds anything."""
    by_code = {c.code: c.find(connection) for c in known_checks().values()}
    assert [other for other, findings in by_code.items() if findings and other != code] == []
    return by_code[code]


def write(connection: Connection, table: Table, **values: Any) -> None:
    connection.execute(update(table).values(**values))


def test_a_healthy_fleet_has_no_issues(connection: Connection) -> None:
    put_vm(connection)
    put_pci(connection, DEVICE, status="Attached", vm_instance_uuid=VM)
    put_usb(connection, OTHER, vm_instance_uuid=VM)
    assert [c.code for c in known_checks().values() if c.find(connection)] == []


def test_a_pci_device_that_a_vm_has_and_the_host_has_not(connection: Connection) -> None:
    put_vm(connection)
    put_pci(connection, DEVICE, status="Attached", vm_instance_uuid=VM)
    note_addresses(connection, {DEVICE: "0000:3b:00.0"})
    note_addresses(connection, {DEVICE: None})
    write(connection, pci_table, address=None)
    (finding,) = found(connection, "PCI.DEVICE_MISSING")
    assert (finding.resource_uuid, finding.resource_name) == (DEVICE, "GPU")
    assert f"VM vm ({VM}) has it, host host-aaaa ({HOST}) does not show it" in finding.evidence
    assert "it was at 0000:3b:00.0 until " in finding.evidence
    write(connection, pci_table, vm_instance_uuid=None, status="Inactive")
    assert found(connection, "PCI.DEVICE_MISSING") == []


def test_a_usb_device_that_a_vm_has_and_the_host_has_not(connection: Connection) -> None:
    put_usb(connection, DEVICE, vm_instance_uuid=VM, address=None)
    (finding,) = found(connection, "USB.DEVICE_MISSING")
    assert f"VM ? ({VM})" in finding.evidence, "a VM that is gone is named by its uuid"
    write(connection, usb_table, address="1-3")
    assert found(connection, "USB.DEVICE_MISSING") == []


def test_an_iommu_that_is_wanted_and_not_there(connection: Connection) -> None:
    write(connection, host_table, facts={"iommu": False})
    assert found(connection, "IOMMU.INACTIVE") == [], "nobody wants it"
    put(connection, host_iommu_table, host_uuid=HOST, state="Enabled")
    assert [f.resource_uuid for f in found(connection, "IOMMU.INACTIVE")] == [HOST]
    write(connection, host_table, facts={"iommu": True})
    assert found(connection, "IOMMU.INACTIVE") == []
    write(connection, host_table, facts=None)
    assert found(connection, "IOMMU.INACTIVE") == [], "nothing is known of it"


def test_a_host_that_does_not_answer(connection: Connection) -> None:
    write(connection, host_table, status="Disconnected")
    (finding,) = found(connection, "HOST.DISCONNECTED")
    assert finding.evidence == f"its agent does not answer at host-{HOST}.example"
    error = ErrorBody("HOST.1002", "Unable", "no route to it")
    write(
        connection,
        host_table,
        login="Refused",
        reconnect_error=msgspec.json.encode(error).decode(),
    )
    (finding,) = found(connection, "HOST.DISCONNECTED")
    assert "refuses the user name or the password" in finding.evidence
    assert "no route to it" in finding.evidence


@pytest.mark.parametrize(
    "changed",
    [{"status": "Connecting"}, {"status": "Disconnected", "state": "Maintenance"}],
)
def test_a_host_that_is_new_or_in_maintenance_may_be_silent(
    connection: Connection, changed: dict[str, str]
) -> None:
    write(connection, host_table, **changed)
    assert found(connection, "HOST.DISCONNECTED") == []


def attach(connection: Connection) -> None:
    put(connection, cluster_ref_table, uuid="7" * 32, primary_storage_uuid=STORAGE, cluster_uuid=CLUSTER)


def use(connection: Connection, host_uuid: str, status: str, reason: str | None = None) -> None:
    keys = {"uuid": host_uuid, "primary_storage_uuid": STORAGE, "host_uuid": host_uuid}
    put(connection, host_ref_table, **keys, status=status, reason=reason)


def test_a_storage_that_no_host_can_use_is_one_issue_with_what_a_host_said(connection: Connection) -> None:
    put_storage(connection, status="Disconnected")
    assert found(connection, "PS.DISCONNECTED") == [], "no cluster has it"
    attach(connection)
    use(connection, HOST, "Disconnected", "the server does not answer")
    (finding,) = found(connection, "PS.DISCONNECTED")
    assert (finding.resource_uuid, finding.resource_name) == (STORAGE, "nfs")
    assert finding.evidence == "no host can use 192.0.2.7:/export: the server does not answer"
    write(connection, primary_storage_table, state="Maintenance")
    assert found(connection, "PS.DISCONNECTED") == []


def test_a_host_among_others_that_cannot_use_a_storage(connection: Connection) -> None:
    put_host(connection, OTHER)
    put_storage(connection)
    attach(connection)
    use(connection, HOST, "Connected")
    use(connection, OTHER, "Disconnected", "not mounted")
    (finding,) = found(connection, "PS.HOST_DISCONNECTED")
    assert finding == Finding(
        STORAGE, "nfs", f"host host-bbbb ({OTHER}) cannot use it: not mounted", part=OTHER
    )


def test_a_lease_in_danger_is_one_issue_by_the_name_of_its_cause(connection: Connection) -> None:
    put_storage(connection, type="SharedBlock", name="blocks")
    attach(connection)
    use(connection, HOST, "Disconnected", "LeaseLost: late")
    ref = {"uuid": OTHER, "primary_storage_uuid": STORAGE, "host_uuid": HOST, "host_id": 1}
    lost = {"lock_state": "LeaseLost", "reason": "the lease was last renewed 90 s ago"}
    put(connection, group_host_table, **ref, status="Disconnected", **lost)
    (finding,) = found(connection, "PS.SHARED_BLOCK_LOCK")
    assert (finding.resource_name, finding.part) == ("blocks", HOST)
    assert "LeaseLost, the lease was last renewed 90 s ago" in finding.evidence
    write(connection, group_host_table, lock_state="Held")
    assert found(connection, "PS.SHARED_BLOCK_LOCK") == []


def test_the_storages_of_a_lost_host_are_no_issues_of_their_own(connection: Connection) -> None:
    put_host(connection, OTHER, status="Disconnected")
    put_storage(connection)
    use(connection, OTHER, "Disconnected")
    assert [f.resource_uuid for f in found(connection, "HOST.DISCONNECTED")] == [OTHER]


def test_a_backup_storage_that_does_not_answer(connection: Connection) -> None:
    values = {"uuid": STORE, "name": "store", "url": "/srv", "hostname": "192.0.2.9", "state": "Enabled"}
    numbers = {"total_capacity": 0, "available_capacity": 0, "attached_zone_uuids": []}
    kind = {"type": "ImageStoreBackupStorage", "status": "Disconnected"}
    put(connection, backup_storage_table, **values, **numbers, **kind)
    (finding,) = found(connection, "BS.DISCONNECTED")
    assert "192.0.2.9 does not answer" in finding.evidence
    write(connection, backup_storage_table, status="Connected")
    assert found(connection, "BS.DISCONNECTED") == []


def test_a_vm_of_which_nobody_knows_whether_it_runs(connection: Connection) -> None:
    put_vm(connection, state="Unknown")
    (finding,) = found(connection, "VM.UNKNOWN")
    assert f"host host-aaaa ({HOST}), which is Connected" in finding.evidence
    write(connection, vm_table, state="Running")
    assert found(connection, "VM.UNKNOWN") == []


def test_a_vm_that_was_lost_on_its_way_to_another_host(connection: Connection) -> None:
    put_host(connection, OTHER)
    put_vm(connection, state="Unknown", destination_host_uuid=OTHER)
    (finding,) = found(connection, "VM.UNKNOWN")
    assert f"on its way to host host-bbbb ({OTHER}), which is Connected" in finding.evidence


def test_every_check_says_what_helps_and_names_an_operation_of_the_api() -> None:
    facilities.load()
    checks = known_checks().values()
    assert len(checks) == 13
    for known in checks:
        assert known.operation in registry or known.operation in OPERATIONS, known.code
        assert known.operation in known.remedy, known.code
        assert known.severity in ("Critical", "Warning")


def test_two_checks_of_one_code_are_a_fault_of_the_program() -> None:
    facilities.load()
    with pytest.raises(TypeError, match=r"HOST\.DISCONNECTED"):
        check("HOST.DISCONNECTED", "Host", severity="Warning", operation="x", remedy="x")(lambda _: [])
