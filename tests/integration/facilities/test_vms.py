"""VMs on simulated hosts: their life, their place, what becomes of them when hosts come and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.integration.facilities.vm_scene import GB, TIMEOUT_S, Scene, run_scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    yield from run_scene(tmp_path / "state")


def test_a_vm_lives_from_creation_to_expunging(scene: Scene) -> None:
    host = scene.add_host(1)
    before = scene.free(host)
    vm = scene.created()
    assert (vm["state"], vm["hostUuid"], vm["hypervisorType"]) == ("Running", host, "Simulator")
    assert scene.on_host(host) == [vm["uuid"]]
    assert scene.free(host) == (before[0] - 1, before[1] - GB)
    screen = scene.admin.call("GET", f"/vm-instances/{vm['uuid']}/console-addresses").body
    assert (screen["hostIp"], screen["port"], screen["protocol"]) == ("127.0.0.1", 5900, "vnc")
    password = scene.admin.call("GET", f"/vm-instances/{vm['uuid']}/console-passwords").body["password"]
    assert len(password) == 8
    assert scene.act(vm["uuid"], "rebootVmInstance").body["inventory"]["state"] == "Running"
    stopped = scene.act(vm["uuid"], "stopVmInstance").body["inventory"]
    assert (stopped["state"], stopped.get("hostUuid"), stopped["lastHostUuid"]) == ("Stopped", None, host)
    assert (scene.on_host(host), scene.free(host)) == ([], before)
    assert scene.act(vm["uuid"], "stopVmInstance").status == 200, "stopped already"
    resized = scene.act(vm["uuid"], "updateVmInstance", cpuNum=2, name="larger")
    assert (resized.body["inventory"]["cpuNum"], resized.body["inventory"]["name"]) == (2, "larger")
    assert scene.act(vm["uuid"], "startVmInstance").body["inventory"]["state"] == "Running"
    assert scene.free(host)[0] == before[0] - 2
    refused = scene.act(vm["uuid"], "expungeVmInstance")
    assert refused.error["code"] == "SYS.1006"
    assert scene.admin.run("DELETE", f"/vm-instances/{vm['uuid']}", None).status == 200
    assert (scene.vm(vm["uuid"])["state"], scene.free(host)) == ("Destroyed", before)
    assert scene.act(vm["uuid"], "recoverVmInstance").body["inventory"]["state"] == "Stopped"
    assert scene.admin.run("DELETE", f"/vm-instances/{vm['uuid']}", None).status == 200
    assert scene.act(vm["uuid"], "expungeVmInstance").status == 200
    assert scene.admin.query(f"/vm-instances/{vm['uuid']}") == []


def test_vms_go_where_there_is_room_and_no_farther(scene: Scene) -> None:
    small, large = scene.add_host(1, memory=3 * GB), scene.add_host(2, memory=4 * GB)
    hosts = [scene.created(f"vm-{n}")["hostUuid"] for n in range(5)]
    assert (hosts.count(small), hosts.count(large)) == (2, 3), "a gigabyte of each is reserved"
    refused = scene.create("one-too-many")
    assert refused.error["code"] == "VM.1000"
    assert "host-1: 0 of 1073741824 bytes" in refused.error["details"]
    assert len(scene.admin.query("/vm-instances")) == 5, "a VM that finds no host is not left behind"
    stopped = scene.created("stopped", strategy="CreateStopped")
    assert stopped["state"] == "Stopped"
    named = scene.act(stopped["uuid"], "startVmInstance", hostUuid=small)
    assert "host-2" not in named.error["details"]


def test_addresses_are_given_once_and_taken_back(scene: Scene) -> None:
    scene.add_host(1)
    l2 = scene.admin.create("/l2-networks/no-vlan", name="l2", zoneUuid=scene.zone, physicalInterface="eth0")[
        "uuid"
    ]
    l3 = scene.admin.create("/l3-networks", name="l3", l2NetworkUuid=l2)["uuid"]
    wanted = {"name": "r", "startIp": "10.0.0.5", "endIp": "10.0.0.6", "netmask": "255.255.255.0"}
    added = scene.admin.run(
        "POST", f"/l3-networks/{l3}/ip-ranges", {"params": {**wanted, "gateway": "10.0.0.1"}}
    )
    assert added.status == 200, added
    overlapping = {**wanted, "startIp": "10.0.0.6", "endIp": "10.0.0.9", "gateway": "10.0.0.1"}
    refused = scene.admin.run("POST", f"/l3-networks/{l3}/ip-ranges", {"params": overlapping})
    assert refused.error["code"] == "SYS.1006"
    (network,) = scene.admin.query(f"/l3-networks/{l3}")
    assert [one["startIp"] for one in network["ipRanges"]] == ["10.0.0.5"]
    unattached = scene.create("v0", l3NetworkUuids=[l3])
    assert "not attached to its cluster" in unattached.error["details"]
    attached = scene.admin.run("POST", f"/l2-networks/{l2}/clusters/{scene.cluster}", {})
    assert attached.body["inventory"]["attachedClusterUuids"] == [scene.cluster]
    first, second = (scene.created(f"v{n}", l3NetworkUuids=[l3]) for n in (1, 2))
    nics = [vm["vmNics"][0] for vm in (first, second)]
    assert [nic["ip"] for nic in nics] == ["10.0.0.5", "10.0.0.6"]
    assert len({nic["mac"] for nic in nics}) == 2
    full = scene.create("v3", l3NetworkUuids=[l3])
    assert "no free address" in full.error["details"]
    deleted = scene.admin.run("DELETE", f"/l3-networks/ip-ranges/{added.body['inventory']['uuid']}", None)
    assert deleted.error["code"] == "SYS.1004"
    scene.admin.run("DELETE", f"/vm-instances/{first['uuid']}", None)
    scene.act(first["uuid"], "expungeVmInstance")
    assert scene.created("v3", l3NetworkUuids=[l3])["vmNics"][0]["ip"] == "10.0.0.5"


def test_a_vm_is_what_its_host_shows(scene: Scene) -> None:
    host = scene.add_host(1)
    gone, kept = scene.created("gone")["uuid"], scene.created("kept")["uuid"]
    scene.control("lose", "--host", host)
    scene.wait_for(kept, "Unknown")
    assert scene.act(kept, "rebootVmInstance").error["code"] == "SYS.1006"
    file = scene.vms_file(host)
    file.write_text(json.dumps([vm for vm in json.loads(file.read_bytes()) if vm["uuid"] == kept]))
    scene.control("recover")
    scene.wait_for(kept, "Running")
    scene.wait_for(gone, "Stopped")
    assert scene.free(host)[1] == 7 * GB


def test_maintenance_and_deletion_of_a_host_stop_its_vms(scene: Scene) -> None:
    host = scene.add_host(1)
    uuid = scene.created()["uuid"]
    path = f"/hosts/{host}/actions"
    assert scene.admin.run("PUT", path, {"changeHostState": {"stateEvent": "maintain"}}).status == 200
    assert (scene.vm(uuid)["state"], scene.on_host(host)) == ("Stopped", [])
    assert "Maintenance" in scene.act(uuid, "startVmInstance").error["details"]
    assert scene.admin.run("PUT", path, {"changeHostState": {"stateEvent": "enable"}}).status == 200
    wait_until(lambda: scene.host(host)["status"] == "Connected", "the host is not back", TIMEOUT_S)
    assert scene.act(uuid, "startVmInstance").status == 200
    assert scene.admin.run("DELETE", f"/hosts/{host}", None).status == 200
    assert scene.vm(uuid)["state"] == "Stopped"


def test_a_running_vm_moves_to_another_host_of_its_cluster(scene: Scene) -> None:
    source = scene.add_host(1)
    vm = scene.created()
    scene.add_host(2, memory=2 * GB)
    target = scene.add_host(3)
    path = f"/vm-instances/{vm['uuid']}/migration-target-hosts"
    full = scene.created("full", hostUuid=scene.host_named("host-2"))["uuid"]
    answer = scene.admin.call("GET", path)
    assert answer.status == 200, answer
    assert [host["uuid"] for host in answer.body["inventories"]] == [target]
    before = scene.free(source), scene.free(target)
    moved = scene.migrate(vm["uuid"])
    assert moved.status == 200, moved
    inventory = moved.body["inventory"]
    assert (inventory["state"], inventory["hostUuid"], inventory["lastHostUuid"]) == (
        "Running",
        target,
        source,
    )
    assert (scene.on_host(source), scene.on_host(target)) == ([], [vm["uuid"]])
    assert scene.free(source) == (before[0][0] + 1, before[0][1] + GB)
    assert scene.free(target) == (before[1][0] - 1, before[1][1] - GB)
    back = scene.migrate(vm["uuid"], hostUuid=source, strategy="auto-converge", downTime=300)
    assert back.body["inventory"]["hostUuid"] == source
    assert (scene.free(source), scene.free(target)) == before
    assert scene.migrate(vm["uuid"], hostUuid=source).error["code"] == "SYS.1007"
    no_room = scene.migrate(vm["uuid"], hostUuid=scene.host_named("host-2"))
    assert no_room.error["code"] == "VM.1000"
    assert "host-2: 0 of 1073741824 bytes" in no_room.error["details"]
    assert scene.act(full, "stopVmInstance").status == 200
    stopped = scene.migrate(full)
    assert stopped.error["code"] == "SYS.1006"
    assert "start it first" in stopped.error["details"]
    body = {"migrateVm": {"downTime": 0}}
    refused = scene.admin.call("PUT", f"/vm-instances/{vm['uuid']}/actions", body)
    assert "1 to 60000" in refused.error["details"]


def test_a_vm_stays_when_the_host_that_it_is_to_go_to_does_not_answer(scene: Scene) -> None:
    source = scene.add_host(1)
    uuid = scene.created()["uuid"]
    target = scene.add_host(2)
    free = scene.free(target)
    scene.control("lose", "--host", target)
    refused = scene.migrate(uuid, hostUuid=target)
    assert refused.status == 503, refused
    assert (scene.vm(uuid)["state"], scene.vm(uuid)["hostUuid"]) == ("Running", source)
    assert scene.free(target) == free, "what was taken of the target is given back"


def test_maintenance_moves_vms_or_stops_those_that_cannot_move(scene: Scene) -> None:
    source = scene.add_host(1)
    vms = [scene.created(f"vm-{n}")["uuid"] for n in range(3)]
    target = scene.add_host(2, memory=3 * GB)
    path = f"/hosts/{source}/actions"
    maintain = {"changeHostState": {"stateEvent": "maintain"}}
    setting = "/global-configurations/host/maintenance.policy/actions"
    just_migrate = {"updateGlobalConfig": {"value": "JustMigrate"}}
    assert scene.admin.run("PUT", setting, just_migrate).status == 200
    refused = scene.admin.run("PUT", path, maintain)
    assert refused.error["code"] == "HOST.1001"
    assert "host-2: 0 of 1073741824 bytes" in refused.error["details"]
    assert scene.host(source)["state"] == "Enabled"
    assert [scene.vm(uuid)["hostUuid"] for uuid in vms] == [target, target, source]
    assert scene.vm(vms[2])["state"] == "Running"
    assert scene.admin.run("PUT", setting, {"updateGlobalConfig": {}}).status == 200, "its default again"
    assert scene.admin.run("PUT", path, maintain).status == 200
    assert scene.host(source)["state"] == "Maintenance"
    assert [scene.vm(uuid)["state"] for uuid in vms] == ["Running", "Running", "Stopped"]
    assert scene.on_host(source) == []
