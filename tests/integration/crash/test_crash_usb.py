"""Whatever the node is at when it is killed, a USB device is a VM's for node and host, or for neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mn.db.schema import new_uuid
from tests.integration.crash.doomed_world import boundaries, run_world
from tests.integration.crash.sampling import sample
from tests.integration.crash.test_crash_vms import World

USB = "/usb-device/usb-devices"
PLACES = {
    "attach": boundaries(["plug"], ["claim"]),
    "detach": boundaries(["begin", "unplug"], ["load_owner", "release"]),
}
DOOMS = [(act, place) for act, places in PLACES.items() for place in places]
"""Every boundary of an attachment and of a detachment."""


@dataclass
class UsbWorld(World):
    """A node with a VM on a host that has a USB device."""

    def begin_act(self, job: str, act: str) -> None:
        """Ask for an attachment or a detachment."""
        (device,) = self.admin.query(USB, f"hostUuid={self.host_of_vm()}")
        params = {"vmInstanceUuid": self.vm} if act == "attach" else {}
        self.ask(job, "POST", f"{USB}/{device['uuid']}/{act}", {"params": params})

    def check_done(self, job: str, act: str) -> None:
        """See that node and host say the same."""
        self.ended(job)
        host = self.host_of_vm()
        (device,) = self.admin.query(USB, f"hostUuid={host}")
        (file,) = self.node.state.glob(f"simulator/**/{host}/vms.json")
        (vm,) = json.loads(file.read_bytes())
        wanted = (self.vm, [device["uuid"]]) if act == "attach" else (None, [])
        assert (device.get("vmInstanceUuid"), vm["devices"]) == wanted

    def bring_about(self, act: str) -> None:
        """Have done what the other act needs."""
        job = new_uuid()
        self.begin_act(job, act)
        self.admin.wait(f"/api-jobs/{job}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsbWorld]:
    yield from run_world(UsbWorld, tmp_path_factory.mktemp("usb"))


def test_the_dooms_are_all_the_boundaries_there_are(world: UsbWorld) -> None:
    world.start()
    for act in ("attach", "detach"):
        job = new_uuid()
        world.begin_act(job, act)
        world.check_done(job, act)
    world.node.kill()
    assert sorted(world.passed()) == sorted(doom for _, doom in DOOMS)


@pytest.mark.parametrize(("act", "doom"), [*sample(DOOMS), ("detach", "unplug:before")])
def test_an_act_is_done_once_whatever_the_node_was_at(world: UsbWorld, act: str, doom: str) -> None:
    job = new_uuid()
    world.start()
    world.bring_about("detach" if act == "attach" else "attach")
    world.node.kill()
    world.start(doom)
    world.begin_act(job, act)
    world.node.wait_until_killed()
    world.start()
    world.begin_act(job, act)
    world.check_done(job, act)
    world.node.kill()
