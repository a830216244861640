"""Whatever the node is at when it is killed, hosts are logged in to an iSCSI server wholly, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from mn.db.schema import new_uuid
from tests.helpers import wait_until
from tests.integration.crash import doomed_world
from tests.integration.crash.doomed_world import DEADLINE_S, boundaries, run_world
from tests.integration.crash.sampling import sample

SERVERS = "/storage-devices/iscsi/servers"
HOSTS = 2
ATTACH = boundaries(["begin", "login_hosts"], ["check_attach", "attach", "connected_hosts", "save_attached"])
DETACH = boundaries(["begin", "logout_hosts"], ["check_detach", "connected_hosts", "detach", "save_detached"])


@dataclass
class World(doomed_world.World):
    """A node with two simulated hosts and an iSCSI server."""

    server: str = field(init=False)

    def make(self) -> None:
        for number in range(HOSTS):
            self.add_simulated_host(f"127.66.3.{number + 1}")
        self.server = self.admin.create(SERVERS, ip="192.0.2.1")["uuid"]

    def needed(self) -> list[list[str]]:
        """Return the servers that each host needs, as its agent has it."""
        return [json.loads(file.read_bytes()) for file in self.node.state.glob("simulator/**/iscsi.json")]

    def check(self, job: str, *, has: bool) -> None:
        """See that rows and hosts say the same."""
        self.ended(job)
        (row,) = self.admin.query(f"{SERVERS}/{self.server}")
        assert len(row["iscsiClusterRefs"]) == has
        assert [ref["status"] for ref in row["iscsiHostRefs"]] == ["Connected"] * HOSTS * has
        wait_until(
            lambda: self.needed() == [[self.server] * has] * HOSTS, f"hosts are logged in: {has}", DEADLINE_S
        )

    def go(self, verb: str, doom: str = "none") -> list[str]:
        """Do it, with a death at a boundary; returns the boundaries that were passed."""
        job, path = new_uuid(), f"/clusters/{self.cluster}{SERVERS}/{self.server}"
        self.start(doom)
        self.ask(job, verb, path, {})
        if doom != "none":
            self.node.wait_until_killed()
            self.start()
            self.ask(job, verb, path, {})
        self.check(job, has=verb == "POST")
        self.node.kill()
        return self.passed()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from run_world(World, tmp_path_factory.mktemp("iscsi"))


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    assert sorted(world.go("POST")) == sorted(ATTACH)
    assert sorted(world.go("DELETE")) == sorted(DETACH)


@pytest.mark.parametrize("doom", sample(ATTACH))
def test_a_server_is_attached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("POST", doom)
    world.go("DELETE")


@pytest.mark.parametrize("doom", sample(DETACH))
def test_a_server_is_detached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("POST")
    world.go("DELETE", doom)
