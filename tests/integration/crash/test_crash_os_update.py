"""Whatever the node is at when it is killed, each host of a cluster is updated once and given back."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mn.db.schema import new_uuid
from tests import postgres
from tests.apt_root import AptRoot
from tests.helpers import wait_until
from tests.integration.crash.sampling import sample
from tests.integration.crash.scene import DOOMED
from tests.node import Node, Rest

DEADLINE_S = 120.0

REQUEST = (
    "check_cluster:before",
    "check_cluster:journalled",
    "insert_long_job:before",
    "insert_long_job:journalled",
    "submit:before",
    "submit:after",
    "submit:journalled",
)
PLAN = ("plan_batches:before", "plan_batches:journalled")
BATCH = (
    "load_states:before",
    "load_states:journalled",
    "withhold:before",
    "withhold:journalled",
    "update_hosts:before",
    "update_hosts:after",
    "update_hosts:journalled",
    "give_back:before",
    "give_back:journalled",
)
"""Every boundary of one batch; there are two, with a host each."""
DOOMS = [(name, 1) for name in (*REQUEST, *PLAN)] + [(name, nth) for nth in (1, 2) for name in BATCH]


@dataclass
class World:
    """A node with a cluster of two hosts, whose agents live through all of the node's deaths."""

    node: Node
    apt: AptRoot
    boundaries: Path
    admin: Rest = field(init=False)
    cluster: str = field(init=False)
    hosts: list[str] = field(init=False)
    release: int = 1

    def __post_init__(self) -> None:
        self.node.start()
        self.admin = self.node.rest().logged_in()
        zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"zoneUuid": zone, "hypervisorType": "KVM", "name": "cluster"}
        self.cluster = self.admin.create("/clusters", **wanted)["uuid"]
        batch = {"updateGlobalConfig": {"value": "1"}}
        path = "/global-configurations/cluster/update.os.parallelismDegree/actions"
        assert self.admin.run("PUT", path, batch).status == 200
        self.hosts = []
        for address in ("127.0.6.1", "127.0.6.2"):
            params = {"name": address, "clusterUuid": self.cluster, "managementIp": address}
            added = self.admin.create("/hosts/kvm", username="root", password="-", **params)
            self.hosts.append(added["uuid"])

    def start(self, doom: str = "none", nth: int = 1) -> None:
        """Start the node anew, to be killed at the nth passing of a boundary."""
        self.boundaries.unlink(missing_ok=True)
        self.node.program = (str(DOOMED), str(self.boundaries), str(nth), doom)
        self.node.start()
        self.admin.url = self.node.url
        wait_until(self._all_connected, "both hosts are connected", DEADLINE_S)

    def begin(self, job: str, long_job: str) -> None:
        """Ask for an update; the same request is the same job. The node may die of it."""
        body = {"updateClusterOS": {"resourceUuid": long_job, "excludePackages": ["two"]}}
        path = f"/clusters/{self.cluster}/actions"
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.admin.call("PUT", path, body, headers={"X-Job-UUID": job})
            assert answer.status == 202, answer

    def new_release(self) -> str:
        """Have something to update; return its version."""
        self.release += 1
        self.apt.publish({"one": f"{self.release}.0", "two": f"{self.release}.0"})
        (self.apt.root / "calls").unlink(missing_ok=True)
        return f"{self.release}.0"

    def check(self, job: str, long_job: str, version: str) -> None:
        """See that the job was done once, on each host."""
        answer = self.admin.wait(f"/api-jobs/{job}")
        assert answer.status == 200, answer
        assert answer.body["inventory"]["uuid"] == long_job
        wait_until(lambda: self._long_job(long_job)["state"] != "Running", "the long job's end", DEADLINE_S)
        done = self._long_job(long_job)
        assert done["state"] == "Succeeded", done
        result = json.loads(done["jobResult"])
        assert {host: r["result"] for host, r in result.items()} == dict.fromkeys(self.hosts, "success")
        changed = [change["after"] for r in result.values() for change in r["packages"]]
        assert changed == [version], "the first host's update is told once"
        assert self.apt.installed() == {"one": version, "two": "1.0"}
        assert len(self.apt.calls("apt-get -q -y")) == 2, "one update for each host"
        states = [host["state"] for host in self.admin.query("/hosts")]
        assert states == ["Enabled", "Enabled"]
        assert postgres.rows(self.node.state, "SELECT * FROM job_lock") == []

    def _long_job(self, uuid: str) -> dict[str, Any]:
        return dict(self.admin.get(f"/longjobs/{uuid}").body["inventory"])

    def _all_connected(self) -> bool:
        return {host["status"] for host in self.admin.query("/hosts")} == {"Connected"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("os-update")
    apt = AptRoot(folder / "machine")
    apt.install({"one": "1.0", "two": "1.0"})
    node = Node(folder / "state", {"HARDPOINT_LOCAL_AGENT_ROOT": str(apt.root)})
    try:
        world = World(node, apt, folder / "boundaries")
        node.kill()
        yield world
    finally:
        node.stop()


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    version, job, long_job = world.new_release(), new_uuid(), new_uuid()
    world.start()
    world.begin(job, long_job)
    world.check(job, long_job, version)
    passed = world.boundaries.read_text().split()
    world.node.kill()
    assert sorted(passed) == sorted(name for name, _ in DOOMS)


@pytest.mark.parametrize(("doom", "nth"), sample(DOOMS))
def test_each_host_is_updated_once_whatever_the_node_was_at(world: World, doom: str, nth: int) -> None:
    version, job, long_job = world.new_release(), new_uuid(), new_uuid()
    world.start(doom, nth)
    world.begin(job, long_job)
    world.node.wait_until_killed()
    world.start()
    world.begin(job, long_job)
    world.check(job, long_job, version)
    world.node.kill()
