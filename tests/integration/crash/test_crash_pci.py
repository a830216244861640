"""Whatever the node is at when it is killed, a PCI device is its VM's wholly, or free."""

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
NIC = "0000:01:00.0"
ATTACH = [
    *(f"plug:{at}" for at in ("before", "after", "journalled")),
    *(f"{name}:{at}" for name in ("check_attach", "note_attached") for at in ("before", "journalled")),
]
DETACH = [
    *(f"unplug:{at}" for at in ("before", "after", "journalled")),
    *(f"{name}:{at}" for name in ("check_detach", "note_free") for at in ("before", "journalled")),
]


@dataclass
class World:
    """A node with a simulated host that has an IOMMU, and a VM on it; both live through the node's deaths."""

    node: Node
    boundaries: Path
    admin: Rest = field(init=False)
    vm: str = field(init=False)
    device: str = field(init=False)

    def __post_init__(self) -> None:
        self.node.start()
        self.admin = self.node.rest().logged_in()
        zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"zoneUuid": zone, "hypervisorType": "Simulator", "name": "cluster"}
        cluster = self.admin.create("/clusters", **wanted)["uuid"]
        params = {"name": "h", "clusterUuid": cluster, "managementIp": "127.66.2.1"}
        size = {"memoryCapacity": 8 * GB, "cpuCapacity": 4, "machine": "q35-iommu-guest"}
        self.admin.create("/hosts/simulators", **params, **size)
        vm = {"name": "vm", "cpuNum": 1, "memorySize": GB, "zoneUuid": zone}
        self.vm = self.admin.create("/vm-instances", **vm)["uuid"]
        (found,) = self.admin.query("/pci-device/pci-devices", f"pciDeviceAddress={NIC}")
        self.device = found["uuid"]

    def start(self, doom: str = "none") -> None:
        """Start the node anew, to be killed at a boundary."""
        self.boundaries.unlink(missing_ok=True)
        self.node.program = (str(DOOMED), str(self.boundaries), "1", doom)
        self.node.start()
        self.admin.url = self.node.url
        wait_until(
            lambda: {host["status"] for host in self.admin.query("/hosts")} == {"Connected"},
            "the host is connected",
            DEADLINE_S,
        )

    def begin(self, job: str, verb: str) -> None:
        """Ask for it; the same request is the same job. The node may die of it."""
        path, body = f"/pci-device/pci-devices/{self.device}/{verb}", {"params": {"vmInstanceUuid": self.vm}}
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.admin.call("POST", path, body, headers={"X-Job-UUID": job})
            assert answer.status == 202, answer

    def check(self, job: str, *, has: bool) -> None:
        """See that row, host and agent say the same."""
        answer = self.admin.wait(f"/api-jobs/{job}")
        assert answer.status == 200, answer
        (row,) = self.admin.query(f"/pci-device/pci-devices/{self.device}")
        expected = ("Attached", self.vm) if has else ("Active", None)
        assert (row["status"], row.get("vmInstanceUuid")) == expected
        (file,) = self.node.state.glob("simulator/**/vms.json")
        (vm,) = json.loads(file.read_bytes())
        assert vm["devices"] == ([self.device] if has else [])
        kept = json.loads(file.with_name("passthrough.json").read_bytes())
        assert [claim["device"]["deviceUuid"] for claim in kept["claims"]] == vm["devices"]
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
        self.check(job, has=verb == "attach")
        passed = self.boundaries.read_text().split() if self.boundaries.exists() else []
        self.node.kill()
        return passed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("pci")
    node = Node(folder / "state")
    try:
        world = World(node, folder / "boundaries")
        node.kill()
        yield world
    finally:
        node.stop()


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    assert sorted(world.go("attach")) == sorted(ATTACH)
    assert sorted(world.go("detach")) == sorted(DETACH)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", sample(ATTACH))
def test_a_device_is_attached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("attach", doom)
    world.go("detach")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", sample(DETACH))
def test_a_device_is_detached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("attach")
    world.go("detach", doom)
