"""An image of a backup storage is cloned into the primary storage of the same cluster; nothing is copied."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.ceph.cluster import MIB, Cluster
from tests.ceph.test_host_images import holds
from tests.ceph.test_storages import BACKUP, PRIMARY, delete, expunge, mon_url, setting
from tests.ceph.test_volumes import LOGIN, Scene, images, libvirtd, one_libvirtd, scene

__all__ = ["libvirtd", "one_libvirtd", "scene"]

CONTENT = bytes([5]) * (64 << 10) + random.Random(9).randbytes(8 * MIB - (64 << 10))


def add_backup(scene: Scene, cluster: Cluster, **more: Any) -> tuple[str, str]:
    """Add a backup storage of the cluster; return its uuid and its pool."""
    setting(scene.admin, "image.expiration.time", "0")
    made = scene.admin.create(BACKUP, monUrls=[mon_url(cluster, 0)], name="b", **more)
    assert scene.admin.run("POST", f"/zones/{scene.zone}/backup-storage/{made['uuid']}", None).status == 200
    return made["uuid"], made["poolName"]


def add_image(scene: Scene, folder: Path, *storages: str, media: str = "DataVolumeTemplate") -> str:
    file = folder / "disk.raw"
    file.write_bytes(CONTENT)
    more = {"mediaType": media, "backupStorageUuids": list(storages)}
    return str(scene.admin.create("/images", name="i", url=f"file://{file}", format="raw", **more)["uuid"])


def of_image(scene: Scene, image: str) -> str:
    """Make a volume of an image; return its uuid."""
    path = f"/volumes/data/from/data-volume-templates/{image}"
    return str(scene.admin.create(path, name="v", primaryStorageUuid=scene.ceph)["uuid"])


def may(cluster: Cluster, storage: str) -> str:
    """Return what the key of a storage may do with images."""
    (found,) = cluster.ceph("auth", "get", f"client.hardpoint-{storage}")
    return str(found["caps"]["osd"])


def below(cluster: Cluster, image: str) -> str:
    parent = cluster.rbd("info", image)["parent"]
    return f"{parent['pool']}/{parent['image']}@{parent['snapshot']}"


def trash(cluster: Cluster, pool: str) -> list[str]:
    return [each["name"] for each in cluster.rbd("trash", "ls", "-p", pool)]


def clean(scene: Scene, storage: str) -> None:
    scene.act(f"/primary-storage/{storage}", "cleanUpImageCacheOnPrimaryStorage")


def test_a_volume_is_a_clone_of_the_backup_image_which_goes_after_it(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    backup, pool = add_backup(scene, cluster)
    image = add_image(scene, tmp_path, backup)
    cache = f"pri-c-{scene.ceph}"
    assert pool not in may(cluster, scene.ceph), "it may read what it needs only"
    volume = of_image(scene, image)
    assert below(cluster, f"{cache}/{image}") == f"{pool}/{image}@{image}"
    assert below(cluster, scene.image(volume)) == f"{cache}/{image}@{image}"
    used = cluster.rbd("du", f"{cache}/{image}")["images"]
    assert [each["used_size"] for each in used] == [0] * len(used), "bytes were copied"
    assert scene.show(volume)["size"] == 8 * MIB
    assert f"profile rbd-read-only pool={pool}" in may(cluster, scene.ceph)
    assert holds(cluster, scene.image(volume), 0, "5")

    # The image is deleted, and then its backup storage: what stands on it can be read still.
    expunge(scene.admin, image)
    assert (cluster.names(pool), trash(cluster, pool)) == ([], [image])
    delete(scene.admin, f"/backup-storage/{backup}")
    scene.act(f"/primary-storage/{scene.ceph}", "reconnectPrimaryStorage")
    assert f"profile rbd-read-only pool={pool}" in may(cluster, scene.ceph)
    scene.move(volume, scene.local)
    file = scene.node.state / "storage" / scene.host / scene.show(volume)["installPath"].lstrip("/")
    assert file.read_bytes() == CONTENT

    # What the move has put into the trash stands on the cached image, and this on the backup image.
    clean(scene, scene.ceph)
    assert cluster.names(cache) == []
    assert trash(cluster, cache) == [image]
    assert f"profile rbd-read-only pool={pool}" in may(cluster, scene.ceph)
    scene.expunge(volume)
    delete(scene.admin, f"/clusters/{scene.cluster}/primary-storage/{scene.ceph}")
    setting(scene.admin, "primaryStorage.deletePool", "false")
    delete(scene.admin, f"/primary-storage/{scene.ceph}")
    assert images(cluster, scene.ceph) == []
    assert (cluster.names(pool), trash(cluster, pool)) == ([], [])
    assert f"client.hardpoint-{scene.ceph}" not in cluster.users()
    for left in (pool, *(name for name in cluster.pools() if scene.ceph in name)):
        cluster.ceph("osd", "pool", "delete", left, left, "--yes-i-really-really-mean-it")


def test_an_emptied_cache_lets_the_backup_image_go_and_the_key_forgets_its_pool(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    backup, pool = add_backup(scene, cluster)
    store = scene.admin.create(
        "/backup-storage/image-store", hostname="127.0.4.2", url=str(tmp_path / "s"), name="s", **LOGIN
    )["uuid"]
    assert scene.admin.run("POST", f"/zones/{scene.zone}/backup-storage/{store}", None).status == 200
    image = add_image(scene, tmp_path, store, backup)
    cache = f"pri-c-{scene.ceph}"
    for _ in range(2):
        volume = of_image(scene, image)
        assert below(cluster, f"{cache}/{image}") == f"{pool}/{image}@{image}"
        scene.expunge(volume)
        clean(scene, scene.ceph)
        assert images(cluster, scene.ceph) == []
        assert pool not in may(cluster, scene.ceph)
        assert cluster.names(pool) == [image]
    volume = of_image(scene, image)
    expunge(scene.admin, image)
    scene.expunge(volume)
    assert (cluster.names(pool), trash(cluster, pool)) == ([], [image])
    clean(scene, scene.ceph)
    assert (cluster.names(pool), trash(cluster, pool)) == ([], [])
    for storage in (backup, store):
        delete(scene.admin, f"/backup-storage/{storage}")
    cluster.ceph("osd", "pool", "delete", pool, pool, "--yes-i-really-really-mean-it")


def test_both_storages_of_a_cluster_keep_their_images_in_pools_of_their_own(
    scene: Scene, cluster: Cluster
) -> None:
    wanted = {"monUrls": [mon_url(cluster, 0)], "name": "b", "poolName": f"pri-c-{scene.ceph}"}
    answer = scene.admin.run("POST", BACKUP, {"params": wanted})
    assert (answer.status, answer.error["code"]) == (503, "SYS.1007"), answer
    assert "has the images of primary storage ceph" in answer.error["details"]


def test_a_deleted_storage_leaves_no_clone_in_a_pool_that_stays(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    delete(scene.admin, f"/clusters/{scene.cluster}/primary-storage/{scene.ceph}")
    delete(scene.admin, f"/primary-storage/{scene.ceph}")
    pool = cluster.make_pool("named-cache")
    scene.ceph = scene.admin.create(
        PRIMARY,
        monUrls=[mon_url(cluster, 0)],
        name="again",
        zoneUuid=scene.zone,
        imageCachePoolName=pool,
    )["uuid"]
    scene.attach(scene.ceph)
    backup, backup_pool = add_backup(scene, cluster)
    image = add_image(scene, tmp_path, backup)
    scene.expunge(of_image(scene, image))
    expunge(scene.admin, image)
    assert (cluster.names(pool), trash(cluster, backup_pool)) == ([image], [image])
    delete(scene.admin, f"/clusters/{scene.cluster}/primary-storage/{scene.ceph}")
    delete(scene.admin, f"/primary-storage/{scene.ceph}")
    assert (cluster.names(pool), trash(cluster, pool), trash(cluster, backup_pool)) == ([], [], [])
    delete(scene.admin, f"/backup-storage/{backup}")
    for name in (pool, backup_pool):
        cluster.ceph("osd", "pool", "delete", name, name, "--yes-i-really-really-mean-it")


def test_a_root_volume_is_made_in_the_pool_that_is_given_with_its_vm(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    admin = scene.admin
    backup, backup_pool = add_backup(scene, cluster)
    image = add_image(scene, tmp_path, backup, media="RootVolumeTemplate")
    fast = admin.create(
        f"{PRIMARY}/{scene.ceph}/pools", poolName=f"fast-{scene.ceph}", isCreate=True, type="Root"
    )["poolName"]
    wanted = {"name": "vm", "cpuNum": 1, "memorySize": 64 * MIB, "imageUuid": image, "zoneUuid": scene.zone}
    wanted |= {"primaryStorageUuidForRootVolume": scene.ceph, "strategy": "JustCreate"}
    tag = f"ceph::rootPoolName::{fast}"
    vm = admin.create("/vm-instances", **wanted, systemTags=[tag])
    root = vm["rootVolumeUuid"]
    assert scene.image(root) == f"{fast}/{root}"
    assert below(cluster, scene.image(root)) == f"pri-c-{scene.ceph}/{image}@{image}"
    tags = admin.query("/system-tags", "tag~=ceph::%")
    assert [(each["resourceUuid"], each["tag"]) for each in tags] == [(root, tag)]

    nowhere = {**wanted, "systemTags": ["ceph::rootPoolName::nowhere"]}
    refused = admin.run("POST", "/vm-instances", {"params": nowhere})
    assert (refused.status, refused.error["code"]) == (503, "SYS.1007"), refused
    assert "has no such pool of the type Root" in refused.error["details"]
    data = scene.volume(systemTags=[tag])
    assert (data.status, data.error["code"]) == (503, "SYS.1007"), data
    delete(admin, f"/vm-instances/{vm['uuid']}")
    scene.act(f"/vm-instances/{vm['uuid']}", "expungeVmInstance")
    clean(scene, scene.ceph)
    assert images(cluster, scene.ceph) == []
    expunge(admin, image)
    delete(admin, f"/backup-storage/{backup}")
    cluster.ceph("osd", "pool", "delete", backup_pool, backup_pool, "--yes-i-really-really-mean-it")
