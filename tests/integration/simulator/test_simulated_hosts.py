"""Simulated hosts as a user of the API sees them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.integration.simulator.conftest import SIMULATED, Scene
from tests.sshd import wait_until


def test_simulated_hosts_show_devices_that_are_their_own(scene: Scene) -> None:
    for number in (1, 2, 3):
        answer = scene.add(number, machine="four-socket-2013")
        assert answer.status == 200, answer
    hosts = scene.hosts()
    assert {host["status"] for host in hosts} == {"Connected"}
    pci = scene.admin.query("/pci-device/pci-devices", f"host.{SIMULATED}")
    assert len(pci) == 3 * 37
    assert len({device["uuid"] for device in pci}) == len(pci)
    first, second, third = (
        {device["pciDeviceAddress"] for device in pci if device["hostUuid"] == host["uuid"]} for host in hosts
    )
    assert first == second == third
    usb = scene.admin.query("/usb-device/usb-devices", f"host.{SIMULATED}")
    assert len({device["iSerial"] for device in usb}) == 3


def test_a_simulated_host_has_the_capacity_that_it_is_given(scene: Scene) -> None:
    answer = scene.add(1, memoryCapacity=2**40, cpuCapacity=48, machine="virtio-guest")
    host = answer.body["inventory"]
    assert (host["totalMemoryCapacity"], host["cpuNum"]) == (2**40, 48)
    assert (host["hypervisorType"], host["status"]) == ("Simulator", "Connected")


def test_simulated_and_real_hosts_do_not_share_a_cluster(scene: Scene) -> None:
    real = scene.admin.create("/clusters", name="real", zoneUuid=scene.zone["uuid"], hypervisorType="KVM")
    refused = scene.add(1, clusterUuid=real["uuid"])
    assert refused.status == 503
    assert "a Simulator host cannot be added to it" in refused.error["details"]
    params = {
        "name": "real",
        "clusterUuid": scene.cluster["uuid"],
        "managementIp": "127.0.0.1",
        "username": "root",
        "password": "unused",
    }
    refused = scene.admin.run("POST", "/hosts/kvm", {"params": params})
    assert refused.status == 503
    assert "a KVM host cannot be added to it" in refused.error["details"]
    assert scene.admin.query("/hosts") == []


def test_a_script_is_not_run_at_the_address_of_a_simulated_host(scene: Scene) -> None:
    host = scene.add(1).body["inventory"]
    answer = scene.admin.run(
        "PUT", "/hosts/kvm/actions", {"kvmRunShell": {"hostUuids": [host["uuid"]], "script": "true"}}
    )
    assert answer.status == 503
    assert "nobody can log in to it" in answer.error["details"]


def test_an_address_beyond_loopback_is_refused_before_there_is_a_job(scene: Scene) -> None:
    params = {"name": "far", "managementIp": "192.0.2.1", "clusterUuid": scene.cluster["uuid"]}
    answer = scene.admin.call("POST", "/hosts/simulators", {"params": params})
    assert answer.status == 400
    assert "127.0.0.0/8" in answer.error["details"]


def test_an_unknown_machine_is_refused_with_those_there_are_and_nothing_is_left(scene: Scene) -> None:
    answer = scene.add(1, machine="unheard-of")
    assert answer.status == 503
    assert "virtio-guest" in str(answer.error)
    assert scene.hosts() == []
    assert list((scene.node.state / "simulator" / "hosts").iterdir()) == []


def test_an_address_that_a_host_has_is_refused(scene: Scene) -> None:
    scene.add(1)
    answer = scene.add(1)
    assert answer.status == 503
    assert "127.64.0.1 belongs to host simulated-1" in answer.error["details"]


def test_hosts_go_with_their_cluster(scene: Scene) -> None:
    scene.add(1)
    scene.add(2)
    answer = scene.admin.run("DELETE", f"/clusters/{scene.cluster['uuid']}?deleteMode=Permissive", None)
    assert answer.status == 200, answer
    assert scene.hosts() == []
    assert list((scene.node.state / "simulator" / "hosts").iterdir()) == []
    assert scene.control("count")["up"] == 0


def test_hosts_that_die_or_fall_silent_are_lost_and_come_back(scene: Scene) -> None:
    hosts = [scene.add(number).body["inventory"]["uuid"] for number in (1, 2, 3)]
    scene.control("lose", "--host", hosts[0])
    scene.control("lose", "--host", hosts[1], "--silently")
    wait_until(lambda: len(scene.hosts("status=Disconnected")) == 2, "two hosts to be lost", 60)
    assert [host["uuid"] for host in scene.hosts("status=Connected")] == [hosts[2]]
    counted = scene.control("count")
    assert (counted["up"], counted["dead"], counted["silent"]) == (1, 1, 1)
    assert sorted(scene.control("recover")["hosts"]) == sorted(hosts[:2])
    wait_until(lambda: len(scene.hosts("status=Connected")) == 3, "all hosts to be back", 60)


def test_a_killed_simulator_is_started_again_with_all_its_hosts(scene: Scene) -> None:
    before = [scene.add(number).body["inventory"] for number in (1, 2)]
    killed = scene.simulator_pid()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: scene.simulator_pid() != killed, "another simulator", 60)
    wait_until(lambda: len(scene.hosts("status=Connected")) == 2, "all hosts to be back", 60)
    devices = scene.admin.query(
        "/pci-device/pci-devices", f"hostUuid={before[0]['uuid']}", "status!=Inactive"
    )
    assert len(devices) == 37


def test_stopping_the_node_stops_the_simulator(scene: Scene) -> None:
    scene.add(1)
    pid = scene.simulator_pid()
    scene.node.restart()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the first simulator to be gone", 30)
    admin = scene.node.rest().logged_in()
    wait_until(lambda: len(admin.query("/hosts", "status=Connected")) == 1, "the host to be back", 60)
