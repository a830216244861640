"""VMs on simulated hosts and the USB devices of those hosts, one on each."""

from __future__ import annotations

import json
from typing import Any

from tests.helpers import wait_until
from tests.integration.facilities.test_vms import TIMEOUT_S, Scene, scene
from tests.node import Answer

__all__ = ["scene"]

USB = "/usb-device/usb-devices"


def usb_of(scene: Scene, host: str) -> dict[str, Any]:
    (found,) = scene.admin.query(USB, f"hostUuid={host}")
    return found


def attach(scene: Scene, device: str, vm: str) -> Answer:
    return scene.admin.run("POST", f"{USB}/{device}/attach", {"params": {"vmInstanceUuid": vm}})


def detach(scene: Scene, device: str) -> Answer:
    return scene.admin.run("POST", f"{USB}/{device}/detach", {"params": {}})


def candidates(scene: Scene, vm: str, **more: str) -> dict[str, Any]:
    answer = scene.admin.get(f"/vm-instances/{vm}/candidate-usb-devices", **more)
    assert answer.status == 200, answer
    return answer.body


def held_on(scene: Scene, host: str, vm: str) -> list[str]:
    """Return the devices that a host's agent says a VM has."""
    vms = {one["uuid"]: one for one in json.loads(scene.vms_file(host).read_bytes())}
    return vms[vm]["devices"]


def test_a_running_vm_is_given_its_hosts_device_and_gives_it_back(scene: Scene) -> None:
    host = scene.add_host(1)
    vm, device = scene.created()["uuid"], usb_of(scene, host)["uuid"]
    assert [one["uuid"] for one in candidates(scene, vm)["inventories"]] == [device]
    attached = attach(scene, device, vm)
    assert attached.status == 200, attached
    assert attached.body["inventory"]["vmInstanceUuid"] == vm
    assert held_on(scene, host, vm) == [device]
    assert [one["uuid"] for one in scene.admin.query(USB, f"vmInstance.uuid={vm}")] == [device]
    assert [one["uuid"] for one in scene.admin.query("/vm-instances", f"usbDevice.uuid={device}")] == [vm]
    assert candidates(scene, vm)["inventories"] == []
    again = attach(scene, device, vm)
    assert again.error["code"] == "SYS.1006"
    assert "attached to this VM already" in again.error["details"]
    other = attach(scene, device, scene.created("other")["uuid"])
    assert f"attached to VM {vm}" in other.error["details"]
    assert scene.act(vm, "rebootVmInstance").status == 200
    assert held_on(scene, host, vm) == [device], "it has its device when it starts again"
    detached = detach(scene, device)
    assert detached.status == 200, detached
    assert "vmInstanceUuid" not in detached.body["inventory"]
    assert held_on(scene, host, vm) == []
    free = detach(scene, device)
    assert free.error["code"] == "SYS.1006"
    assert "attached to no VM" in free.error["details"]
    assert attach(scene, "0" * 32, vm).error["code"] == "SYS.1003"
    assert attach(scene, device, "0" * 32).error["code"] == "SYS.1003"
    assert detach(scene, "0" * 32).error["code"] == "SYS.1003"


def test_a_stopped_vm_starts_where_its_device_is_and_nowhere_else(scene: Scene) -> None:
    here, there = scene.add_host(1), scene.add_host(2)
    vm, device = scene.created(strategy="CreateStopped")["uuid"], usb_of(scene, here)["uuid"]
    assert len(candidates(scene, vm)["inventories"]) == 2, "it has never run: any host will do"
    assert attach(scene, device, vm).status == 200
    elsewhere = attach(scene, usb_of(scene, there)["uuid"], vm)
    assert f"is on {here}" in elsewhere.error["details"], "one host cannot have both of its devices"
    refused = scene.act(vm, "startVmInstance", hostUuid=there)
    assert refused.error["code"] == "VM.1000"
    assert f"({device}) of the VM is on host {here}" in refused.error["details"]
    assert scene.act(vm, "startVmInstance").body["inventory"]["hostUuid"] == here
    assert held_on(scene, here, vm) == [device]
    assert scene.act(vm, "stopVmInstance").status == 200
    assert detach(scene, device).status == 200, "from a stopped VM as well"
    wrong = attach(scene, usb_of(scene, there)["uuid"], vm)
    assert f"the VM last ran on {here}" in wrong.error["details"]
    assert scene.act(vm, "startVmInstance", hostUuid=there).body["inventory"]["hostUuid"] == there
    assert held_on(scene, there, vm) == []


def test_why_a_device_is_no_candidate_is_told_on_request(scene: Scene) -> None:
    here, there = scene.add_host(1), scene.add_host(2)
    vm = scene.created(hostUuid=here)["uuid"]
    mine, others = usb_of(scene, here), usb_of(scene, there)
    assert "refused" not in candidates(scene, vm)
    told = candidates(scene, vm, explain="true")
    assert [one["uuid"] for one in told["inventories"]] == [mine["uuid"]]
    reason = f"it is on host host-2 ({there}), the VM runs on {here}"
    assert told["refused"] == [{"uuid": others["uuid"], "name": others["name"], "reasons": [reason]}]
    assert scene.admin.run("DELETE", f"/vm-instances/{vm}", None).status == 200
    refused = scene.admin.get(f"/vm-instances/{vm}/candidate-usb-devices")
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    unknown = scene.admin.get(f"/vm-instances/{'0' * 32}/candidate-usb-devices")
    assert unknown.error["code"] == "SYS.1003"
    redirected = {"params": {"vmInstanceUuid": vm, "attachType": "Redirect"}}
    illegal = scene.admin.call("POST", f"{USB}/{mine['uuid']}/attach", redirected)
    assert (illegal.status, illegal.error["code"]) == (400, "SYS.1007")


def test_a_vm_with_a_device_does_not_move_and_is_stopped_for_maintenance(scene: Scene) -> None:
    source = scene.add_host(1)
    vm, device = scene.created()["uuid"], usb_of(scene, source)["uuid"]
    scene.add_host(2)
    targets = f"/vm-instances/{vm}/migration-target-hosts"
    assert len(scene.admin.get(targets).body["inventories"]) == 1
    assert attach(scene, device, vm).status == 200
    refused = scene.migrate(vm)
    assert refused.error["code"] == "SYS.1006"
    assert f"({device}) of its host" in refused.error["details"]
    assert scene.admin.get(targets).body["inventories"] == []
    assert (scene.vm(vm)["state"], scene.vm(vm)["hostUuid"]) == ("Running", source)
    maintain = {"changeHostState": {"stateEvent": "maintain"}}
    assert scene.admin.run("PUT", f"/hosts/{source}/actions", maintain).status == 200
    assert (scene.vm(vm)["state"], scene.on_host(source)) == ("Stopped", [])
    assert usb_of(scene, source)["vmInstanceUuid"] == vm, "it has its device when its host is back"


def test_what_its_host_refuses_is_taken_back(scene: Scene) -> None:
    host = scene.add_host(1)
    vm, device = scene.created()["uuid"], usb_of(scene, host)["uuid"]
    scene.vms_file(host).write_text("[]")
    refused = attach(scene, device, vm)
    assert refused.error["code"] == "SYS.1006"
    assert "does not run on this simulated host" in refused.error["details"]
    assert "vmInstanceUuid" not in usb_of(scene, host)


def test_a_device_is_freed_though_its_host_is_lost_and_leaves_the_vm_when_the_host_is_back(
    scene: Scene,
) -> None:
    host = scene.add_host(1)
    vm, device = scene.created()["uuid"], usb_of(scene, host)["uuid"]
    assert attach(scene, device, vm).status == 200
    scene.control("lose", "--host", host)
    scene.wait_for(vm, "Unknown")
    assert detach(scene, device).status == 200
    assert "vmInstanceUuid" not in usb_of(scene, host)
    assert held_on(scene, host, vm) == [device], "nobody could tell the host"
    refused = attach(scene, device, scene.created("stopped", strategy="CreateStopped")["uuid"])
    assert "is Disconnected" in refused.error["details"]
    scene.control("recover")
    wait_until(lambda: held_on(scene, host, vm) == [], "the VM keeps the device", TIMEOUT_S)
    scene.wait_for(vm, "Running")


def test_a_vm_that_lost_its_device_behind_the_nodes_back_gets_it_when_its_host_is_back(scene: Scene) -> None:
    host = scene.add_host(1)
    vm, device = scene.created()["uuid"], usb_of(scene, host)["uuid"]
    assert attach(scene, device, vm).status == 200
    scene.control("lose", "--host", host)
    scene.wait_for(vm, "Unknown")
    file = scene.vms_file(host)
    file.write_text(json.dumps([{**one, "devices": []} for one in json.loads(file.read_bytes())]))
    scene.control("recover")
    wait_until(lambda: held_on(scene, host, vm) == [device], "the VM lacks its device", TIMEOUT_S)


def test_a_vm_that_goes_leaves_its_devices(scene: Scene) -> None:
    host = scene.add_host(1)
    vm, device = scene.created()["uuid"], usb_of(scene, host)["uuid"]
    assert attach(scene, device, vm).status == 200
    assert scene.admin.run("DELETE", f"/vm-instances/{vm}", None).status == 200
    assert "vmInstanceUuid" not in usb_of(scene, host), "a destroyed VM has none"
    assert scene.act(vm, "recoverVmInstance").status == 200
    assert attach(scene, device, vm).status == 200
    assert scene.admin.run("DELETE", f"/vm-instances/{vm}", None).status == 200
    assert scene.act(vm, "expungeVmInstance").status == 200
    assert "vmInstanceUuid" not in usb_of(scene, host)
    other = scene.created("other")["uuid"]
    assert attach(scene, device, other).status == 200
    assert scene.admin.run("DELETE", f"/hosts/{host}", None).status == 200
    assert scene.admin.query(USB) == []
    assert scene.vm(other)["state"] == "Stopped"


def test_usb_redirection_is_a_tag_that_counts_from_the_next_start_on(scene: Scene) -> None:
    scene.add_host(1)
    vm = scene.created()["uuid"]
    path = f"/vm-instances/{vm}/usbredirect"
    screen = f"/vm-instances/{vm}/console-addresses"
    first = scene.admin.get(path)
    assert (first.body, first.headers.get("X-Hardpoint-Notice")) == ({"enable": False}, None)
    assert scene.act(vm, "setVmUsbRedirect", enable=True).body == {}
    now = scene.admin.get(path)
    assert now.body == {"enable": True}
    assert now.headers["X-Hardpoint-Notice"].startswith("restart needed: USB redirection is enabled")
    assert "spicePort" not in scene.admin.get(screen).body
    (tag,) = scene.admin.query("/system-tags", f"resourceUuid={vm}")
    assert (tag["tag"], tag["resourceType"]) == ("usbRedirect::true", "VmInstanceVO")
    assert scene.act(vm, "rebootVmInstance").status == 200
    after = scene.admin.get(path)
    assert (after.body, after.headers.get("X-Hardpoint-Notice")) == ({"enable": True}, None)
    assert scene.admin.get(screen).body["spicePort"] > 0
    for _ in range(2):
        assert scene.act(vm, "setVmUsbRedirect", enable=False).status == 200
    (tag,) = scene.admin.query("/system-tags", f"resourceUuid={vm}")
    assert tag["tag"] == "usbRedirect::false"
    assert "disabled from" in scene.admin.get(path).headers["X-Hardpoint-Notice"]
    assert scene.act("0" * 32, "setVmUsbRedirect", enable=True).error["code"] == "SYS.1003"
    unknown = scene.admin.get(f"/vm-instances/{'0' * 32}/usbredirect")
    assert (unknown.status, unknown.error["code"]) == (503, "SYS.1003")
    born = scene.created("born", systemTags=["usbRedirect::true"])["uuid"]
    assert scene.admin.get(f"/vm-instances/{born}/usbredirect").body == {"enable": True}
    illegal = scene.create("wrong", systemTags=["usbRedirect::perhaps"])
    assert illegal.error["code"] == "SYS.1007"
