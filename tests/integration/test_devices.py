"""A recorded machine through a real node and agent: its devices come, go and move, and stay who they are."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmagent.record import unpack
from tests import postgres
from tests.node import Node, Rest, run_node

MACHINES = Path(__file__).parents[1] / "machines"
PCI = "/pci-device/pci-devices"
USB = "/usb-device/usb-devices"
DEADLINE_S = 120.0
RESCAN_S = "1"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    root = tmp_path / "machine"
    unpack(MACHINES / "four-socket-2013.tar.xz", root)
    return root


@pytest.fixture
def node(tmp_path: Path, machine: Path) -> Iterator[Node]:
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(machine), "HARDPOINT_LOCAL_AGENT_RESCAN_S": RESCAN_S}
    yield from run_node(tmp_path / "state", environment)


@pytest.fixture
def host(node: Node) -> tuple[Rest, dict[str, Any]]:
    admin = node.rest().logged_in()
    zone = admin.create("/zones", name="zone")
    cluster = admin.create("/clusters", name="cluster", zoneUuid=zone["uuid"], hypervisorType="KVM")
    added = admin.create(
        "/hosts/kvm",
        name="host",
        clusterUuid=cluster["uuid"],
        managementIp="127.0.0.1",
        username="root",
        password="unset",
    )
    return admin, added


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S:g} s: {what}"
        time.sleep(0.05)


def agent_pid(node: Node, host_uuid: str) -> int:
    ready = json.loads((node.state / "agents" / host_uuid / "ready.json").read_text())
    return int(ready["pid"])


def function_folder(machine: Path, address: str) -> Path:
    """The real folder of a PCI function below the recorded /sys/devices."""
    return (machine / "sys/bus/pci/devices" / address).resolve()


def move(machine: Path, old: str, new: str) -> None:
    """Give a function another address on its bus, as a kernel does that numbers buses anew."""
    folder = function_folder(machine, old)
    target = folder.with_name(new)
    folder.rename(target)
    link = machine / "sys/bus/pci/devices" / old
    link.unlink()
    (machine / "sys/bus/pci/devices" / new).symlink_to(
        os.path.relpath(target, machine / "sys/bus/pci/devices")
    )


def give_serial(folder: Path, serial: int) -> None:
    """Give a function a configuration space with a device serial number capability."""
    file = folder / "config"
    config = bytearray(file.read_bytes().ljust(4096, b"\0")[:4096])
    config[0x100:0x10C] = (0x0001_0003).to_bytes(4, "little") + serial.to_bytes(8, "little")
    file.write_bytes(config)


def identity(node: Node, uuid: str) -> str:
    """The evidence that the node keeps of a device, which the API does not show."""
    ((found,),) = postgres.rows(node.state, f"SELECT identity FROM pci_device WHERE uuid = '{uuid}'")
    return str(found)


def test_all_functions_and_devices_of_the_machine_are_in_the_api(host: tuple[Rest, dict[str, Any]]) -> None:
    admin, added = host
    assert added["status"] == "Connected"
    assert len(admin.query(PCI, f"hostUuid={added['uuid']}")) == 37
    assert len(admin.query(USB)) == 1
    (matrox,) = admin.query(PCI, "vendorId=102b")
    assert (matrox["type"], matrox["state"], matrox["status"]) == ("Generic", "Enabled", "System")
    assert [d["uuid"] for d in admin.query(PCI, "host.cluster.zone.name=zone", "vendorId=102b")] == [
        matrox["uuid"]
    ]


def test_a_device_that_moves_keeps_its_uuid_and_another_at_its_old_address_is_new(
    node: Node, machine: Path, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, _ = host
    old, new = "0000:02:00.0", "0000:02:1f.0"
    (before,) = admin.query(PCI, f"pciDeviceAddress={old}")
    give_serial(function_folder(machine, old), 0x1122_3344_5566_7788)
    wait_for(
        "the serial number is known", lambda: "11-22-33-44-55-66-77-88" in identity(node, before["uuid"])
    )

    move(machine, old, new)
    wait_for("the device is at its new address", lambda: bool(admin.query(PCI, f"pciDeviceAddress={new}")))
    (after,) = admin.query(PCI, f"pciDeviceAddress={new}")
    assert after["uuid"] == before["uuid"]
    assert admin.query(PCI, f"pciDeviceAddress={old}") == []

    stranger = function_folder(machine, new).with_name(old)
    shutil.copytree(function_folder(machine, new), stranger, symlinks=True)
    give_serial(stranger, 0x99)
    (machine / "sys/bus/pci/devices" / old).symlink_to(
        os.path.relpath(stranger, machine / "sys/bus/pci/devices")
    )
    wait_for("the stranger is seen", lambda: bool(admin.query(PCI, f"pciDeviceAddress={old}")))
    (other,) = admin.query(PCI, f"pciDeviceAddress={old}")
    assert other["uuid"] != before["uuid"]
    assert admin.query(PCI, f"pciDeviceAddress={new}")[0]["uuid"] == before["uuid"]


def test_a_device_that_is_pulled_out_is_inactive_and_the_same_when_it_is_back(
    machine: Path, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, _ = host
    (matrox,) = admin.query(PCI, "vendorId=102b")
    link = machine / "sys/bus/pci/devices" / matrox["pciDeviceAddress"]
    target = link.readlink()
    link.unlink()
    wait_for("it is Inactive", lambda: admin.query(PCI, "vendorId=102b")[0]["status"] == "Inactive")
    gone = admin.query(PCI, "vendorId=102b")
    assert [d["uuid"] for d in gone] == [matrox["uuid"]]
    assert "pciDeviceAddress" not in gone[0]
    link.symlink_to(target)
    wait_for("it is back", lambda: admin.query(PCI, "vendorId=102b")[0]["status"] == "System")
    assert admin.query(PCI, "vendorId=102b")[0]["uuid"] == matrox["uuid"]


def test_a_usb_device_that_is_pulled_out_is_gone_and_has_its_uuid_again_when_it_is_back(
    machine: Path, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, _ = host
    (stick,) = admin.query(USB)
    ids = (stick["idVendor"], stick["idProduct"])
    (folder,) = [
        file.parent
        for file in (machine / "sys/devices").rglob("idVendor")
        if (file.read_text().strip(), (file.parent / "idProduct").read_text().strip()) == ids
    ]
    pocket = machine / "pocket"
    folder.rename(pocket)
    wait_for("it is gone", lambda: admin.query(USB) == [])
    pocket.rename(folder)
    wait_for("it is back", lambda: len(admin.query(USB)) == 1)
    assert admin.query(USB)[0]["uuid"] == stick["uuid"]


def test_a_killed_agent_is_started_again_and_what_changed_meanwhile_is_seen(
    node: Node, machine: Path, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, added = host
    (matrox,) = admin.query(PCI, "vendorId=102b")
    (machine / "sys/bus/pci/devices" / matrox["pciDeviceAddress"]).unlink()
    pid = agent_pid(node, added["uuid"])
    os.kill(pid, signal.SIGKILL)
    wait_for("another agent runs", lambda: agent_pid(node, added["uuid"]) != pid)
    wait_for("the change is seen", lambda: admin.query(PCI, "vendorId=102b")[0]["status"] == "Inactive")
    wait_for("it is Connected", lambda: admin.query("/hosts")[0]["status"] == "Connected")


def test_an_agent_that_hangs_is_disconnected_within_ten_seconds_and_connected_when_it_goes_on(
    node: Node, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, added = host
    pid = agent_pid(node, added["uuid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        wait_for("it is Disconnected", lambda: admin.query("/hosts")[0]["status"] == "Disconnected")
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert took < 60, "the lease is 8 s, the rest is a loaded machine's"
    wait_for("it is Connected", lambda: admin.query("/hosts")[0]["status"] == "Connected")
    assert agent_pid(node, added["uuid"]) == pid


def test_a_node_started_again_finds_its_hosts_and_their_agents(
    node: Node, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, added = host
    devices = sorted(d["uuid"] for d in admin.query(PCI))
    node.restart()
    again = Rest(node.url, admin.session)
    wait_for("it is Connected", lambda: again.query("/hosts")[0]["status"] == "Connected")
    assert again.query("/hosts")[0]["uuid"] == added["uuid"]
    assert sorted(d["uuid"] for d in again.query(PCI)) == devices


def test_a_device_that_was_pulled_out_can_be_forgotten_and_is_matched_anew_when_it_is_back(
    machine: Path, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, _ = host
    (matrox,) = admin.query(PCI, "vendorId=102b")
    ids = {"vendorId": "102B", "deviceId": matrox["deviceId"], "subvendorId": "0000"}
    offering = admin.create("/pci-device/pci-device-offerings", **ids)
    ref = {"pciDeviceUuid": matrox["uuid"], "pciDeviceOfferingUuid": offering["uuid"]}
    assert offering["matchedPciDevices"] == [ref]
    assert admin.query(PCI, "vendorId=102b")[0]["matchedPciDeviceOfferingRef"] == [ref]

    link = machine / "sys/bus/pci/devices" / matrox["pciDeviceAddress"]
    target = link.readlink()
    link.unlink()
    wait_for("it is Inactive", lambda: admin.query(PCI, "vendorId=102b")[0]["status"] == "Inactive")
    assert admin.run("DELETE", f"{PCI}/{matrox['uuid']}", None).body == {}
    assert admin.query(PCI, "vendorId=102b") == []
    assert admin.query(f"/pci-device/pci-device-offerings/{offering['uuid']}")[0]["matchedPciDevices"] == []

    link.symlink_to(target)
    wait_for("it is back", lambda: bool(admin.query(PCI, "vendorId=102b")))
    assert admin.query(PCI, "vendorId=102b")[0]["matchedPciDeviceOfferingRef"] == [ref]
    assert len(admin.query("/pci-devices/pci-devices/pci-device-offerings")) == 1


def test_a_host_that_is_lost_is_an_issue_until_it_answers(
    node: Node, host: tuple[Rest, dict[str, Any]]
) -> None:
    admin, added = host
    assert admin.query("/issues") == []
    pid = agent_pid(node, added["uuid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for("there is an issue", lambda: bool(admin.query("/issues")))
        (issue,) = admin.query("/issues", "severity=Critical", "code~=HOST.%")
        assert (issue["resourceType"], issue["resourceUuid"]) == ("Host", added["uuid"])
        assert (issue["resourceName"], issue["operation"]) == ("host", "ReconnectHost")
        assert {"since", "evidence", "remedy"} <= set(issue)
        assert admin.query(f"/issues/{issue['uuid']}") == [issue]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("the issue is over", lambda: admin.query("/issues") == [])
