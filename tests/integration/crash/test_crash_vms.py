"""Whatever the node is at when it is killed, a VM that is moved runs on one host, and that is known."""

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
GB = 2**30
STEPS = ("watch", "admit", "send", "dismiss", "look")
UNITS = ("begin_migration", "end_migration")
DOOMS = [
    *(f"{name}:{at}" for name in STEPS for at in ("before", "after", "journalled")),
    *(f"{name}:{at}" for name in UNITS for at in ("before", "journalled")),
]
"""Every boundary of a move; the three times of a step, and before and after a transaction."""


@dataclass
class World:
    """A node with two simulated hosts and a VM, which live through all of the node's deaths."""

    node: Node
    boundaries: Path
    admin: Rest = field(init=False)
    hosts: list[str] = field(init=False)
    vm: str = field(init=False)

    def __post_init__(self) -> None:
        self.node.start()
        self.admin = self.node.rest().logged_in()
        zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"zoneUuid": zone, "hypervisorType": "Simulator", "name": "cluster"}
        cluster = self.admin.create("/clusters", **wanted)["uuid"]
        self.hosts = []
        for address in ("127.66.1.1", "127.66.1.2"):
            params = {"name": address, "clusterUuid": cluster, "managementIp": address}
            size = {"memoryCapacity": 8 * GB, "cpuCapacity": 4}
            self.hosts.append(self.admin.create("/hosts/simulators", **params, **size)["uuid"])
        vm = {"name": "vm", "cpuNum": 1, "memorySize": GB, "zoneUuid": zone}
        self.vm = self.admin.create("/vm-instances", **vm)["uuid"]

    def start(self, doom: str = "none") -> None:
        """Start the node anew, to be killed at a boundary."""
        self.boundaries.unlink(missing_ok=True)
        self.node.program = (str(DOOMED), str(self.boundaries), "1", doom)
        self.node.start()
        self.admin.url = self.node.url
        wait_until(self._all_connected, "both hosts are connected", DEADLINE_S)

    def begin(self, job: str) -> None:
        """Ask for a move; the same request is the same job. The node may die of it."""
        path = f"/vm-instances/{self.vm}/actions"
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.admin.call("PUT", path, {"migrateVm": {}}, headers={"X-Job-UUID": job})
            assert answer.status == 202, answer

    def host_of_vm(self) -> str:
        (row,) = self.admin.query(f"/vm-instances/{self.vm}")
        assert row["state"] == "Running", row
        return str(row["hostUuid"])

    def check(self, job: str, before: str) -> None:
        """See that the VM has moved, once and wholly."""
        answer = self.admin.wait(f"/api-jobs/{job}")
        assert answer.status == 200, answer
        (target,) = {*self.hosts} - {before}
        assert self.host_of_vm() == target
        assert {host: self._on(host) for host in self.hosts} == {before: [], target: [self.vm]}
        free = {row["uuid"]: row["availableCpuCapacity"] for row in self.admin.query("/hosts")}
        totals = {row["uuid"]: row["totalCpuCapacity"] for row in self.admin.query("/hosts")}
        assert {host: totals[host] - free[host] for host in self.hosts} == {before: 0, target: 1}
        assert postgres.rows(self.node.state, "SELECT * FROM job_lock") == []

    def _on(self, host: str) -> list[str]:
        files = self.node.state.glob(f"simulator/**/{host}/vms.json")  # none: it has never had a VM
        return [vm["uuid"] for file in files for vm in json.loads(file.read_bytes())]

    def _all_connected(self) -> bool:
        return {host["status"] for host in self.admin.query("/hosts")} == {"Connected"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("vms")
    node = Node(folder / "state")
    try:
        world = World(node, folder / "boundaries")
        node.kill()
        yield world
    finally:
        node.stop()


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    job = new_uuid()
    world.start()
    before = world.host_of_vm()
    world.begin(job)
    world.check(job, before)
    passed = world.boundaries.read_text().split()
    world.node.kill()
    assert sorted(passed) == sorted(DOOMS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", sample(DOOMS))
def test_a_vm_moves_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    job = new_uuid()
    world.start(doom)
    before = world.host_of_vm()
    world.begin(job)
    world.node.wait_until_killed()
    world.start()
    world.begin(job)
    world.check(job, before)
    world.node.kill()
