"""Hosts that are real machines: lost and found, reconnected, removed, added again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.guest import Guest
from tests.lab.hosts import ADD_TIMEOUT_S, OURS, Fleet, add_host
from tests.lab.lab import Lab
from tests.node import Rest

LOST_TIMEOUT_S = 60.0
FOUND_TIMEOUT_S = 900.0
FIREWALL_TIMEOUT_S = 180.0
KEYS_TIMEOUT_S = 300.0
UNIT = "hardpoint-kvmagent.service"


@pytest.fixture(scope="module")
def guest(lab: Lab, fleet: Fleet) -> Guest:
    del fleet  # brings it up
    return lab.machine("kvm2")


@pytest.fixture(scope="module")
def admin(fleet: Fleet) -> Rest:
    return fleet.admin


@pytest.fixture(scope="module")
def host(fleet: Fleet) -> str:
    """The uuid of the guest as a host."""
    return fleet.hosts["kvm2"]


def act(admin: Rest, uuid: str, path: str = "/hosts/{uuid}/actions", **action: Any) -> Any:
    accepted = admin.call("PUT", path.format(uuid=uuid), action)
    return admin.wait(accepted.location, ADD_TIMEOUT_S)


def test_a_host_without_power_is_lost_and_found_when_it_has_power_again(fleet: Fleet, guest: Guest) -> None:
    guest.power_off()
    fleet.wait_until("kvm2", "Disconnected", LOST_TIMEOUT_S)
    guest.start(keep_disks=True)
    fleet.wait_until("kvm2", "Connected", FOUND_TIMEOUT_S)
    guest.wait()


def test_an_agent_that_was_removed_by_hand_is_brought_back_by_itself(fleet: Fleet, guest: Guest) -> None:
    guest.run(f"systemctl disable --now {UNIT}; rm -rf /opt/hardpoint/kvmagent/current")
    fleet.wait_until("kvm2", "Disconnected", LOST_TIMEOUT_S)
    fleet.wait_until("kvm2", "Connected", FOUND_TIMEOUT_S)
    assert guest.run(f"systemctl is-enabled {UNIT}").strip() == "enabled"


def test_another_host_key_is_refused_until_somebody_says_that_it_is_right(
    admin: Rest, guest: Guest, host: str
) -> None:
    guest.run("rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh", KEYS_TIMEOUT_S)
    guest.close_ssh()
    act(admin, host, changeHostState={"stateEvent": "disable"})
    guest.run(f"systemctl stop {UNIT}")  # so that the agent does not answer and a login is needed
    refused = act(admin, host, reconnectHost={})
    assert (refused.status, refused.error["code"]) == (503, "HOST.1002"), refused
    assert "host key" in refused.error["details"]

    allowed = act(admin, host, "/hosts/kvm/{uuid}/actions", updateKVMHost={"resetHostKey": True})
    assert allowed.status == 200, allowed
    reconnected = act(admin, host, reconnectHost={})
    assert reconnected.status == 200, reconnected
    assert reconnected.body["inventory"]["status"] == "Connected"


def delete(admin: Rest, uuid: str) -> None:
    deleted = admin.wait(admin.call("DELETE", f"/hosts/{uuid}").location, ADD_TIMEOUT_S)
    assert deleted.status == 200, deleted


def test_a_deleted_host_has_nothing_left_and_is_added_again_by_a_user_through_a_firewall(
    admin: Rest, fleet: Fleet, guest: Guest, host: str
) -> None:
    delete(admin, host)
    assert admin.query("/hosts", f"uuid={host}") == []
    assert guest.run(f"ls -d {OURS} 2>/dev/null || true") == ""
    assert guest.try_run(f"systemctl cat {UNIT}").returncode != 0

    guest.run("systemctl start firewalld && firewall-cmd --quiet --query-service=ssh", FIREWALL_TIMEOUT_S)
    guest.run(f"useradd --create-home --groups sudo deployer && echo 'deployer:{guest.password}' | chpasswd")
    opened = "firewall-cmd --query-port=7070/tcp; firewall-cmd --permanent --query-port=7070/tcp"

    again = add_host(admin, fleet.cluster, guest, "deployer")
    assert again["status"] == "Connected"
    assert guest.run(opened).split() == ["yes", "yes"]

    delete(admin, again["uuid"])
    assert guest.try_run(opened).stdout.split() == ["no", "no"]
    assert guest.run(f"ls -d {OURS} 2>/dev/null || true") == ""
