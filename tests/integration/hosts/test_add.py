"""AddKVMHost: each thing that a machine must be is looked at, said when it is not so, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import free_port
from tests.integration.hosts.conftest import Place
from tests.sshd import Sshd

OTHER_FLEET = "f" * 32
UNSUITABLE: dict[str, tuple[dict[str, Any], str]] = {
    "other fleet": (
        {"owner_fleet_uuid": OTHER_FLEET, "owner_host_uuid": "e" * 32},
        f"belongs to another fleet, {OTHER_FLEET}",
    ),
    "no root": ({"root": False, "admin": False}, "may not become root"),
    "distribution": (
        {"distribution": "plan9", "distribution_name": "Plan 9"},
        "runs Plan 9, which agents are not installed on",
    ),
    "no Python": ({"python": None}, "has no Python, the agent needs 3.11"),
    "old Python": ({"python": [3, 9]}, "has Python 3.9, the agent needs 3.11"),
    "clock behind": ({"clock_offset_s": -45.0}, "45 s behind the management node's, more than 30 s"),
    "clock ahead": ({"clock_offset_s": 3600.0}, "3600 s ahead of the management node's"),
    "no virtualisation": ({"virtualisation": None}, "none of its processors has the flag vmx or svm"),
    "no /dev/kvm": ({"kvm": False}, "has no /dev/kvm; load the kernel's module with `modprobe kvm_intel`"),
}


def test_a_suitable_machine_becomes_a_connected_host(place: Place) -> None:
    added = place.added("127.2.0.1")
    assert (added["state"], added["status"], added["hypervisorType"]) == ("Enabled", "Connected", "KVM")
    assert (added["cpuNum"], added["totalMemoryCapacity"]) == (4, 16 << 30)
    assert (added["zoneUuid"], added["clusterUuid"]) == (place.zone, place.cluster)
    assert "password" not in added


@pytest.mark.parametrize("why", UNSUITABLE)
def test_an_unsuitable_machine_is_refused_before_anything_is_installed(place: Place, why: str) -> None:
    survey, said = UNSUITABLE[why]
    place.script("127.2.0.1", survey=survey)
    error = place.add("127.2.0.1").error
    assert (error["code"], error["cause"]["code"]) == ("HOST.1000", "SYS.1006")
    assert said in error["details"]
    assert "127.2.0.1" in error["details"]
    assert place.admin.query("/hosts") == []
    assert place.deployments("127.2.0.1") == 0


def test_what_only_the_agent_sees_is_checked_too_and_undone(place: Place) -> None:
    (place.machine / "dev/kvm").unlink()
    error = place.add("127.2.0.1").error
    assert error["code"] == "HOST.1000"
    assert "has no /dev/kvm" in error["details"]
    assert place.admin.query("/hosts") == []
    assert list((place.node.state / "agents").iterdir()) == []
    assert place.admin.query("/system-tags") == []


def test_a_failed_deployment_leaves_nothing(place: Place) -> None:
    place.script("127.2.0.1", broken="the disk is full")
    error = place.add("127.2.0.1", systemTags=["reservedMemory::1G"]).error
    assert (error["code"], error["cause"]["details"]) == ("HOST.1000", "the disk is full; mend it")
    assert place.admin.query("/hosts") == []
    assert place.admin.query("/system-tags") == []
    place.script("127.2.0.1")
    assert place.added("127.2.0.1")["status"] == "Connected"


def test_hosts_of_a_cluster_have_one_distribution_unless_that_is_not_asked_for(place: Place) -> None:
    place.added("127.2.0.1")
    place.script("127.2.0.2", survey={"distribution": "ubuntu", "distribution_version": "22.04"})
    error = place.add("127.2.0.2").error
    assert "runs ubuntu 22.04, host host 127.2.0.1 of the same cluster runs debian 12" in error["details"]
    other = place.new_cluster("other")
    assert place.added("127.2.0.2", clusterUuid=other)["status"] == "Connected"
    place.script("127.2.0.3", survey={"distribution_version": "13"})
    place.set("kvm", "checkHostDistribution", "false")
    assert place.added("127.2.0.3")["status"] == "Connected"


def test_hosts_of_a_cluster_have_one_architecture(place: Place) -> None:
    place.added("127.2.0.1")
    place.script("127.2.0.2", survey={"architecture": "aarch64"})
    assert "is aarch64, host host 127.2.0.1" in place.add("127.2.0.2").error["details"]


@pytest.mark.parametrize("by_tag", [True, False])
def test_a_cluster_may_want_one_cpu_model(place: Place, by_tag: bool) -> None:
    if by_tag:
        place.cluster = place.new_cluster("same", systemTags=["check::cluster::cpu::model::true"])
    place.added("127.2.0.1")
    cpus = place.machine / "proc/cpuinfo"
    cpus.write_text(cpus.read_text().replace("E5-2630", "E5-2699"))
    if not by_tag:
        assert place.added("127.2.0.2")["status"] == "Connected"
        place.set("kvm", "checkHostCpuModelName", "true")
        (cpus).write_text(cpus.read_text().replace("E5-2699", "E5-1234"))
    error = place.add("127.2.0.3").error
    assert "has the CPU model Intel(R) Xeon(R) CPU E5-" in error["details"]
    assert "check::cluster::cpu::model" in error["details"]


@pytest.mark.parametrize("again", ["127.2.0.1", "::ffff:127.2.0.1", "[::FFFF:7f02:1]"])
def test_an_address_belongs_to_one_host_in_all_zones_however_it_is_written(place: Place, again: str) -> None:
    first = place.added("127.2.0.1")
    zone = place.admin.create("/zones", name="elsewhere")["uuid"]
    elsewhere = place.new_cluster("elsewhere", zoneUuid=zone)
    error = place.add(again, clusterUuid=elsewhere).error
    assert error["code"] == "SYS.1007"
    assert f"belongs to host host 127.2.0.1 ({first['uuid']}) already" in error["details"]


def test_a_name_and_its_address_are_one_host(place: Place) -> None:
    place.added("127.0.0.1")
    error = place.add("LocalHost.").error
    assert "managementIp 127.0.0.1 belongs to host host 127.0.0.1" in error["details"]
    assert place.deployments("localhost") == 0


def test_a_machine_that_is_a_host_already_is_known_under_its_other_address(place: Place) -> None:
    first = place.added("127.2.0.1")
    (fleet,) = {line.split(": ")[1] for line in _owner(place, first["uuid"])}
    place.script("127.2.0.2", survey={"owner_fleet_uuid": fleet, "owner_host_uuid": first["uuid"]})
    error = place.add("127.2.0.2").error
    assert f"is the machine of host host 127.2.0.1 ({first['uuid']}) already" in error["details"]


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "300.1.1.1", "a b"])
def test_an_address_that_no_host_can_have_is_refused_at_once(place: Place, address: str) -> None:
    params = {
        "name": "host",
        "managementIp": address,
        "clusterUuid": place.cluster,
        "username": "root",
        "password": "unset",
    }
    answer = place.admin.call("POST", "/hosts/kvm", {"params": params})
    assert (answer.status, answer.error["code"]) == (400, "SYS.1007")


def test_a_closed_ssh_port_is_waited_for_and_then_named(place: Place) -> None:
    place.script("127.0.0.1", ssh=True)
    port = free_port()
    error = place.add("127.0.0.1", sshPort=port).error
    assert (error["code"], error["cause"]["code"]) == ("HOST.1000", "HOST.1003")
    assert f"root@127.0.0.1:{port}: the port is closed" in error["details"]


def test_a_host_that_opens_its_ssh_port_in_time_is_added(
    place: Place, start_sshd: Callable[..., Sshd]
) -> None:
    place.set("kvm", "testSshPortOpenTimeout", "60")
    sshd = start_sshd()
    sshd.stop()
    place.script("127.0.0.1", ssh=True)
    params = {
        "name": "host",
        "managementIp": "127.0.0.1",
        "clusterUuid": place.cluster,
        "username": sshd.account.name,
        "password": sshd.account.password,
        "sshPort": sshd.port,
    }
    accepted = place.admin.call("POST", "/hosts/kvm", {"params": params})
    sshd.start()
    assert place.admin.wait(accepted.location).status == 200


def test_a_wrong_password_is_named_as_such(place: Place, sshd: Sshd) -> None:
    place.script("127.0.0.1", ssh=True)
    error = place.add("127.0.0.1", sshPort=sshd.port, username=sshd.account.name, password="wrong").error
    assert (error["code"], error["cause"]["code"]) == ("HOST.1000", "HOST.1012")
    assert "rejected the user name or password" in error["details"]
    assert "wrong" not in str(error)
    assert place.admin.query("/hosts") == []


def _owner(place: Place, uuid: str) -> list[str]:
    import json

    owner = json.loads((place.home(uuid) / "owner.json").read_text())
    return [f"fleet: {owner['fleetUuid']}"]
