"""Guests as hosts of a management node: added by a test, or kvm1 and kvm2 as a run of tests deployed them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers import wait_until
from tests.lab.guest import Guest
from tests.lab.lab import Lab
from tests.node import Node, Rest, run_node

ADD_TIMEOUT_S = 900.0
CONNECTED_TIMEOUT_S = 300.0
HOSTS = ("kvm1", "kvm2")
OURS = "/opt/hardpoint /etc/hardpoint /var/lib/hardpoint"  # what an agent has on its host


def make_cluster(admin: Rest, name: str = "cluster") -> str:
    """Make a zone and a cluster in it; returns the cluster's uuid."""
    zone = admin.create("/zones", name=f"zone of {name}")["uuid"]
    return str(admin.create("/clusters", zoneUuid=zone, hypervisorType="KVM", name=name)["uuid"])


def begin_to_add(admin: Rest, cluster_uuid: str, guest: Guest, username: str = "root", **more: Any) -> str:
    """Begin to add a guest as a host, as an operator would; returns the job's address.

    Users of the guest have root's password.
    """
    params = {
        "name": guest.name,
        "clusterUuid": cluster_uuid,
        "managementIp": guest.address,
        "username": username,
        "password": guest.password,
    }
    accepted = admin.call("POST", "/hosts/kvm", {"params": params | more})
    assert accepted.status == 202, accepted
    return accepted.location


def add_host(admin: Rest, cluster_uuid: str, guest: Guest, username: str = "root") -> dict[str, Any]:
    """Add a guest as a host; returns its inventory."""
    return _added(admin, begin_to_add(admin, cluster_uuid, guest, username))


def _added(admin: Rest, location: str) -> dict[str, Any]:
    added = admin.wait(location, ADD_TIMEOUT_S)
    assert added.status == 200, added
    inventory: dict[str, Any] = added.body["inventory"]
    return inventory


@dataclass(frozen=True)
class Fleet:
    """A management node whose hosts kvm1 and kvm2 are, in one cluster; `hosts` are their uuids by name."""

    node: Node
    admin: Rest
    cluster: str
    hosts: dict[str, str]

    @property
    def zone(self) -> str:
        """The uuid of the cluster's zone."""
        (row,) = self.admin.query(f"/clusters/{self.cluster}")
        return str(row["zoneUuid"])

    def status(self, name: str) -> str:
        """Return the status of a host."""
        (host,) = self.admin.query("/hosts", f"uuid={self.hosts[name]}")
        return str(host["status"])

    def wait_until(self, name: str, status: str, timeout_s: float) -> None:
        """Wait until a host has a status."""
        wait_until(lambda: self.status(name) == status, f"{name} is {status}", timeout_s)

    def wait_until_connected(self, timeout_s: float = CONNECTED_TIMEOUT_S) -> None:
        """Wait until each host is connected: agents on emulated guests may be late to answer once."""
        for name in self.hosts:
            self.wait_until(name, "Connected", timeout_s)


def deploy(lab: Lab, state: Path) -> Path:
    """Add kvm1 and kvm2, at once, to a node of their own; returns its folder, once it has stopped."""
    node = Node(state)
    node.start()
    try:
        admin = node.rest().logged_in()
        cluster = make_cluster(admin)
        for location in [begin_to_add(admin, cluster, lab.machine(name)) for name in HOSTS]:
            _added(admin, location)
    finally:
        node.stop()
    return state


def run_fleet(lab: Lab, run_of_tests: str, folder: Path) -> Iterator[Fleet]:
    """Body of a fixture: the fleet of a run of tests, as it was deployed, until the fixture ends."""
    lab.deployed(run_of_tests, lambda: deploy(lab, folder / "deployed"), folder / "state")
    for node in run_node(folder / "state"):
        admin = node.rest().logged_in()
        (cluster,) = admin.query("/clusters")
        hosts = {host["name"]: host["uuid"] for host in admin.query("/hosts")}
        fleet = Fleet(node, admin, cluster["uuid"], hosts)
        fleet.wait_until_connected()
        yield fleet
