"""Which USB devices a VM may have, and what is amiss on a host that was away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, StaticPool, create_engine, event, insert, select, update

from agentkit.errors import HardpointError
from kvmagent.protocol import Evidence
from kvmagent.protocol_usb import USB_DEVICES_MOST
from kvmagent.protocol_vms import VmUsbDevice
from mn import facilities
from mn.db.schema import metadata
from mn.facilities.clusters import cluster_table
from mn.facilities.hosts.tables import host_table
from mn.facilities.usb.attach import claim, claim_again, load_keeper, release, unclaim
from mn.facilities.usb.candidates import load_device, load_taker, reasons_against, sort_devices
from mn.facilities.usb.following import load_amiss, what_is_amiss
from mn.facilities.usb.tables import usb_table
from mn.facilities.vms.domain_devices import hindered_by_devices, load_usb
from mn.facilities.vms.tables import vm_table
from mn.facilities.zones import zone_table
from tests.unit.mn.facilities.fleet import seen_vm

ZONE, CLUSTER, HOST, OTHER_HOST, VM, OTHER_VM, STICK = (digit * 32 for digit in "1234567")
DATES = {"create_date": 0, "last_op_date": 0}


def host(uuid: str, **changes: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": f"host-{uuid[0]}",
        "zone_uuid": ZONE,
        "cluster_uuid": CLUSTER,
        "management_ip": f"192.0.2.{uuid[0]}",
        "hypervisor_type": "KVM",
        "state": "Enabled",
        "status": "Connected",
        "username": "root",
        "password": "sealed",
        "ssh_port": 22,
        "agent_address": "192.0.2.1",
        "agent_port": 7070,
        **DATES,
        **changes,
    }


def vm(uuid: str, **changes: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": "vm",
        "zone_uuid": ZONE,
        "cluster_uuid": CLUSTER,
        "host_uuid": HOST,
        "type": "UserVm",
        "memory_size": 1,
        "cpu_num": 1,
        "cpu_speed": 0,
        "allocator_strategy": "x",
        "state": "Running",
        "turn": 0,
        "console_password": "sealed",
        **DATES,
        **changes,
    }


def stick(uuid: str = STICK, **changes: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": "stick",
        "host_uuid": HOST,
        "state": "Enabled",
        "bus_num": "001",
        "dev_num": "005",
        "id_vendor": "0781",
        "id_product": "5581",
        "i_manufacturer": "",
        "i_product": "",
        "i_serial": "A1",
        "usb_version": "2.0",
        "address": "1-1",
        "identity": [["serial", "0781:5581:A1"], ["port", "0781:5581@x/1"]],
        **DATES,
        **changes,
    }


@pytest.fixture
def connection() -> Iterator[Connection]:
    facilities.load()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA foreign_keys=ON"))
    metadata.create_all(engine)
    zone = {"uuid": ZONE, "name": "z", "state": "Enabled", "type": "zstack", **DATES}
    cluster = {**zone, "uuid": CLUSTER, "hypervisor_type": "KVM", "zone_uuid": ZONE}
    with engine.begin() as connection:
        for table, row in (
            (zone_table, zone),
            (cluster_table, cluster),
            (host_table, host(HOST)),
            (host_table, host(OTHER_HOST)),
            (vm_table, vm(VM)),
            (vm_table, vm(OTHER_VM)),
            (usb_table, stick()),
        ):
            connection.execute(insert(table), row)
        yield connection


def reasons(connection: Connection) -> list[str]:
    device = load_device(connection, STICK)
    assert device is not None
    found = reasons_against(load_taker(connection, VM), device)
    uuids, refused = sort_devices(connection, VM, everywhere=True)
    assert (STICK in {one.uuid for one in refused}) == bool(found), "what is no candidate has a reason"
    assert (STICK in uuids) != bool(found)
    return found


def owner(connection: Connection) -> str | None:
    return connection.execute(select(usb_table.c.vm_instance_uuid)).scalar()


def test_a_device_of_the_vms_host_that_nobody_has_is_a_candidate(connection: Connection) -> None:
    assert reasons(connection) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "Disabled"}, "it is Disabled"),
        ({"vm_instance_uuid": VM}, "it is attached to this VM already"),
        ({"vm_instance_uuid": OTHER_VM}, f"it is attached to VM {OTHER_VM}"),
        ({"address": None}, "it is not plugged in"),
        ({"boot_critical": "swap on /dev/sda"}, "its host would lose swap on /dev/sda"),
        ({"host_uuid": OTHER_HOST}, f"it is on host host-4 ({OTHER_HOST}), the VM runs on {HOST}"),
    ],
)
def test_why_a_device_is_no_candidate(connection: Connection, changes: dict[str, Any], reason: str) -> None:
    connection.execute(update(usb_table).values(**changes))
    assert reasons(connection) == [reason]
    with pytest.raises(HardpointError) as caught:
        claim(connection, STICK, VM)
    assert caught.value.code == "SYS.1006"
    assert reason in caught.value.details
    assert owner(connection) == changes.get("vm_instance_uuid")


def test_all_reasons_are_told_at_once(connection: Connection) -> None:
    connection.execute(update(usb_table).values(state="Disabled", address=None))
    connection.execute(update(host_table).values(status="Disconnected"))
    assert reasons(connection) == [
        "it is Disabled",
        "it is not plugged in",
        f"its host host-3 ({HOST}) is Disconnected",
    ]


def test_a_vm_that_has_never_run_may_have_one_of_its_own_cluster_and_zone(connection: Connection) -> None:
    connection.execute(update(vm_table).values(state="Created", host_uuid=None))
    assert reasons(connection) == []
    connection.execute(update(vm_table).values(cluster_uuid="9" * 32))
    device = load_device(connection, STICK)
    assert reasons_against(load_taker(connection, VM), device) == ["it is in another cluster than the VM"]
    connection.execute(update(vm_table).values(cluster_uuid=None))
    assert reasons(connection) == []


def test_a_vm_has_as_many_devices_as_its_controller_has_ports(connection: Connection) -> None:
    held = [stick(f"{n:032x}", vm_instance_uuid=VM) for n in range(USB_DEVICES_MOST)]
    connection.execute(insert(usb_table), held)
    assert reasons(connection) == [
        f"the VM has {USB_DEVICES_MOST} USB devices already, which is as many as it can have"
    ]


def test_a_running_vms_host_is_told_and_a_stopped_vm_has_its_row_only(connection: Connection) -> None:
    plugged = claim(connection, STICK, VM)
    assert plugged.at is not None
    assert plugged.at.host_uuid == HOST
    identity = [Evidence(kind="serial", value="0781:5581:A1"), Evidence(kind="port", value="0781:5581@x/1")]
    assert load_usb(connection, VM) == [VmUsbDevice(device_uuid=STICK, identity=identity)]
    unclaim(connection, STICK, VM)
    assert owner(connection) is None
    connection.execute(update(vm_table).values(state="Stopped", host_uuid=None, last_host_uuid=HOST))
    assert claim(connection, STICK, VM).at is None
    assert owner(connection) == VM


def test_a_device_is_not_taken_while_a_job_is_at_its_vm(connection: Connection) -> None:
    """A VM that is starting has been told of it already."""
    claim(connection, STICK, VM)
    connection.execute(update(vm_table).values(state="Starting"))
    with pytest.raises(HardpointError, match="is Starting"):
        release(connection, STICK, VM)


def test_the_device_of_a_vm_whose_host_is_lost_is_freed_without_the_host(connection: Connection) -> None:
    claim(connection, STICK, VM)
    connection.execute(update(host_table).values(status="Disconnected"))
    assert release(connection, STICK, VM).at is None
    assert owner(connection) is None


def test_a_device_is_given_back_to_a_vm_that_is_still_there(connection: Connection) -> None:
    claim(connection, STICK, VM)
    assert release(connection, STICK, VM).at is not None
    claim_again(connection, STICK, "9" * 32)
    assert owner(connection) is None
    assert load_keeper(connection, STICK, VM) is None
    claim_again(connection, STICK, VM)
    assert owner(connection) == VM
    assert load_keeper(connection, STICK, VM) is not None
    connection.execute(update(vm_table).values(state="Stopped", host_uuid=None))
    assert load_keeper(connection, STICK, VM) is None


def test_another_host_cannot_have_a_vm_with_a_device(connection: Connection) -> None:
    hosts = {row.uuid: row for row in connection.execute(select(host_table))}
    assert hindered_by_devices(connection, VM, hosts[OTHER_HOST]) is None
    claim(connection, STICK, VM)
    assert hindered_by_devices(connection, VM, hosts[HOST]) is None
    assert f"USB device stick ({STICK})" in (hindered_by_devices(connection, VM, hosts[OTHER_HOST]) or "")


def test_a_vm_loses_what_is_not_its_own_and_gets_what_it_lacks(connection: Connection) -> None:
    claim(connection, STICK, VM)
    (wanted,) = load_usb(connection, VM)
    assert load_amiss(connection, [seen_vm(VM, STICK), seen_vm(OTHER_VM)]) == []
    lacking, surplus = load_amiss(connection, [seen_vm(VM), seen_vm(OTHER_VM, STICK)])
    assert (lacking.vm_uuid, lacking.surplus, lacking.lacking) == (VM, [], [wanted])
    assert (surplus.vm_uuid, surplus.surplus, surplus.lacking) == (OTHER_VM, [STICK], [])
    assert load_amiss(connection, [seen_vm("9" * 32, STICK)]) == [], "VMs that are not known are left alone"


def test_nothing_is_amiss_where_all_is_as_wanted() -> None:
    wanted = VmUsbDevice(device_uuid=STICK, identity=[])
    assert what_is_amiss(VM, {STICK}, [wanted]) is None
    assert what_is_amiss(VM, set(), []) is None
