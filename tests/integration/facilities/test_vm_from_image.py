"""VMs whose root volume is made of an image of an image store, under a real libvirtd, through the API."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.integration.hosts.conftest import make_machine
from tests.libvirtd import OBEY_POWER_BUTTON, POWER_OFF, Libvirtd, boot_sector, libvirtd, one_libvirtd
from tests.node import Answer, Node, Rest, run_node

__all__ = ["libvirtd", "one_libvirtd"]

MB = 2**20
TIMEOUT_S = 120.0
DISKS = {
    "/patient.raw": boot_sector(OBEY_POWER_BUTTON) + bytes(2 * MB - 512),
    "/hasty.raw": boot_sector(POWER_OFF) + bytes(2 * MB - 512),
}


class Web(http.server.BaseHTTPRequestHandler):
    """Serves the disks."""

    def do_GET(self) -> None:
        disk = DISKS[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(disk)))
        self.end_headers()
        self.wfile.write(disk)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Scene:
    """A node with a KVM host, a local storage and an image store with two images."""

    node: Node
    admin: Rest
    zone: str
    host: str
    storage: str
    patient: str
    hasty: str

    def create(self, image: str, **more: Any) -> Answer:
        params = {"name": "vm", "cpuNum": 1, "memorySize": 64 * MB, "imageUuid": image, "zoneUuid": self.zone}
        return self.admin.run("POST", "/vm-instances", {"params": {**params, **more}})

    def created(self, image: str, **more: Any) -> dict[str, Any]:
        answer = self.create(image, **more)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.body["inventory"]
        return found

    def vm(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/vm-instances/{uuid}")
        return found

    def act(self, uuid: str, operation: str, **params: Any) -> Answer:
        return self.admin.run("PUT", f"/vm-instances/{uuid}/actions", {operation: params})

    def available(self) -> int:
        (found,) = self.admin.query(f"/primary-storage/{self.storage}")
        room: int = found["availableCapacity"]
        return room

    def files(self) -> list[str]:
        root = self.node.state / "storage" / self.host / "p"
        found = [f for f in root.rglob("*") if f.is_file() and not {".hardpoint", ".trash"} & set(f.parts)]
        return sorted(str(f.relative_to(root)) for f in found)


@pytest.fixture
def scene(tmp_path: Path, libvirtd: Libvirtd) -> Iterator[Scene]:
    make_machine(tmp_path / "machine")
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
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
        local = admin.create("/primary-storage/local-storage", name="p", url="/p", zoneUuid=zone)["uuid"]
        assert admin.run("POST", f"/clusters/{cluster}/primary-storage/{local}", {}).status == 200
        folder = {"hostname": "127.0.3.2", "url": str(tmp_path / "store")}
        store = admin.create("/backup-storage/image-store", name="s", **folder, **login)["uuid"]
        assert admin.run("POST", f"/zones/{zone}/backup-storage/{store}", None).status == 200
        base = f"http://127.0.0.1:{web.server_address[1]}"
        images = [
            admin.create("/images", name=path[1:], url=base + path, format="raw", backupStorageUuids=[store])[
                "uuid"
            ]
            for path in DISKS
        ]
        yield Scene(node, admin, zone, host["uuid"], local, *images)
    web.shutdown()


def test_a_vm_boots_from_its_image_and_its_root_volume_goes_with_it(scene: Scene, libvirtd: Libvirtd) -> None:
    admin, before = scene.admin, scene.available()
    offering = admin.create("/disk-offerings", name="d", diskSize=3 * MB)["uuid"]
    vm = scene.created(scene.patient, dataDiskOfferingUuids=[offering])
    assert (vm["state"], vm["imageUuid"], vm["hostUuid"]) == ("Running", scene.patient, scene.host)
    root, data = scene.vm(vm["uuid"])["allVolumes"]
    assert (root["type"], root["uuid"], root["deviceId"]) == ("Root", vm["rootVolumeUuid"], 0)
    assert (root["rootImageUuid"], root["size"], root["status"]) == (scene.patient, 2 * MB, "Ready")
    assert (data["type"], data["diskOfferingUuid"], data["deviceId"]) == ("Data", offering, 1)
    assert scene.available() < before
    # Only what the image has on its disk makes the VM obey its power button.
    stopped = scene.act(vm["uuid"], "stopVmInstance")
    assert stopped.status == 200, stopped
    assert stopped.body["inventory"]["state"] == "Stopped"
    assert scene.act(vm["uuid"], "startVmInstance").status == 200

    assert admin.run("DELETE", f"/volumes/{root['uuid']}", None).error["code"] == "SYS.1006"
    assert admin.run("DELETE", f"/vm-instances/{vm['uuid']}", None).status == 200
    assert scene.act(vm["uuid"], "recoverVmInstance").body["inventory"]["rootVolumeUuid"] == root["uuid"]
    assert admin.run("DELETE", f"/vm-instances/{vm['uuid']}", None).status == 200
    assert scene.act(vm["uuid"], "expungeVmInstance").status == 200
    assert [one["uuid"] for one in admin.query("/volumes")] == [data["uuid"]], "data volumes outlive their VM"
    assert admin.run("DELETE", f"/volumes/{data['uuid']}", None).status == 200
    path = f"/volumes/{data['uuid']}/actions"
    assert admin.run("PUT", path, {"expungeDataVolume": {}}).status == 200
    path = f"/primary-storage/{scene.storage}/actions"
    assert admin.run("PUT", path, {"cleanUpImageCacheOnPrimaryStorage": {}}).status == 200
    assert scene.files() == []
    assert scene.available() == before


def test_a_vm_that_powers_itself_off_is_seen(scene: Scene, libvirtd: Libvirtd) -> None:
    vm = scene.created(scene.hasty)
    wait_until(lambda: scene.vm(vm["uuid"])["state"] == "Stopped", "the VM has not stopped", TIMEOUT_S)


def test_a_vm_that_cannot_have_its_disks_leaves_nothing(scene: Scene, libvirtd: Libvirtd) -> None:
    admin, before = scene.admin, scene.available()
    huge = admin.create("/disk-offerings", name="d", diskSize=2**50)["uuid"]
    answer = scene.create(scene.patient, dataDiskOfferingUuids=[huge])
    assert answer.error["code"] == "PS.1000", answer
    answer = scene.create(scene.patient, memorySize=2**60)
    assert answer.error["code"] == "VM.1000", answer
    assert admin.run("PUT", f"/images/{scene.hasty}/actions", {"changeImageState": {"stateEvent": "disable"}})
    answer = scene.create(scene.hasty)
    assert answer.error["code"] == "SYS.1006", answer
    assert "is Disabled" in answer.error["details"]
    answer = scene.create(scene.patient, rootDiskOfferingUuid=huge, strategy="CreateStopped")
    assert answer.error["code"] == "PS.1000", answer
    assert admin.query("/vm-instances") == []
    assert admin.query("/volumes") == []
    path = f"/primary-storage/{scene.storage}/actions"
    assert admin.run("PUT", path, {"cleanUpImageCacheOnPrimaryStorage": {}}).status == 200
    assert scene.files() == []
    assert scene.available() == before


def test_a_data_volume_is_made_of_an_image(scene: Scene, libvirtd: Libvirtd) -> None:
    admin = scene.admin
    (image,) = admin.query(f"/images/{scene.patient}")
    path = f"/volumes/data/from/data-volume-templates/{scene.patient}"
    wanted = {"name": "v", "primaryStorageUuid": scene.storage, "hostUuid": scene.host}
    refused = admin.run("POST", path, {"params": wanted})
    assert refused.error["code"] == "SYS.1007", refused
    template = admin.create(
        "/images",
        name="data",
        url=image["url"],
        format="raw",
        mediaType="DataVolumeTemplate",
        backupStorageUuids=[ref["backupStorageUuid"] for ref in image["backupStorageRefs"]],
    )["uuid"]
    volume = admin.create(f"/volumes/data/from/data-volume-templates/{template}", **wanted)
    assert (volume["status"], volume["type"], volume["size"]) == ("Ready", "Data", 2 * MB)
    assert volume["rootImageUuid"] == template
