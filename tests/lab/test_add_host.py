"""AddKVMHost on a bare guest: only SSH and Python are there; packages come from its own repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import free_port, wait_until
from tests.lab.guest import Guest
from tests.lab.lab import Lab
from tests.node import Answer, Node, Rest, run_node

pytestmark = pytest.mark.timeout(2400)
ADD_TIMEOUT_S = 1800.0
UNIT = "hardpoint-kvmagent.service"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Guest:
    """A bare guest; the repository that its apt knows is served."""
    lab.repository  # noqa: B018 - it serves from here on
    return lab.guest("fresh")


@pytest.fixture(scope="module")
def node(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture(scope="module")
def cluster(node: Node) -> str:
    admin = node.rest().logged_in()
    zone = admin.create("/zones", name="lab")
    made = admin.create("/clusters", zoneUuid=zone["uuid"], name="lab", hypervisorType="KVM")
    return str(made["uuid"])


def parameters(guest: Guest, cluster: str, **other: object) -> dict[str, object]:
    given = {
        "name": "fresh",
        "managementIp": guest.address,
        "username": "root",
        "password": guest.password,
        "clusterUuid": cluster,
    }
    return {"params": given | other}


def begin(admin: Rest, body: dict[str, object]) -> str:
    accepted = admin.call("POST", "/hosts/kvm", body)
    assert accepted.status == 202, accepted
    return accepted.location


def refused(admin: Rest, body: dict[str, object]) -> Answer:
    answer = admin.wait(begin(admin, body), ADD_TIMEOUT_S)
    assert answer.status == 503, answer
    assert answer.error["code"] == "HOST.1000"
    assert admin.query("/hosts") == []
    return answer


def test_a_wrong_password_a_closed_port_and_a_dead_address_leave_no_host(
    node: Node, guest: Guest, cluster: str
) -> None:
    admin = node.rest().logged_in()
    wrong = refused(admin, parameters(guest, cluster, password="wrong"))
    assert "rejected the user name or password" in wrong.error["details"]
    closed = refused(admin, parameters(guest, cluster, sshPort=free_port()))
    assert "port is closed" in closed.error["details"]
    assert guest.try_run("ls -d /opt/hardpoint /etc/hardpoint 2>/dev/null").stdout == ""


def test_a_bare_guest_is_added_by_one_call_though_the_node_is_killed_meanwhile(
    node: Node, guest: Guest, cluster: str
) -> None:
    location = begin(node.rest().logged_in(), parameters(guest, cluster))
    runs: Path = node.state / "ansible"
    wait_until(lambda: any(runs.glob("run-*/artifacts/*/job_events")), "ansible to run", 120.0)
    first_run = next(runs.glob("run-*")).name
    node.kill()
    wait_until(lambda: not (runs / first_run).exists(), "the run to end with its node", 60.0)
    node.start()
    admin = node.rest().logged_in()
    path = "/v1/" + location.partition("/v1/")[2]
    answer = admin.wait(path, ADD_TIMEOUT_S)
    assert answer.status == 200, answer
    (host,) = admin.query("/hosts")
    assert (host["status"], host["managementIp"]) == ("Connected", guest.address)
    assert host["uuid"] == answer.body["inventory"]["uuid"]
    assert guest.run(f"systemctl is-active {UNIT}").strip() == "active"
    assert guest.run("ls -d /opt/hardpoint/kvmagent/[0-9]* | wc -l").strip() == "1"
    assert guest.run("pgrep -fc 'kvmagent serve'").strip() == "1"
    assert guest.run("dpkg-query -W -f '${db:Status-Status}' qemu-utils").strip() == "installed"
    assert admin.query("/pci-device/pci-devices", f"hostUuid={host['uuid']}")


def test_the_node_finds_its_host_again_after_a_restart(node: Node, guest: Guest, cluster: str) -> None:
    node.restart()
    admin = node.rest().logged_in()
    wait_until(lambda: [host["status"] for host in admin.query("/hosts")] == ["Connected"], "the lease", 60.0)
