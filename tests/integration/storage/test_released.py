"""A host that was away when it was to leave a storage leaves it when it is connected again.

LVM and its locks are a double (`tests.lvm`), as programs of a real agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lvm
from tests.helpers import wait_until
from tests.integration.hosts.conftest import make_machine
from tests.lvm_socket import lvmlockd
from tests.node import Node, Rest, run_node
from tests.silence import silent

WWID = "6001405" + "1" * 25
ADDRESS = "127.0.2.9"
TIMEOUT_S = 60.0


class Place:
    """A node with one host, whose agent is a process, and a shared-block storage that it has joined."""

    def __init__(self, node: Node, lvm_folder: Path) -> None:
        self.node, self.admin = node, node.rest().logged_in()
        self.lvm = lvm_folder
        zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"name": "cluster", "zoneUuid": zone, "hypervisorType": "KVM"}
        self.cluster = self.admin.create("/clusters", **wanted)["uuid"]
        login = {"managementIp": ADDRESS, "username": "root", "password": "unused"}
        self.host = self.admin.create("/hosts/kvm", name="host", clusterUuid=self.cluster, **login)["uuid"]
        params = {"name": "blocks", "zoneUuid": zone, "diskUuids": [f"3{WWID}"]}
        self.storage = self.admin.create("/primary-storage/sharedblockgroup", **params)["uuid"]

    def run(self, method: str, path: str) -> None:
        answer = self.admin.run(method, path, {} if method == "POST" else None)
        assert answer.status == 200, answer

    def status(self) -> str:
        (host,) = self.admin.query(f"/hosts/{self.host}")
        return str(host["status"])

    def joined(self) -> list[str]:
        """Return the groups whose locks the host has joined."""
        with lvm.installed(self.lvm) as host:
            return list(host.joined)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    make_machine(tmp_path / "machine")
    path = lvm.install(tmp_path / "lvm", tmp_path / "machine/dev", [WWID])
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(tmp_path / "machine"), "PATH": path}
    with lvmlockd(tmp_path / "machine/run/lvm/lvmlockd.socket"):
        for node in run_node(tmp_path / "state", environment):
            yield Place(node, tmp_path / "lvm")


@pytest.mark.parametrize("ending", ["detached", "deleted", "attached again"])
def test_a_storage_that_ended_while_its_host_was_away_is_left_later(place: Place, ending: str) -> None:
    rest: Rest = place.admin
    reference = f"/clusters/{place.cluster}/primary-storage/{place.storage}"
    place.run("POST", reference)
    assert place.joined() == [place.storage]
    with silent(place.node, ADDRESS):
        wait_until(lambda: place.status() == "Disconnected", "the host to be lost", TIMEOUT_S)
        place.run("DELETE", reference)
        if ending == "deleted":
            place.run("DELETE", f"/primary-storage/{place.storage}")
        elif ending == "attached again":
            place.run("POST", reference)
        assert place.joined() == [place.storage]
    if ending == "attached again":
        refs = "/sharedblock-group/host-refs"
        wait_until(
            lambda: [r["status"] for r in rest.query(refs)] == ["Connected"], "it to be used", TIMEOUT_S
        )
        assert place.joined() == [place.storage]
    else:
        wait_until(lambda: place.joined() == [], "the host to leave the group", TIMEOUT_S)


def test_a_host_that_cannot_leave_a_storage_tries_again(place: Place) -> None:
    reference = f"/clusters/{place.cluster}/primary-storage/{place.storage}"
    place.run("POST", reference)
    with silent(place.node, ADDRESS):
        wait_until(lambda: place.status() == "Disconnected", "the host to be lost", TIMEOUT_S)
        place.run("DELETE", reference)
        with lvm.installed(place.lvm) as host:
            host.fails["vgchange"] = "the lockspace is busy"
    wait_until(lambda: "the lockspace is busy" in place.node.log(), "it to fail", TIMEOUT_S)
    assert place.joined() == [place.storage]
    with lvm.installed(place.lvm) as host:
        host.fails.clear()
    wait_until(lambda: place.joined() == [], "the host to leave the group", TIMEOUT_S)
