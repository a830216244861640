"""Whatever a node is at when it is killed, a Ceph storage is added once with its pools or leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mn.db.schema import new_uuid
from tests import ceph_double
from tests.integration.crash import doomed_world
from tests.integration.crash.doomed_world import boundaries, run_world
from tests.integration.crash.sampling import sample

STORAGES = "/primary-storage/ceph"
DOOMS = boundaries(
    ["survey_server", "join_server", "make_pool", "follow_all"],
    ["insert_storage", "insert_mons", "agent_on", "save_cluster", "insert_pool", "recheck"],
)
"""Every boundary of an addition."""
BACK = ["make_pool:undo", "make_pool:undone", "join_server:undo", "join_server:undone"]
"""Boundaries of an addition whose last pool is not there, on its way back."""


@dataclass
class World(doomed_world.World):
    """A node whose clusters are doubles; each addition is of a cluster of its own."""

    number: int = 100

    def begin(self, job: str, **more: object) -> None:
        """Ask for a storage."""
        urls = [f"root:unused@127.0.{self.number}.{each}" for each in (1, 2)]
        params = {"name": "ceph", "zoneUuid": self.zone, "monUrls": urls, **more}
        self.ask(job, "POST", STORAGES, {"params": params})

    def made(self) -> list[str]:
        """Return the pools of the cluster that a storage has made."""
        path = self.folder / f"ceph/{self.number}.json"
        pools = json.loads(path.read_text()) if path.exists() else {}
        return [name for name, owner in pools.items() if owner]

    def agents(self) -> list[Path]:
        """Return the folders of agents, of the cluster's monitor or not."""
        return [path.parent for path in (self.node.state / "agents").glob("*/agent.toml")]

    def delete(self, uuid: str) -> None:
        """Delete a storage."""
        assert self.admin.run("DELETE", f"/primary-storage/{uuid}", None).status == 200


@pytest.fixture(scope="module")
def only_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ceph")
    yield from run_world(World, folder, {"PATH": ceph_double.install(folder / "ceph")})


@pytest.fixture
def world(only_world: World) -> World:
    """The world with a cluster that no test has used."""
    only_world.number += 1
    return only_world


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    job = new_uuid()
    world.start()
    world.begin(job)
    storage = world.ended(job).body["inventory"]
    passed = world.passed()
    world.delete(storage["uuid"])
    world.node.kill()
    assert sorted(set(passed)) == sorted(DOOMS)
    joins = [place for place in passed if place.startswith("join_server")]
    assert joins[:2] == ["join_server:before"] * 2, "monitors' hosts are joined side by side"


@pytest.mark.parametrize("doom", [*sample(DOOMS), "join_server:after", "make_pool:after"])
def test_a_storage_is_added_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    job = new_uuid()
    world.start(doom)
    world.begin(job)
    world.node.wait_until_killed()
    world.start()
    storage = world.ended(job).body["inventory"]
    assert storage["status"] == "Connected"
    assert sorted(pool["poolName"] for pool in storage["pools"]) == sorted(world.made())
    assert len(world.made()) == 3
    world.delete(storage["uuid"])
    assert world.agents() == []
    world.node.kill()


@pytest.mark.parametrize("doom", BACK)
def test_an_addition_that_fails_leaves_nothing_whatever_the_node_was_at(world: World, doom: str) -> None:
    job = new_uuid()
    world.start(doom)
    world.begin(job, imageCachePoolName="absent")
    world.node.wait_until_killed()
    world.start()
    assert world.ended(job, 503).error["code"] == "SYS.1002"
    assert world.admin.query(STORAGES) == []
    assert world.made() == []
    assert world.agents() == []
    world.node.kill()
