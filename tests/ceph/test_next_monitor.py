"""What is asked of a cluster goes to the next monitor's agent when the first one does not answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.ceph.cluster import Cluster
from tests.ceph.test_clones import add_image
from tests.ceph.test_storages import BACKUP, PRIMARY, delete, expunge, mon_url, setting, statuses
from tests.ceph.test_volumes import Scene, libvirtd, one_libvirtd, scene
from tests.helpers import wait_until
from tests.silence import agent_pid, silent

__all__ = ["libvirtd", "one_libvirtd", "scene"]


def test_everything_works_while_one_monitors_agent_does_not_answer(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    admin, node = scene.admin, scene.node
    setting(admin, "image.expiration.time", "0")
    first = cluster.monitors[0].address
    added = {"monUrls": [mon_url(cluster, 1)]}
    assert admin.run("POST", f"{PRIMARY}/{scene.ceph}/mons", {"params": added}).status == 200
    both = [mon_url(cluster, number) for number in (0, 1)]
    backup = admin.create(BACKUP, monUrls=both, name="b")
    assert admin.run("POST", f"/zones/{scene.zone}/backup-storage/{backup['uuid']}", None).status == 200
    with silent(node, first):
        # Nobody knows yet that it is away.
        pool = admin.create(f"{PRIMARY}/{scene.ceph}/pools", poolName=f"new-{scene.ceph}", isCreate=True)
        assert pool["replicatedSize"] == 1
        image = add_image(scene, tmp_path, backup["uuid"])
        wait_until(lambda: _of(scene, first) == "Disconnected", "its monitor is known to be away", 60)
        (found,) = admin.query(PRIMARY, f"uuid={scene.ceph}")
        assert (found["status"], sorted(statuses(found).values())) == (
            "Connected",
            ["Connected", "Disconnected"],
        )
        path = f"/volumes/data/from/data-volume-templates/{image}"
        volume = admin.create(path, name="v", primaryStorageUuid=scene.ceph)["uuid"]
    wait_until(lambda: _of(scene, first) == "Connected", "its monitor is back", 60)

    # Killed, its agent is started again; meanwhile the other one is asked.
    os.kill(agent_pid(node, first), signal.SIGKILL)
    export = f"/backup-storage/{backup['uuid']}"
    assert image in scene.act(export, "exportImageFromBackupStorage", imageUuid=image)["imageUrl"]
    assert admin.run("DELETE", f"{export}/exported-images/{image}", None).status == 200
    scene.expunge(volume)
    scene.act(f"/primary-storage/{scene.ceph}", "cleanUpImageCacheOnPrimaryStorage")
    expunge(admin, image)
    assert cluster.names(backup["poolName"]) == []
    assert cluster.rbd("trash", "ls", "-p", backup["poolName"]) == []
    delete(admin, f"/clusters/{scene.cluster}/primary-storage/{scene.ceph}")
    delete(admin, f"/primary-storage/{scene.ceph}")
    assert not [user for user in cluster.users() if scene.ceph in user]
    assert not [name for name in cluster.pools() if scene.ceph in name]


def _of(scene: Scene, address: str) -> str:
    (found,) = scene.admin.query(PRIMARY, f"uuid={scene.ceph}")
    return statuses(found)[address]
