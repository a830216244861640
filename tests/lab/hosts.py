"""Guests as hosts of a management node."""

from __future__ import annotations

from typing import Any

from tests.lab.guest import Guest
from tests.node import Rest

ADD_TIMEOUT_S = 900.0


def make_cluster(admin: Rest, name: str = "cluster") -> str:
    """Make a zone and a cluster in it; returns the cluster's uuid."""
    zone = admin.create("/zones", name=f"zone of {name}")["uuid"]
    return str(admin.create("/clusters", zoneUuid=zone, hypervisorType="KVM", name=name)["uuid"])


def add_host(admin: Rest, cluster_uuid: str, guest: Guest, username: str = "root") -> dict[str, Any]:
    """Add a guest as a host, as an operator would; returns its inventory.

    Users of the guest have root's password.
    """
    params = {
        "name": guest.name,
        "clusterUuid": cluster_uuid,
        "managementIp": guest.address,
        "username": username,
        "password": guest.password,
    }
    accepted = admin.call("POST", "/hosts/kvm", {"params": params})
    added = admin.wait(accepted.location, ADD_TIMEOUT_S)
    assert added.status == 200, added
    inventory: dict[str, Any] = added.body["inventory"]
    return inventory
