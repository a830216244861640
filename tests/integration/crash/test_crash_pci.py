"""Whatever the node is at when it is killed, a PCI device is its VM's wholly, or free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from mn.db.schema import new_uuid
from tests.integration.crash import doomed_world
from tests.integration.crash.doomed_world import GB, boundaries, run_world
from tests.integration.crash.sampling import sample

NIC = "0000:01:00.0"
ATTACH = boundaries(["plug"], ["check_attach", "note_attached"])
DETACH = boundaries(["unplug"], ["check_detach", "note_free"])


@dataclass
class World(doomed_world.World):
    """A node with a simulated host that has an IOMMU, and a VM on it."""

    vm: str = field(init=False)
    device: str = field(init=False)

    def make(self) -> None:
        size = {"memoryCapacity": 8 * GB, "cpuCapacity": 4, "machine": "q35-iommu-guest"}
        self.add_simulated_host("127.66.2.1", **size)
        vm = {"name": "vm", "cpuNum": 1, "memorySize": GB, "zoneUuid": self.zone}
        self.vm = self.admin.create("/vm-instances", **vm)["uuid"]
        (found,) = self.admin.query("/pci-device/pci-devices", f"pciDeviceAddress={NIC}")
        self.device = found["uuid"]

    def check(self, job: str, *, has: bool) -> None:
        """See that row, host and agent say the same."""
        self.ended(job)
        (row,) = self.admin.query(f"/pci-device/pci-devices/{self.device}")
        expected = ("Attached", self.vm) if has else ("Active", None)
        assert (row["status"], row.get("vmInstanceUuid")) == expected
        (file,) = self.node.state.glob("simulator/**/vms.json")
        (vm,) = json.loads(file.read_bytes())
        assert vm["devices"] == ([self.device] if has else [])
        kept = json.loads(file.with_name("passthrough.json").read_bytes())
        assert [claim["device"]["deviceUuid"] for claim in kept["claims"]] == vm["devices"]

    def go(self, verb: str, doom: str = "none") -> list[str]:
        """Do it, with a death at a boundary; returns the boundaries that were passed."""
        job, path = new_uuid(), f"/pci-device/pci-devices/{self.device}/{verb}"
        body = {"params": {"vmInstanceUuid": self.vm}}
        self.start(doom)
        self.ask(job, "POST", path, body)
        if doom != "none":
            self.node.wait_until_killed()
            self.start()
            self.ask(job, "POST", path, body)
        self.check(job, has=verb == "attach")
        self.node.kill()
        return self.passed()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from run_world(World, tmp_path_factory.mktemp("pci"))


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    assert sorted(world.go("attach")) == sorted(ATTACH)
    assert sorted(world.go("detach")) == sorted(DETACH)


@pytest.mark.parametrize("doom", sample(ATTACH))
def test_a_device_is_attached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("attach", doom)
    world.go("detach")


@pytest.mark.parametrize("doom", sample(DETACH))
def test_a_device_is_detached_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    world.go("attach")
    world.go("detach", doom)
