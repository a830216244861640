"""Hosts that are real machines: refused with a reason, lost and found, reconnected, removed, added again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab.guest import Guest
from tests.lab.hosts import ADD_TIMEOUT_S, add_host, make_cluster
from tests.lab.lab import Lab
from tests.node import Node, Rest, run_node

LOST_TIMEOUT_S = 60.0
FOUND_TIMEOUT_S = 300.0
UNIT = "hardpoint-kvmagent.service"
OURS = "/opt/hardpoint /etc/hardpoint /var/lib/hardpoint"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Guest:
    return lab.guest("kvm2")


@pytest.fixture(scope="module")
def node(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture(scope="module")
def admin(node: Node) -> Rest:
    return node.rest().logged_in()


@pytest.fixture(scope="module")
def cluster(admin: Rest) -> str:
    return make_cluster(admin)


@pytest.fixture(scope="module")
def host(admin: Rest, cluster: str, guest: Guest) -> str:
    """The guest as a host; returns its uuid."""
    return str(add_host(admin, cluster, guest)["uuid"])


def refusal(admin: Rest, cluster: str, guest: Guest) -> str:
    """Return why the guest is not added."""
    params = {
        "name": guest.name,
        "clusterUuid": cluster,
        "managementIp": guest.address,
        "username": "root",
        "password": guest.password,
    }
    refused = admin.run("POST", "/hosts/kvm", {"params": params})
    assert (refused.status, refused.error["code"]) == (503, "HOST.1000"), refused
    assert admin.query("/hosts") == []
    assert guest.run(f"ls -d {OURS} 2>/dev/null || true") == ""
    return str(refused.error["details"])


def act(admin: Rest, uuid: str, path: str = "/hosts/{uuid}/actions", **action: Any) -> Any:
    accepted = admin.call("PUT", path.format(uuid=uuid), action)
    return admin.wait(accepted.location, ADD_TIMEOUT_S)


def until_status(admin: Rest, uuid: str, status: str, timeout_s: float) -> None:
    wait_until(
        lambda: admin.query("/hosts", f"uuid={uuid}")[0]["status"] == status,
        f"the host is {status}",
        timeout_s,
    )


def test_a_guest_whose_clock_is_off_is_refused(admin: Rest, cluster: str, guest: Guest) -> None:
    guest.run("date -s '+1 hour'")
    try:
        assert "s ahead of the management node's" in refusal(admin, cluster, guest)
    finally:
        guest.run("date -s '-1 hour'")


def test_a_guest_without_kvm_is_refused(admin: Rest, cluster: str, guest: Guest) -> None:
    guest.run("modprobe --remove kvm_amd")
    try:
        assert "has no /dev/kvm" in refusal(admin, cluster, guest)
    finally:
        guest.run("modprobe kvm_amd")


def test_a_host_that_reboots_is_lost_and_found_by_itself(admin: Rest, guest: Guest, host: str) -> None:
    guest.try_run("systemctl reboot")
    until_status(admin, host, "Disconnected", LOST_TIMEOUT_S)
    until_status(admin, host, "Connected", FOUND_TIMEOUT_S)


def test_a_host_without_power_is_lost_and_found_when_it_has_power_again(
    admin: Rest, guest: Guest, host: str
) -> None:
    guest.power_off()
    until_status(admin, host, "Disconnected", LOST_TIMEOUT_S)
    guest.start(keep_disks=True)
    until_status(admin, host, "Connected", FOUND_TIMEOUT_S)
    guest.wait()


def test_an_agent_that_was_removed_by_hand_is_brought_back_by_itself(
    admin: Rest, guest: Guest, host: str
) -> None:
    guest.run(f"systemctl disable --now {UNIT}; rm -rf /opt/hardpoint/kvmagent/current")
    until_status(admin, host, "Disconnected", LOST_TIMEOUT_S)
    until_status(admin, host, "Connected", FOUND_TIMEOUT_S)
    assert guest.run(f"systemctl is-enabled {UNIT}").strip() == "enabled"


def test_another_host_key_is_refused_until_somebody_says_that_it_is_right(
    admin: Rest, guest: Guest, host: str
) -> None:
    guest.run("rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")
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


def test_a_deleted_host_has_nothing_left_and_is_added_again(
    admin: Rest, cluster: str, guest: Guest, host: str
) -> None:
    delete(admin, host)
    assert admin.query("/hosts") == []
    assert guest.run(f"ls -d {OURS} 2>/dev/null || true") == ""
    assert guest.try_run(f"systemctl cat {UNIT}").returncode != 0
    again = add_host(admin, cluster, guest)
    assert again["status"] == "Connected"
    delete(admin, again["uuid"])


def test_a_user_who_may_become_root_adds_a_host_behind_a_firewall(
    admin: Rest, cluster: str, guest: Guest
) -> None:
    guest.run("systemctl start firewalld && firewall-cmd --quiet --query-service=ssh")
    guest.run(f"useradd --create-home --groups sudo deployer && echo 'deployer:{guest.password}' | chpasswd")
    opened = "firewall-cmd --query-port=7070/tcp; firewall-cmd --permanent --query-port=7070/tcp"

    host = add_host(admin, cluster, guest, "deployer")
    assert host["status"] == "Connected"
    assert guest.run(opened).split() == ["yes", "yes"]

    delete(admin, host["uuid"])
    assert guest.try_run(opened).stdout.split() == ["no", "no"]
    assert guest.run(f"ls -d {OURS} 2>/dev/null || true") == ""
