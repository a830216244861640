"""Whatever the node is at when it is killed, a USB device is a VM's for node and host, or for neither."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator

import pytest

from mn.db.schema import new_uuid
from tests import postgres
from tests.integration.crash.sampling import sample
from tests.integration.crash.test_crash_vms import World
from tests.node import Node

USB = "/usb-device/usb-devices"
STEPS = {"attach": ("plug",), "detach": ("begin_detaching", "unplug")}
UNITS = {"attach": ("claim",), "detach": ("load_owner", "release")}
DOOMS = [
    *(
        (act, f"{name}:{at}")
        for act in STEPS
        for name in STEPS[act]
        for at in ("before", "after", "journalled")
    ),
    *((act, f"{name}:{at}") for act in UNITS for name in UNITS[act] for at in ("before", "journalled")),
]
"""Every boundary of an attachment and of a detachment."""


class UsbWorld(World):
    """A node with a VM on a host that has a USB device."""

    def ask(self, job: str, act: str) -> None:
        """Ask for an attachment or a detachment; the same request is the same job. The node may die of it."""
        (device,) = self.admin.query(USB, f"hostUuid={self.host_of_vm()}")
        params = {"vmInstanceUuid": self.vm} if act == "attach" else {}
        path, header = f"{USB}/{device['uuid']}/{act}", {"X-Job-UUID": job}
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.admin.call("POST", path, {"params": params}, headers=header)
            assert answer.status == 202, answer

    def check_done(self, job: str, act: str) -> None:
        """See that node and host say the same."""
        answer = self.admin.wait(f"/api-jobs/{job}")
        assert answer.status == 200, answer
        host = self.host_of_vm()
        (device,) = self.admin.query(USB, f"hostUuid={host}")
        (file,) = self.node.state.glob(f"simulator/**/{host}/vms.json")
        (vm,) = json.loads(file.read_bytes())
        wanted = (self.vm, [device["uuid"]]) if act == "attach" else (None, [])
        assert (device.get("vmInstanceUuid"), vm["devices"]) == wanted
        assert postgres.rows(self.node.state, "SELECT * FROM job_lock") == []

    def bring_about(self, act: str) -> None:
        """Have done what the other act needs."""
        job = new_uuid()
        self.ask(job, act)
        self.admin.wait(f"/api-jobs/{job}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsbWorld]:
    folder = tmp_path_factory.mktemp("usb")
    node = Node(folder / "state")
    try:
        world = UsbWorld(node, folder / "boundaries")
        node.kill()
        yield world
    finally:
        node.stop()


def test_the_dooms_are_all_the_boundaries_there_are(world: UsbWorld) -> None:
    world.start()
    for act in ("attach", "detach"):
        job = new_uuid()
        world.ask(job, act)
        world.check_done(job, act)
    passed = world.boundaries.read_text().split()
    world.node.kill()
    assert sorted(passed) == sorted(doom for _, doom in DOOMS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("act", "doom"), [*sample(DOOMS), ("detach", "unplug:before")])
def test_an_act_is_done_once_whatever_the_node_was_at(world: UsbWorld, act: str, doom: str) -> None:
    job = new_uuid()
    world.start()
    world.bring_about("detach" if act == "attach" else "attach")
    world.node.kill()
    world.start(doom)
    world.ask(job, act)
    world.node.wait_until_killed()
    world.start()
    world.ask(job, act)
    world.check_done(job, act)
    world.node.kill()
