"""Whatever the node is at when it is killed, a VM that is moved runs on one host, and that is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from mn.db.schema import new_uuid
from tests.integration.crash import doomed_world
from tests.integration.crash.doomed_world import GB, boundaries, run_world
from tests.integration.crash.sampling import sample

DOOMS = boundaries(["begin", "admit", "send", "dismiss", "look"], ["begin_migration", "end_migration"])
"""Every boundary of a move."""


@dataclass
class World(doomed_world.World):
    """A node with two simulated hosts and a VM."""

    hosts: list[str] = field(init=False)
    vm: str = field(init=False)

    def make(self) -> None:
        size = {"memoryCapacity": 8 * GB, "cpuCapacity": 4}
        self.hosts = [self.add_simulated_host(a, **size) for a in ("127.66.1.1", "127.66.1.2")]
        vm = {"name": "vm", "cpuNum": 1, "memorySize": GB, "zoneUuid": self.zone}
        self.vm = self.admin.create("/vm-instances", **vm)["uuid"]

    def begin(self, job: str) -> None:
        """Ask for a move."""
        self.ask(job, "PUT", f"/vm-instances/{self.vm}/actions", {"migrateVm": {}})

    def host_of_vm(self) -> str:
        """Return the host that it runs on."""
        (row,) = self.admin.query(f"/vm-instances/{self.vm}")
        assert row["state"] == "Running", row
        return str(row["hostUuid"])

    def check(self, job: str, before: str) -> None:
        """See that the VM has moved, once and wholly."""
        self.ended(job)
        (target,) = {*self.hosts} - {before}
        assert self.host_of_vm() == target
        assert {host: self._on(host) for host in self.hosts} == {before: [], target: [self.vm]}
        free = {row["uuid"]: row["availableCpuCapacity"] for row in self.admin.query("/hosts")}
        totals = {row["uuid"]: row["totalCpuCapacity"] for row in self.admin.query("/hosts")}
        assert {host: totals[host] - free[host] for host in self.hosts} == {before: 0, target: 1}

    def _on(self, host: str) -> list[str]:
        files = self.node.state.glob(f"simulator/**/{host}/vms.json")  # none: it has never had a VM
        return [vm["uuid"] for file in files for vm in json.loads(file.read_bytes())]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from run_world(World, tmp_path_factory.mktemp("vms"))


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    job = new_uuid()
    world.start()
    before = world.host_of_vm()
    world.begin(job)
    world.check(job, before)
    world.node.kill()
    assert sorted(world.passed()) == sorted(DOOMS)


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
