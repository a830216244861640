"""VMs with data volumes under a real libvirtd, through the API."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.integration.hosts.conftest import make_machine
from tests.libvirtd import Libvirtd, libvirtd, one_libvirtd
from tests.node import Answer, Rest, run_node

__all__ = ["libvirtd", "one_libvirtd"]

MB = 2**20
TIMEOUT_S = 120.0


@dataclass
class Scene:
    """A node with one KVM host, whose VMs are emulated, and a local storage."""

    admin: Rest
    zone: str
    cluster: str
    host: str
    storage: str

    def vm(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/vm-instances/{uuid}")
        return found

    def volume(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/volumes/{uuid}")
        return found

    def act(self, uuid: str, operation: str, **params: Any) -> Answer:
        return self.admin.run("PUT", f"/vm-instances/{uuid}/actions", {operation: params})


@pytest.fixture
def scene(tmp_path: Path, libvirtd: Libvirtd) -> Iterator[Scene]:
    make_machine(tmp_path / "machine")
    environment = {
        "HARDPOINT_LOCAL_AGENT_ROOT": str(tmp_path / "machine"),
        "HARDPOINT_LOCAL_AGENT_LIBVIRT": libvirtd.uri,
    }
    for node in run_node(tmp_path / "state", environment):
        admin = node.rest().logged_in()
        zone = admin.create("/zones", name="zone")["uuid"]
        cluster = admin.create("/clusters", name="c", zoneUuid=zone, hypervisorType="KVM")["uuid"]
        login = {"username": "root", "password": "unused"}
        host = admin.create("/hosts/kvm", name="h", managementIp="127.0.3.1", clusterUuid=cluster, **login)
        local = admin.create("/primary-storage/local-storage", name="p", url="/p", zoneUuid=zone)
        attached = admin.run("POST", f"/clusters/{cluster}/primary-storage/{local['uuid']}", {})
        assert attached.status == 200, attached
        yield Scene(admin, zone, cluster, host["uuid"], local["uuid"])


def test_a_data_volume_goes_with_its_vm(scene: Scene, libvirtd: Libvirtd) -> None:
    admin = scene.admin
    size = {"cpuNum": 1, "memorySize": 64 * MB}
    vm = admin.create("/vm-instances", name="vm", zoneUuid=scene.zone, **size)["uuid"]
    assert scene.vm(vm)["state"] == "Running"
    volume = admin.create("/volumes/data", name="v", diskSize=8 * MB)["uuid"]
    assert scene.volume(volume)["status"] == "NotInstantiated"
    path = f"/volumes/{volume}/vm-instances/{vm}"
    attached = admin.run("POST", path, {})
    assert attached.status == 200, attached
    row = attached.body["inventory"]
    assert (row["status"], row["vmInstanceUuid"], row["deviceId"]) == ("Ready", vm, 1)
    assert [one["uuid"] for one in scene.vm(vm)["allVolumes"]] == [volume]
    assert volume in libvirtd.virsh("dumpxml", vm).stdout
    assert admin.run("POST", path, {}).error["code"] == "SYS.1006", "it is attached already"
    snapshot = admin.run("POST", f"/volumes/{volume}/volume-snapshots", {"params": {"name": "s"}})
    assert snapshot.error["code"] == "SYS.1006", "a running VM has it open"
    (pid,) = libvirtd.processes()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: scene.vm(vm)["state"] == "Stopped", "a killed VM is not Stopped", TIMEOUT_S)
    assert scene.act(vm, "startVmInstance").status == 200
    assert volume in libvirtd.virsh("dumpxml", vm).stdout
    assert scene.act(vm, "stopVmInstance", type="cold").status == 200
    assert libvirtd.virsh("list", "--all", "--name").stdout.split() == []
    detached = admin.run("DELETE", f"/volumes/{volume}/vm-instances", None)
    assert detached.status == 200, detached
    assert detached.body["inventory"].get("vmInstanceUuid") is None
    assert scene.vm(vm)["allVolumes"] == []
    assert admin.run("POST", path, {}).status == 200, "it can be attached to a stopped VM"
    assert admin.run("DELETE", f"/vm-instances/{vm}", None).status == 200
    assert scene.act(vm, "expungeVmInstance").status == 200
    assert scene.volume(volume).get("vmInstanceUuid") is None, "data volumes outlive their VM"


def test_a_vm_that_reboots_before_it_has_let_go_of_a_volume_comes_up_without_it(
    scene: Scene, libvirtd: Libvirtd
) -> None:
    admin = scene.admin
    patience = "/global-configurations/vm/stop.patience/actions"
    assert admin.run("PUT", patience, {"updateGlobalConfig": {"value": "0"}}).status == 200
    vm = admin.create("/vm-instances", name="vm", zoneUuid=scene.zone, cpuNum=1, memorySize=64 * MB)["uuid"]
    volume = admin.create("/volumes/data", name="v", diskSize=8 * MB)["uuid"]
    assert admin.run("POST", f"/volumes/{volume}/vm-instances/{vm}", {}).status == 200
    detaching = admin.call("DELETE", f"/volumes/{volume}/vm-instances")  # it has no system that could let go
    wait_until(lambda: scene.volume(volume)["status"] == "Detaching", "it is not detached", TIMEOUT_S)
    assert scene.volume(volume)["vmInstanceUuid"] == vm
    assert scene.act(vm, "rebootVmInstance").status == 200
    assert volume not in libvirtd.virsh("dumpxml", vm).stdout
    detached = admin.wait(detaching.location)
    assert detached.status == 200, detached
    row = scene.volume(volume)
    assert (row["status"], row.get("vmInstanceUuid")) == ("Ready", None)
    assert scene.vm(vm)["state"] == "Running"
