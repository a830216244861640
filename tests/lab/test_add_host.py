"""AddKVMHost on a bare guest: only SSH and Python are there; packages come from its own repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import free_port, wait_until
from tests.lab.guest import Guest
from tests.lab.hosts import OURS, begin_to_add, make_cluster
from tests.lab.lab import Lab
from tests.node import Node, run_node

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
    return make_cluster(node.rest().logged_in())


@pytest.fixture(scope="module")
def refusal(node: Node, guest: Guest, cluster: str) -> Callable[..., str]:
    """Return why the guest is not added."""
    admin = node.rest().logged_in()

    def refusal(**parameters: Any) -> str:
        answer = admin.wait(begin_to_add(admin, cluster, guest, **parameters), ADD_TIMEOUT_S)
        assert (answer.status, answer.error["code"]) == (503, "HOST.1000"), answer
        assert admin.query("/hosts") == []
        assert guest.run(f"ls -d {OURS} 2>/dev/null || true") == ""
        return str(answer.error["details"])

    return refusal


def test_a_wrong_password_and_a_closed_port_leave_no_host(refusal: Callable[..., str]) -> None:
    assert "rejected the user name or password" in refusal(password="wrong")
    assert "port is closed" in refusal(sshPort=free_port())


def test_a_guest_whose_clock_is_off_is_refused(refusal: Callable[..., str], guest: Guest) -> None:
    guest.run("date -s '+1 hour'")
    try:
        assert "s ahead of the management node's" in refusal()
    finally:
        guest.run("date -s '-1 hour'")


def test_a_guest_without_kvm_is_refused(refusal: Callable[..., str], guest: Guest) -> None:
    guest.run("modprobe --remove kvm_amd")
    try:
        assert "has no /dev/kvm" in refusal()
    finally:
        guest.run("modprobe kvm_amd")


@pytest.mark.long
def test_a_bare_guest_is_added_by_one_call_though_the_node_is_killed_meanwhile(
    node: Node, guest: Guest, cluster: str
) -> None:
    location = begin_to_add(node.rest().logged_in(), cluster, guest)
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


@pytest.mark.long
def test_the_node_finds_its_host_again_after_a_restart(node: Node, guest: Guest, cluster: str) -> None:
    node.restart()
    admin = node.rest().logged_in()
    wait_until(lambda: [host["status"] for host in admin.query("/hosts")] == ["Connected"], "the lease", 60.0)
