"""Whatever the node is at when it is killed, hosts are logged in to an iSCSI server wholly, or not at all."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mn.db.schema import new_uuid
from tests import postgres
from tests.helpers import wait_until
from tests.integration.crash.sampling import sample
from tests.integration.crash.scene import DOOMED
from tests.node import Node, Rest

DEADLINE_S = 60.0
SERVERS = "/storage-devices/iscsi/servers"
HOSTS = 2
ATTACH = [
    *(f"login_hosts:{at}" for at in ("before", "after", "journalled")),
    *(
        f"{name}:{at}"
        for name in ("attach", "connected_hosts", "save_attached")
        for at in ("before", "journalled")
    ),
]
DETACH = [
    *(f"logout_hosts:{at}" for at in ("before", "after", "journalled")),
    *(
        f"{name}:{at}"
        for name in ("check_detach", "connected_hosts", "detach", "save_detached")
        for at in ("before", "journalled")
    ),
]


@dataclass
class World:
    """A node with two simulated hosts and an iSCSI server; all of it lives through the node's deaths."""

    node: Node
    boundaries: Path
    admin: Rest = field(init=False)
    cluster: str = field(init=False)
    server: str = field(init=False)

    def __post_init__(self) -> None:
        self.node.start()
        self.admin = self.node.rest().logged_in()
        zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"zoneUuid": zone, "hypervisorType": "Simulator", "name": "cluster"}
        self.cluster = self.admin.create("/clusters", **wanted)["uuid"]
        for number in range(HOSTS):
            params = {"name": "h", "clusterUuid": self.cluster, "managementIp": f"127.66.3.{number + 1}"}
            self.admin.create("/hosts/simulators", **params)
        self.server = self.admin.create(SERVERS, ip="192.0.2.1")["uuid"]

    def start(self, doom: str = "none") -> None:
        """Start the node anew, to be killed at a boundary."""
        self.boundaries.unlink(missing_ok=True)
        self.node.program = (str(DOOMED), str(self.boundaries), "1", doom)
        self.node.start()
        self.admin.url = self.node.url
        wait_until(
            lambda: {host["status"] for host in self.admin.query("/hosts")} == {"Connected"},
            "the hosts are connected",
            DEADLINE_S,
        )

    def begin(self, job: str, verb: str) -> None:
        """Ask for it; the same request is the same job. The node may die of it."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            path = f"/clusters/{self.cluster}{SERVERS}/{self.server}"
            answer = self.admin.call(verb, path, {}, headers={"X-Job-UUID": job})
            assert answer.status == 202, answer

    def needed(self) -> list[list[str]]:
        """Return the servers that each host needs, as its agent has it."""
        return [json.loads(file.read_bytes()) for file in self.node.state.glob("simulator/**/iscsi.json")]

    def check(self, job: str, *, has: bool) -> None:
        """See that rows and hosts say the same."""
        answer = self.admin.wait(f"/api-jobs/{job}")
        assert answer.status == 200, answer
        (row,) = self.admin.query(f"{SERVERS}/{self.server}")
        assert len(row["iscsiClusterRefs"]) == has
        assert [ref["status"] for ref in row["iscsiHostRefs"]] == ["Connected"] * HOSTS * has
        wait_until(
            lambda: self.needed() == [[self.server] * has] * HOSTS, f"hosts are logged in: {has}", DEADLINE_S
        )
        assert postgres.rows(self.node.state, "SELECT * FROM job_lock") == []

    def go(self, verb: str, doom: str = "none") -> list[str]:
        """Do it, with a death at a boundary; returns the boundaries that were passed."""
        job = new_uuid()
        self.start(doom)
        self.begin(job, verb)
        if doom != "none":
            self.node.wait_until_killed()
            self.start()
            self.begin(job, verb)
        self.check(job, has=verb == "POST")
        passed = self.boundaries.read_text().split() if self.boundaries.exists() else []
        self.node.kill()
        return passed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("iscsi")
    node = Node(folder / "state")
    try:
        world = World(node, folder / "boundaries")
        node.kill()
        yield world
    finally:
        node.stop()


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    assert sorted(world.go("POST")) == sorted(ATTACH)
    assert sorted(world.go("DELETE")) == sorted(DETACH)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", sample(ATTACH))
def test_a_server_is_attached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("POST", doom)
    world.go("DELETE")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", sample(DETACH))
def test_a_server_is_detached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("POST")
    world.go("DELETE", doom)
