"""PCI devices of simulated hosts and VMs: attached and detached, cold and hot, alone and in groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.integration.facilities.vm_scene import Scene, run_scene
from tests.node import Answer

MACHINE = "q35-iommu-guest"
NIC, NVME, VIDEO, SOUND, DISK = "0000:01:00.0", "0000:02:00.0", "0000:04:00.0", "0000:04:00.1", "0000:00:01.0"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    yield from run_scene(tmp_path / "state")


@pytest.fixture
def host(scene: Scene) -> str:
    return scene.add_host(1, machine=MACHINE)


def device(scene: Scene, host: str, address: str) -> dict[str, Any]:
    path = "/pci-device/pci-devices"
    (found,) = scene.admin.query(path, f"hostUuid={host}", f"pciDeviceAddress={address}")
    return found


def attach(scene: Scene, device_uuid: str, vm: str, **more: Any) -> Answer:
    body = {"params": {"vmInstanceUuid": vm, **more}}
    return scene.admin.run("POST", f"/pci-device/pci-devices/{device_uuid}/attach", body)


def detach(scene: Scene, device_uuid: str, vm: str) -> Answer:
    body = {"params": {"vmInstanceUuid": vm}}
    return scene.admin.run("POST", f"/pci-device/pci-devices/{device_uuid}/detach", body)


def act(scene: Scene, device_uuid: str, operation: str, **params: Any) -> Answer:
    return scene.admin.run("PUT", f"/pci-device/pci-devices/{device_uuid}/actions", {operation: params})


def on_host(scene: Scene, host: str, vm: str) -> list[str]:
    vms = json.loads(scene.vms_file(host).read_bytes())
    return next((found["devices"] for found in vms if found["uuid"] == vm), [])


def candidates(scene: Scene, path: str, **more: str) -> dict[str, Any]:
    query = "&".join(f"{key}={value}" for key, value in more.items())
    answer = scene.admin.call("GET", f"{path}?{query}")
    assert answer.status == 200, answer
    return answer.body


def test_a_running_vm_gets_a_device_and_loses_it(scene: Scene, host: str) -> None:
    vm = scene.created()["uuid"]
    nic = device(scene, host, NIC)["uuid"]
    attached = attach(scene, nic, vm)
    assert attached.status == 200, attached
    inventory = attached.body["inventory"]
    assert (inventory["status"], inventory["vmInstanceUuid"]) == ("Attached", vm)
    assert on_host(scene, host, vm) == [nic]
    again = attach(scene, nic, vm)
    assert (again.error["code"], f"is attached to VM {vm}" in again.error["details"]) == ("SYS.1006", True)
    other = scene.created("other")["uuid"]
    assert f"attached to VM {vm}" in attach(scene, nic, other).error["details"]
    assert f"attached to VM {vm}, not {other}" in detach(scene, nic, other).error["details"]
    assert (
        f"is attached to VM {vm}"
        in act(scene, nic, "updatePciDeviceBootDriver", driver="host").error["details"]
    )
    detached = detach(scene, nic, vm).body["inventory"]
    assert (detached["status"], detached.get("vmInstanceUuid")) == ("Active", None)
    assert on_host(scene, host, vm) == []
    assert "attached to no VM" in detach(scene, nic, vm).error["details"]


def test_a_stopped_vm_starts_with_its_devices_where_they_are(scene: Scene, host: str) -> None:
    elsewhere = scene.add_host(2)
    vm = scene.created(hostUuid=elsewhere)["uuid"]
    nic, nvme = device(scene, host, NIC)["uuid"], device(scene, host, NVME)["uuid"]
    refused = attach(scene, nic, vm)
    assert f"runs on {elsewhere}" in refused.error["details"]
    assert scene.act(vm, "stopVmInstance").status == 200
    assert [attach(scene, uuid, vm).status for uuid in (nic, nvme)] == [200, 200]
    assert scene.act(vm, "startVmInstance").body["inventory"]["hostUuid"] == host
    assert on_host(scene, host, vm) == sorted([nic, nvme])
    path = f"/vm-instances/{vm}/migration-target-hosts"
    assert scene.admin.call("GET", path).body["inventories"] == []
    moved = scene.migrate(vm, hostUuid=elsewhere)
    assert "cannot be moved while it runs: it has PCI device" in moved.error["details"]
    assert scene.act(vm, "stopVmInstance").status == 200
    assert device(scene, host, NIC)["status"] == "Attached"
    started = scene.act(vm, "startVmInstance", hostUuid=elsewhere)
    assert f"of the VM is on host {host}" in started.error["details"]
    assert detach(scene, nic, vm).status == 200
    assert scene.admin.run("DELETE", f"/vm-instances/{vm}", None).status == 200
    assert device(scene, host, NVME)["status"] == "Active"


def test_functions_of_one_group_are_refused_alone_and_go_together(scene: Scene, host: str) -> None:
    vm = scene.created()["uuid"]
    video, sound = device(scene, host, VIDEO)["uuid"], device(scene, host, SOUND)["uuid"]
    alone = attach(scene, video, vm)
    assert alone.error["code"] == "SYS.1006"
    assert f"{VIDEO} shares" in alone.error["details"]
    assert SOUND in alone.error["details"]
    assert device(scene, host, VIDEO)["status"] == "Active", "a failure gives back"
    assert attach(scene, video, vm, wholeGroup=True).status == 200
    assert on_host(scene, host, vm) == sorted([video, sound])
    assert device(scene, host, SOUND)["vmInstanceUuid"] == vm
    assert detach(scene, sound, vm).status == 200
    assert [device(scene, host, at)["status"] for at in (VIDEO, SOUND)] == ["Active", "Active"]
    assert on_host(scene, host, vm) == []


def test_a_setting_lets_clients_that_know_no_groups_have_them(scene: Scene, host: str) -> None:
    vm = scene.created()["uuid"]
    path = "/global-configurations/pciDevice/attach.wholeGroup/actions"
    assert scene.admin.run("PUT", path, {"updateGlobalConfig": {"value": "true"}}).status == 200
    assert attach(scene, device(scene, host, VIDEO)["uuid"], vm).status == 200
    assert len(on_host(scene, host, vm)) == 2


def test_what_the_host_lives_on_is_no_candidate_and_it_is_said_why(scene: Scene, host: str) -> None:
    vm = scene.created()["uuid"]
    disk = device(scene, host, DISK)
    refused = attach(scene, disk["uuid"], vm)
    assert "root file system on /dev/vda1" in refused.error["details"]
    path = f"/vm-instances/{vm}/candidate-pci-devices"
    plain = candidates(scene, path)
    found = {row["pciDeviceAddress"] for row in plain["inventories"]}
    assert {NIC, NVME} <= found
    assert not found & {DISK, VIDEO, SOUND}
    assert plain.keys() == {"inventories"}
    told = candidates(scene, path, explain="true")
    reasons = {row["pciDeviceAddress"]: row["reasons"] for row in told["refused"]}
    assert "root file system" in reasons[DISK][0]["text"]
    assert [reason["code"] for reason in reasons[VIDEO]] == ["group-shared"]
    assert {plan["address"]: plan["steps"] for plan in told["plans"]}[NIC] == [
        f"{NIC} leaves e1000e and goes to vfio-pci"
    ]
    assert attach(scene, device(scene, host, NIC)["uuid"], vm).status == 200
    assert NIC not in {row["pciDeviceAddress"] for row in candidates(scene, path)["inventories"]}
    assert candidates(scene, path, types="GPU_Audio_Controller")["inventories"] == []
    for_new = candidates(scene, "/pci-device/candidate-pci-devices-for-new-create-vm", hostUuid=host)
    assert NVME in {row["pciDeviceAddress"] for row in for_new["inventories"]}
    assert NIC not in {row["pciDeviceAddress"] for row in for_new["inventories"]}
    unknown = scene.admin.call("GET", f"/vm-instances/{'0' * 32}/candidate-pci-devices")
    assert unknown.error["code"] == "SYS.1003"


def test_without_an_iommu_there_are_no_candidates(scene: Scene) -> None:
    host = scene.add_host(1)
    vm = scene.created()["uuid"]
    told = candidates(scene, f"/vm-instances/{vm}/candidate-pci-devices", explain="true")
    assert told["inventories"] == []
    assert any(r["code"] == "iommu" for row in told["refused"] for r in row["reasons"])
    (some, *_) = [row for row in told["refused"] if [r["code"] for r in row["reasons"]] == ["iommu"]]
    answer = attach(scene, some["uuid"], vm)
    assert "IOMMU of the host is not active" in answer.error["details"]
    assert on_host(scene, host, vm) == []


def test_a_host_that_is_away_gives_nothing_and_takes_nothing(scene: Scene, host: str) -> None:
    vm = scene.created()["uuid"]
    nic, nvme = device(scene, host, NIC)["uuid"], device(scene, host, NVME)["uuid"]
    assert attach(scene, nic, vm).status == 200
    scene.control("lose", "--host", host)
    wait_until(lambda: scene.host(host)["status"] == "Disconnected", "the host is not lost", 120)
    assert detach(scene, nic, vm).error["code"] == "SYS.1006"
    assert attach(scene, nvme, vm).error["code"] == "SYS.1006"
    assert (device(scene, host, NIC)["status"], device(scene, host, NVME)["status"]) == ("Attached", "Active")


def test_a_device_may_be_kept_from_the_host_from_each_boot_on(scene: Scene, host: str) -> None:
    nic = device(scene, host, NIC)["uuid"]
    kept = act(scene, nic, "updatePciDeviceBootDriver", driver="vfio-pci")
    assert kept.body["inventory"]["bootDriver"] == "vfio-pci"
    (file,) = scene.node.state.glob(f"simulator/**/{host}/passthrough.json")
    assert [claim["device"]["address"] for claim in json.loads(file.read_bytes())["bound"]] == [NIC]
    assert (
        act(scene, nic, "updatePciDeviceBootDriver", driver="host").body["inventory"]["bootDriver"] == "host"
    )
    assert json.loads(file.read_bytes())["bound"] == []
    body = {"updatePciDeviceBootDriver": {"driver": "nouveau"}}
    wrong = scene.admin.call("PUT", f"/pci-device/pci-devices/{nic}/actions", body)
    assert (wrong.status, wrong.error["code"]) == (400, "SYS.1007")
    none = act(scene, nic, "updatePciDeviceVirtualFunctions", number=2)
    assert (none.error["code"], "can have 0 to 0" in none.error["details"]) == ("SYS.1007", True)


def test_a_claim_that_is_where_it_belongs_is_not_bound_anew(scene: Scene, host: str) -> None:
    vm = scene.created()["uuid"]
    nic, nvme = device(scene, host, NIC)["uuid"], device(scene, host, NVME)["uuid"]
    assert "attached to no VM" in act(scene, nic, "rebindPciDevice", newPciDeviceUuid=nvme).error["details"]
    assert attach(scene, nic, vm).status == 200
    answer = act(scene, nic, "rebindPciDevice", newPciDeviceUuid=nvme)
    assert f"is on its host at {NIC}" in answer.error["details"]
