"""Volumes move between Ceph and shared blocks; LVM and its locks are a double (`tests.lvm`)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lvm
from tests.ceph.cluster import MIB, Cluster
from tests.ceph.test_host_images import holds, snapshots, write
from tests.ceph.test_storages import delete
from tests.ceph.test_volumes import Scene, images, run_scene
from tests.integration.hosts.conftest import make_machine
from tests.libvirtd import Libvirtd, libvirtd, one_libvirtd
from tests.lvm_socket import lvmlockd

__all__ = ["libvirtd", "one_libvirtd"]

WWID = "6001405" + "1" * 25


@pytest.fixture
def scene(tmp_path: Path, cluster: Cluster, libvirtd: Libvirtd) -> Iterator[Scene]:
    make_machine(tmp_path / "machine")
    lvm.install(tmp_path / "lvm", tmp_path / "machine/dev", [WWID])
    path = f"{tmp_path / 'lvm/bin'}:{cluster.programs.path()}"
    with lvmlockd(tmp_path / "machine/run/lvm/lvmlockd.socket"):
        yield from run_scene(tmp_path, cluster, libvirtd, path)


def host_of(folder: Path) -> lvm.LvmHost:
    """Return what the double has of the host."""
    with lvm.installed(folder / "lvm") as host:
        return host


def test_a_volume_moves_from_ceph_to_shared_blocks_and_back(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    params = {"name": "blocks", "zoneUuid": scene.zone, "diskUuids": [f"3{WWID}"]}
    blocks = scene.admin.create("/primary-storage/sharedblockgroup", **params)["uuid"]
    scene.attach(blocks)
    volume = scene.volume().body["inventory"]["uuid"]
    write(cluster, scene.image(volume), 0, "1")
    snapshot = scene.snapshot(volume, "first")
    write(cluster, scene.image(volume), MIB, "2")

    path = f"/primary-storage/volumes/{volume}"
    moved = scene.act(path, "primaryStorageMigrateVolume", dstPrimaryStorageUuid=blocks)["inventory"]
    assert (moved["primaryStorageUuid"], moved["status"], moved["size"]) == (blocks, "Ready", 8 * MIB)
    host = host_of(tmp_path)
    assert {name for name in host.lvm.vgs[blocks].lvs if name.partition(".")[0] == volume}
    assert host.active == {}, "no lock is left on it"
    raw = tmp_path / "raw"
    now = tmp_path / "lvm/store" / Path(moved["installPath"]).name
    subprocess.run(["qemu-img", "convert", "-f", moved["format"], "-O", "raw", now, raw], check=True)
    content = raw.read_bytes()
    assert (content[0], content[MIB], len(content)) == (1, 2, 8 * MIB)

    scene.move(volume, scene.ceph)
    assert holds(cluster, scene.image(volume), 0, "1")
    assert holds(cluster, scene.image(volume), MIB, "2")
    delete(scene.admin, f"/volume-snapshots/{snapshot}")
    assert snapshots(cluster, scene.image(volume)) == []
    scene.expunge(volume)
    delete(scene.admin, f"/clusters/{scene.cluster}/primary-storage/{blocks}")
    assert host_of(tmp_path).joined == {}
    assert [name for name in images(cluster, scene.ceph) if name.partition(".")[0] != volume] == []
