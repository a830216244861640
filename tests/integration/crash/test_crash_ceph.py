"""Whatever a node is at when it is killed, a Ceph storage is added once with its pools or leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mn.db.schema import new_uuid
from tests import ceph_double, postgres
from tests.integration.crash.sampling import sample
from tests.node import Node, Rest

DOOMED = Path(__file__).with_name("doomed_node.py")
STEPS = ("join_server", "make_pool", "follow_all")
UNITS = ("insert_storage", "insert_mons", "agent_on", "save_cluster", "insert_pool", "recheck")
DOOMS = [
    *(f"{name}:{at}" for name in STEPS for at in ("before", "after", "journalled")),
    *(f"{name}:{at}" for name in UNITS for at in ("before", "journalled")),
]
"""Every boundary of an addition."""
BACK = ["make_pool:undo", "make_pool:undone", "join_server:undo", "join_server:undone"]
"""Boundaries of an addition whose last pool is not there, on its way back."""


class World:
    """A node whose clusters are doubles; each addition is of a cluster of its own."""

    def __init__(self, folder: Path) -> None:
        self.boundaries = folder / "boundaries"
        self.pools = folder / "ceph"
        self.node = Node(folder / "state", {"PATH": ceph_double.install(self.pools)})
        self.cluster = 100
        self.zone = ""

    def start(self, doom: str = "") -> Rest:
        self.boundaries.write_text("")
        self.node.program = (str(DOOMED), str(self.boundaries), "1", doom)
        self.node.start()
        return self.node.rest().logged_in()

    def ask(self, admin: Rest, job: str, **more: object) -> None:
        url = f"root:unused@127.0.{self.cluster}.1"
        params = {"name": "ceph", "zoneUuid": self.zone, "monUrls": [url], **more}
        headers = {"X-Job-UUID": job}
        try:
            admin.call("POST", "/primary-storage/ceph", {"params": params}, headers=headers)
        except OSError:
            return

    def made(self) -> list[str]:
        """Return the pools of the cluster that a storage has made."""
        path = self.pools / f"{self.cluster}.json"
        pools = json.loads(path.read_text()) if path.exists() else {}
        return [name for name, owner in pools.items() if owner]

    def agents(self) -> list[Path]:
        """Return the folders of agents, of the cluster's monitor or not."""
        return [path.parent for path in (self.node.state / "agents").glob("*/agent.toml")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("ceph"))
    try:
        made.zone = made.start().create("/zones", name="zone")["uuid"]
        made.node.kill()
        yield made
    finally:
        made.node.stop()


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    world.cluster += 1
    admin, job = world.start(), new_uuid()
    world.ask(admin, job)
    answer = admin.wait(f"/api-jobs/{job}")
    assert answer.status == 200, answer
    passed = set(world.boundaries.read_text().split())
    assert admin.run("DELETE", f"/primary-storage/{answer.body['inventory']['uuid']}", None).status == 200
    world.node.kill()
    assert sorted(passed) == sorted(DOOMS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", [*sample(DOOMS), "join_server:after", "make_pool:after"])
def test_a_storage_is_added_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.cluster += 1
    admin, job = world.start(doom), new_uuid()
    world.ask(admin, job)
    world.node.wait_until_killed()
    admin = world.start()
    answer = admin.wait(f"/api-jobs/{job}")
    assert answer.status == 200, answer
    storage = answer.body["inventory"]
    assert storage["status"] == "Connected"
    assert sorted(pool["poolName"] for pool in storage["pools"]) == sorted(world.made())
    assert len(world.made()) == 3
    assert postgres.rows(world.node.state, "SELECT * FROM job_lock") == []
    assert admin.run("DELETE", f"/primary-storage/{storage['uuid']}", None).status == 200
    assert world.agents() == []
    world.node.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", BACK)
def test_an_addition_that_fails_leaves_nothing_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.cluster += 1
    admin, job = world.start(doom), new_uuid()
    world.ask(admin, job, imageCachePoolName="absent")
    world.node.wait_until_killed()
    admin = world.start()
    answer = admin.wait(f"/api-jobs/{job}")
    assert (answer.status, answer.error["code"]) == (503, "SYS.1002"), answer
    assert admin.query("/primary-storage/ceph") == []
    assert world.made() == []
    assert world.agents() == []
    world.node.kill()
