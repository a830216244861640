"""Agents and nodes that are killed in flows of RBD images: each ends as it has to, and leaves nothing."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mn.db.schema import new_uuid
from tests import postgres
from tests.ceph.cluster import MIB, Cluster
from tests.ceph.test_clones import add_backup, add_image, clean, trash
from tests.ceph.test_host_images import holds
from tests.ceph.test_storages import delete, expunge
from tests.ceph.test_volumes import HOST, Scene, images, libvirtd, one_libvirtd, scene
from tests.helpers import wait_until
from tests.integration.crash.scene import DOOMED
from tests.node import Answer
from tests.silence import agent_pid

__all__ = ["libvirtd", "one_libvirtd", "scene"]

SIZE = 384 * MIB


class Jobs:
    """Jobs of a node that may be killed: each is asked for by its own uuid."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def ask(self, method: str, path: str, body: dict[str, Any]) -> str:
        job = new_uuid()
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.scene.admin.call(method, path, body, headers={"X-Job-UUID": job})
            assert answer.status == 202, answer
        return job

    def move(self, volume: str, storage: str) -> str:
        path = f"/primary-storage/volumes/{volume}/actions"
        return self.ask("PUT", path, {"primaryStorageMigrateVolume": {"dstPrimaryStorageUuid": storage}})

    def ended(self, job: str) -> Answer:
        answer = self.scene.admin.wait(f"/api-jobs/{job}")
        assert answer.status == 200, answer
        assert postgres.rows(self.scene.node.state, "SELECT * FROM job_lock") == []
        return answer

    def done(self, method: str, path: str, body: dict[str, Any], killed_after_s: float) -> dict[str, Any]:
        """Have a job done whose agent is killed at whatever it is at then; return the inventory.

        One that needs a host while there is none fails, and is asked for again.
        """
        job = self.ask(method, path, body)
        time.sleep(killed_after_s)
        kill_agent(self.scene)
        answer = self.scene.admin.wait(f"/api-jobs/{job}")
        while answer.status != 200:
            assert answer.error["code"] == "PS.1003", answer
            self.wait_until_ready()
            answer = self.scene.admin.wait(f"/api-jobs/{self.ask(method, path, body)}")
        inventory: dict[str, Any] = answer.body["inventory"]
        return inventory

    def start(self, *program: str) -> None:
        """Start the node; returns when all that the jobs need is there."""
        node, admin = self.scene.node, self.scene.admin
        node.program = program or ("-m", "mn")
        node.start()
        admin.url = node.url
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when all that the jobs need is there."""
        admin = self.scene.admin
        wait_until(
            lambda: (
                {each["status"] for each in admin.query("/hosts")} == {"Connected"}
                and {each["status"] for each in admin.query("/primary-storage")} == {"Connected"}
            ),
            "hosts and storages are connected",
            120,
        )


def kill_agent(scene: Scene) -> None:
    """Kill the agent; one that was killed a moment ago, and is not back, is waited for."""

    def killed() -> bool:
        try:
            os.kill(agent_pid(scene.node, HOST), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    wait_until(killed, "there is an agent to kill", 60)


def filled(scene: Scene, cluster: Cluster) -> str:
    """Make a volume on the local storage that takes a while to copy; return its uuid."""
    tag = f"localStorage::hostUuid::{scene.host}"
    made = scene.volume(primaryStorageUuid=scene.local, diskSize=SIZE, systemTags=[tag]).body["inventory"]
    file = scene.node.state / "storage" / scene.host / made["installPath"].lstrip("/")
    cluster.run("qemu-io", "-f", "qcow2", "-c", f"write -P 7 0 {SIZE}", str(file))
    return str(made["uuid"])


def check_content(scene: Scene, cluster: Cluster, volume: str) -> None:
    """See that a volume has what was written to it, and that no partial image or file is left."""
    shown = scene.show(volume)
    if shown["primaryStorageUuid"] == scene.ceph:
        assert all(holds(cluster, scene.image(volume), at, "7") for at in (0, SIZE // 2, SIZE - 65536))
        assert cluster.names(f"pri-v-d-{scene.ceph}") == [volume]
        assert cluster.rbd("snap", "ls", scene.image(volume)) == []
    else:
        file = scene.node.state / "storage" / scene.host / shown["installPath"].lstrip("/")
        assert file.stat().st_size == SIZE
        assert file.read_bytes().count(7) == SIZE
        assert cluster.names(f"pri-v-d-{scene.ceph}") == []
    assert list((scene.node.state / "storage").rglob("*.partial")) == []
    assert set(trash(cluster, f"pri-v-d-{scene.ceph}")) <= {volume}


def begun(scene: Scene, cluster: Cluster, volume: str, storage: str) -> bool:
    """Say whether a volume's copy is under way."""
    if storage == scene.ceph:
        return f"{volume}.partial" in cluster.names(f"pri-v-d-{scene.ceph}")
    return list((scene.node.state / "storage").rglob("*.partial")) != []


@pytest.mark.timeout(600)
def test_a_copy_goes_on_when_the_agent_or_the_node_is_killed(scene: Scene, cluster: Cluster) -> None:
    jobs, volume = Jobs(scene), filled(scene, cluster)
    for storage in (scene.ceph, scene.local):
        job = jobs.move(volume, storage)
        wait_until(partial(begun, scene, cluster, volume, storage), "the copy is under way", 60)
        kill_agent(scene)
        jobs.ended(job)
        check_content(scene, cluster, volume)
    for storage in (scene.ceph, scene.local):
        job = jobs.move(volume, storage)
        wait_until(partial(begun, scene, cluster, volume, storage), "the copy is under way", 60)
        scene.node.kill()
        jobs.start()
        jobs.ended(job)
        check_content(scene, cluster, volume)
    leave(scene, cluster, volume)


@pytest.mark.timeout(900)
def test_a_move_is_done_once_whatever_the_node_was_at(scene: Scene, cluster: Cluster, tmp_path: Path) -> None:
    jobs, volume = Jobs(scene), filled(scene, cluster)
    ways = [scene.ceph, scene.local] * 2
    dooms = ["work_on_disk:before", "work_on_disk:after", "switch:journalled", "try_to_remove:after"]
    for storage, doom in zip(ways, dooms, strict=True):
        scene.node.kill()
        jobs.start(str(DOOMED), str(tmp_path / "boundaries"), "1", doom)
        job = jobs.move(volume, storage)
        scene.node.wait_until_killed()
        jobs.start()
        jobs.ended(job)
        assert scene.show(volume)["primaryStorageUuid"] == storage
        check_content(scene, cluster, volume)
    leave(scene, cluster, volume)


@pytest.mark.timeout(600)
def test_snapshots_and_clones_are_made_once_though_the_agent_is_killed(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    jobs, admin = Jobs(scene), scene.admin
    backup, pool = add_backup(scene, cluster)
    image = add_image(scene, tmp_path, backup)
    made = []
    path = f"/volumes/data/from/data-volume-templates/{image}"
    for after_s in (0.3, 1.5):
        wanted = {"params": {"name": "v", "primaryStorageUuid": scene.ceph}}
        made.append(jobs.done("POST", path, wanted, after_s)["uuid"])
        clones = cluster.rbd("children", f"pri-c-{scene.ceph}/{image}@{image}")
        assert sorted(each["image"] for each in clones) == sorted(made)
    assert cluster.names(f"pri-c-{scene.ceph}") == [image]
    volume = made.pop()
    for number, after_s in enumerate((0.1, 0.4, 0.9), start=1):
        jobs.done("POST", f"/volumes/{volume}/volume-snapshots", {"params": {"name": "s"}}, after_s)
        mine = [name for name in cluster.names(f"pri-v-d-{scene.ceph}") if name.startswith(volume)]
        assert len(mine) == 1 + number
        assert not [name for name in mine if name.endswith(".partial")]
        protected = [
            each for name in mine for each in cluster.rbd("snap", "ls", f"pri-v-d-{scene.ceph}/{name}")
        ]
        assert len(protected) == number, "one below each image that stands on another one"
        assert holds(cluster, scene.image(volume), 0, "5")
    for each in (*made, volume):
        scene.expunge(each)
    clean(scene, scene.ceph)
    assert images(cluster, scene.ceph) == []
    expunge(admin, image)
    assert (cluster.names(pool), trash(cluster, pool)) == ([], [])
    delete(admin, f"/backup-storage/{backup}")
    cluster.ceph("osd", "pool", "delete", pool, pool, "--yes-i-really-really-mean-it")


def leave(scene: Scene, cluster: Cluster, volume: str) -> None:
    """Delete a volume and the storage; nothing of both is left on the cluster."""
    scene.expunge(volume)
    delete(scene.admin, f"/clusters/{scene.cluster}/primary-storage/{scene.ceph}")
    delete(scene.admin, f"/primary-storage/{scene.ceph}")
    assert not [name for name in cluster.pools() if scene.ceph in name]
    assert not [user for user in cluster.users() if scene.ceph in user]
