"""Volumes and a VM on a Ceph primary storage, through the API: real node, agents, cluster and libvirtd."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ceph.cluster import MIB, Cluster
from tests.ceph.test_host_images import holds, snapshots, write
from tests.ceph.test_storages import PRIMARY, delete, mon_url, setting
from tests.helpers import wait_until
from tests.integration.hosts.conftest import make_machine
from tests.libvirtd import OBEY_POWER_BUTTON, Libvirtd, boot_sector, libvirtd, one_libvirtd
from tests.node import Answer, Node, Rest, run_node

__all__ = ["libvirtd", "one_libvirtd"]

HOST = "127.0.4.1"
LOGIN = {"username": "root", "password": "unused"}


@dataclass
class Scene:
    """A node with a KVM host that has a Ceph storage and a local one."""

    node: Node
    admin: Rest
    zone: str
    cluster: str
    host: str
    ceph: str
    local: str

    def attach(self, storage: str) -> None:
        answer = self.admin.run("POST", f"/clusters/{self.cluster}/primary-storage/{storage}", {})
        assert answer.status == 200, answer

    def volume(self, **more: Any) -> Answer:
        wanted = {"name": "v", "diskSize": 8 * MIB, "primaryStorageUuid": self.ceph, **more}
        return self.admin.run("POST", "/volumes/data", {"params": wanted})

    def act(self, path: str, operation: str, **params: Any) -> Any:
        answer = self.admin.run("PUT", f"{path}/actions", {operation: params})
        assert answer.status == 200, answer
        return answer.body

    def show(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/volumes/{uuid}")
        return found

    def image(self, uuid: str) -> str:
        """Return the pool and the name of the image that a volume is now."""
        return str(self.show(uuid)["installPath"]).removeprefix("ceph://")

    def snapshot(self, volume: str, name: str) -> str:
        made = self.admin.create(f"/volumes/{volume}/volume-snapshots", name=name)
        return str(made["uuid"])

    def move(self, volume: str, storage: str) -> None:
        path = f"/primary-storage/volumes/{volume}"
        moved = self.act(path, "primaryStorageMigrateVolume", dstPrimaryStorageUuid=storage)["inventory"]
        assert (moved["primaryStorageUuid"], moved["format"], moved["status"]) == (storage, "raw", "Ready")

    def expunge(self, volume: str) -> None:
        delete(self.admin, f"/volumes/{volume}")
        self.act(f"/volumes/{volume}", "expungeDataVolume")


@pytest.fixture
def scene(tmp_path: Path, cluster: Cluster, libvirtd: Libvirtd) -> Iterator[Scene]:
    make_machine(tmp_path / "machine")
    yield from run_scene(tmp_path, cluster, libvirtd, cluster.programs.path())


def run_scene(folder: Path, cluster: Cluster, libvirtd: Libvirtd, path: str) -> Iterator[Scene]:
    """Run a node whose host is the machine in `folder`, with the programs in `path`."""
    environment = {
        "HARDPOINT_LOCAL_AGENT_CEPH": str(cluster.configuration),
        "HARDPOINT_LOCAL_AGENT_ROOT": str(folder / "machine"),
        "HARDPOINT_LOCAL_AGENT_LIBVIRT": libvirtd.uri,
        "PATH": path,
    }
    for node in run_node(folder / "state", environment):
        admin = node.rest().logged_in()
        setting(admin, "primaryStorage.deletePool", "true")
        zone = admin.create("/zones", name="zone")["uuid"]
        place = admin.create("/clusters", name="c", zoneUuid=zone, hypervisorType="KVM")["uuid"]
        host = admin.create("/hosts/kvm", name="h", managementIp=HOST, clusterUuid=place, **LOGIN)
        local = admin.create("/primary-storage/local-storage", name="p", url="/p", zoneUuid=zone)["uuid"]
        ceph = admin.create(PRIMARY, monUrls=[mon_url(cluster, 0)], name="ceph", zoneUuid=zone)["uuid"]
        made = Scene(node, admin, zone, place, host["uuid"], ceph, local)
        for storage in (ceph, local):
            made.attach(storage)
        yield made


def holding(folder: Path, key: str) -> list[Path]:
    """Return the files that a key is in."""
    found = []
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it may go meanwhile
            if file.is_file() and key.encode() in file.read_bytes():
                found.append(file)
    return found


def images(cluster: Cluster, storage: str) -> list[str]:
    """Return all images of a storage's own pools, those in the trash too."""
    pools = [pool for pool in cluster.pools() if storage in pool]
    trash = [each["name"] for pool in pools for each in cluster.rbd("trash", "ls", "-p", pool)]
    return [name for pool in pools for name in cluster.names(pool)] + trash


def test_volumes_live_on_ceph_and_leave_nothing_behind(scene: Scene, cluster: Cluster) -> None:
    admin = scene.admin
    assert f"client.hardpoint-{scene.ceph}" in cluster.users()
    made = scene.volume().body["inventory"]
    volume = made["uuid"]
    pool = f"pri-v-d-{scene.ceph}"
    assert (made["format"], made["status"]) == ("raw", "Ready")
    assert made["installPath"] == f"ceph://{pool}/{volume}"
    grown = scene.act(f"/volumes/data/resize/{volume}", "resizeDataVolume", size=16 * MIB)["inventory"]
    assert grown["size"] == 16 * MIB
    assert cluster.rbd("info", f"{pool}/{volume}")["size"] == 16 * MIB

    write(cluster, scene.image(volume), 0, "1")
    first = scene.snapshot(volume, "first")
    write(cluster, scene.image(volume), 0, "2")
    second = scene.snapshot(volume, "second")
    write(cluster, scene.image(volume), 0, "3")
    scene.act(f"/volume-snapshots/{first}", "revertVolumeFromSnapshot")
    assert holds(cluster, scene.image(volume), 0, "1")
    delete(admin, f"/volume-snapshots/{second}")
    write(cluster, scene.image(volume), MIB, "4")

    # To a local storage and back, with the snapshot that is left.
    scene.move(volume, scene.local)
    file = scene.node.state / "storage" / scene.host / scene.show(volume)["installPath"].lstrip("/")
    assert (file.read_bytes()[0], file.read_bytes()[MIB]) == (1, 4)
    third = scene.snapshot(volume, "on files")
    assert scene.show(volume)["format"] == "qcow2"
    scene.move(volume, scene.ceph)
    assert holds(cluster, scene.image(volume), 0, "1")
    assert holds(cluster, scene.image(volume), MIB, "4")
    for snapshot in (third, first):
        delete(admin, f"/volume-snapshots/{snapshot}")
    assert holds(cluster, scene.image(volume), MIB, "4")
    assert snapshots(cluster, scene.image(volume)) == []

    # In another pool of the storage.
    other = admin.create(f"{PRIMARY}/{scene.ceph}/pools", poolName=f"fast-{scene.ceph}", isCreate=True)
    refused = scene.volume(systemTags=["ceph::pool::nowhere"])
    assert (refused.status, refused.error["code"]) == (503, "SYS.1007"), refused
    tagged = scene.volume(systemTags=[f"ceph::pool::fast-{scene.ceph}"]).body["inventory"]
    assert tagged["installPath"] == f"ceph://fast-{scene.ceph}/{tagged['uuid']}"
    stays = admin.run("DELETE", f"{PRIMARY}/pools/{other['uuid']}", None)
    assert stays.error["code"] == "SYS.1006", stays
    for each in (volume, tagged["uuid"]):
        scene.expunge(each)
    trashed = [name for name in images(cluster, scene.ceph) if name.partition(".")[0] == volume]
    assert len(trashed) == len(images(cluster, scene.ceph)), "what the move has put into the trash"
    for storage in (scene.ceph, scene.local):
        delete(admin, f"/clusters/{scene.cluster}/primary-storage/{storage}")
    assert not list(scene.node.state.glob("agents/*/ceph/*"))
    delete(admin, f"/primary-storage/{scene.ceph}")
    assert f"client.hardpoint-{scene.ceph}" not in cluster.users()
    assert not [name for name in cluster.pools() if scene.ceph in name]


def test_a_vm_of_a_qcow2_image_runs_on_ceph(
    scene: Scene, cluster: Cluster, libvirtd: Libvirtd, tmp_path: Path
) -> None:
    if not list(Path("/usr/lib").glob("*/qemu/block-rbd.so")):
        pytest.skip("QEMU cannot open RBD images here (scripts/bootstrap ceph)")
    admin = scene.admin
    raw, file = tmp_path / "boots.raw", tmp_path / "boots.qcow2"
    raw.write_bytes(boot_sector(OBEY_POWER_BUTTON).ljust(2 * MIB, b"\0"))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(file)], check=True)
    folder = {"hostname": "127.0.4.2", "url": str(tmp_path / "store")}
    store = admin.create("/backup-storage/image-store", name="s", **folder, **LOGIN)["uuid"]
    assert admin.run("POST", f"/zones/{scene.zone}/backup-storage/{store}", None).status == 200
    image = admin.create(
        "/images", name="i", url=f"file://{file}", format="qcow2", backupStorageUuids=[store]
    )["uuid"]
    offering = admin.create("/disk-offerings", name="d", diskSize=3 * MIB)["uuid"]
    wanted = {"name": "vm", "cpuNum": 1, "memorySize": 64 * MIB, "imageUuid": image, "zoneUuid": scene.zone}
    wanted |= {"dataDiskOfferingUuids": [offering], "primaryStorageUuidForRootVolume": scene.ceph}
    vm = admin.create("/vm-instances", **wanted)
    root, data = vm["rootVolumeUuid"], next(v["uuid"] for v in vm["allVolumes"] if v["type"] == "Data")
    cache = f"pri-c-{scene.ceph}"
    assert (vm["state"], snapshots(cluster, f"{cache}/{image}")) == ("Running", [image])
    assert cluster.names(cache) == [image]
    assert cluster.rbd("info", scene.image(root))["parent"]["image"] == image
    assert scene.image(data).startswith(f"pri-v-d-{scene.ceph}/")
    (pid,) = libvirtd.processes()
    key = cluster.ceph("auth", "get-key", f"client.hardpoint-{scene.ceph}")["key"]
    assert key not in Path(f"/proc/{pid}/cmdline").read_text()
    assert [file.parts[-3:] for file in holding(scene.node.state, key)] == [("ceph", scene.ceph, "keyring")]
    assert len(libvirtd.virsh("secret-list").stdout.split()) > 0

    scene.act(f"/vm-instances/{vm['uuid']}", "stopVmInstance")
    scene.snapshot(root, "s")
    scene.act(f"/vm-instances/{vm['uuid']}", "startVmInstance")
    wait_until(lambda: len(libvirtd.processes()) == 1, "the VM to run again", 60)
    scene.act(f"/vm-instances/{vm['uuid']}", "stopVmInstance")
    delete(admin, f"/vm-instances/{vm['uuid']}")
    scene.act(f"/vm-instances/{vm['uuid']}", "expungeVmInstance")
    scene.expunge(data)
    assert images(cluster, scene.ceph) == [image]
    scene.act(f"/primary-storage/{scene.ceph}", "cleanUpImageCacheOnPrimaryStorage")
    assert images(cluster, scene.ceph) == []
    for storage in (scene.ceph, scene.local):
        delete(admin, f"/clusters/{scene.cluster}/primary-storage/{storage}")
    assert libvirtd.virsh("secret-list").stdout.strip() == ""
    delete(admin, f"/primary-storage/{scene.ceph}")
