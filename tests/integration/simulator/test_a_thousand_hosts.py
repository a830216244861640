"""A thousand simulated hosts (or HARDPOINT_FLEET): the node restarted, hosts lost and found; prints times."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mnclient.local import LocalNode
from mnclient.simulate import build_fleet
from tests.integration.simulator.conftest import SIMULATED, Scene
from tests.node import ADMIN_PASSWORD, Node, Rest, run_node

HOSTS = int(os.environ.get("HARDPOINT_FLEET", "1000"))
LIMIT_S = 240.0
"""Never decides the test on a machine that works: the figures are printed, the conditions are asserted."""


def _took(condition: Callable[[], bool], what: str) -> float:
    """Return the seconds until the condition holds."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > LIMIT_S:
            pytest.fail(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - begun


def _connected(admin: Rest) -> int:
    return int(admin.get("/hosts", SIMULATED, "status=Connected", count="true").body["total"])


def _away(admin: Rest) -> dict[str, str]:
    """Return the status of each host that is not Connected."""
    shown = admin.query("/hosts", SIMULATED, "status!=Connected", limit=str(HOSTS))
    return {host["uuid"]: host["status"] for host in shown}


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    for node in run_node(tmp_path_factory.mktemp("thousand") / "state"):
        local = LocalNode(node.state, node.url, None)
        summary = build_fleet(local, ADMIN_PASSWORD, HOSTS, "virtio-guest", lambda _done, _of: None)
        print(f"\n{HOSTS} hosts added through the API in {summary.added_s:.1f} s")
        assert summary.pci_devices == HOSTS * 6
        admin = node.rest().logged_in()
        (cluster,) = admin.query("/clusters")
        (zone,) = admin.query("/zones")
        yield Scene(node, admin, zone, cluster)


def _kill(node: Node) -> None:
    """End the management node alone, at once."""
    os.kill(node.pid, signal.SIGKILL)
    node.wait()


@pytest.mark.timeout(900)
def test_all_leases_are_back_after_the_node_was_killed_and_lost_hosts_are_noticed_and_found(
    thousand: Scene,
) -> None:
    node = thousand.node
    _kill(node)
    begun = time.monotonic()
    node.start()
    admin = node.rest().logged_in()
    _took(lambda: _connected(admin) == HOSTS, "all hosts to be Connected again")
    print(f"all Connected {time.monotonic() - begun:.1f} s after the start of the killed node")

    dead = set(thousand.control("lose", "--count", str(HOSTS // 40))["hosts"])
    noticed = _took(lambda: _connected(admin) == HOSTS - len(dead), "the dead hosts to be noticed")
    print(f"{len(dead)} hosts that died were noticed within {noticed:.1f} s")
    silent = set(thousand.control("lose", "--count", str(HOSTS // 40), "--silently")["hosts"])
    lost = dead | silent
    assert len(lost) == 2 * (HOSTS // 40)
    wanted = dict.fromkeys(lost, "Disconnected")
    noticed = _took(lambda: _away(admin) == wanted, "the silent hosts to be noticed")
    print(f"{len(silent)} hosts that fell silent were noticed within {noticed:.1f} s (10 are aimed at)")

    assert set(thousand.control("recover")["hosts"]) == lost
    returned = _took(lambda: _connected(admin) == HOSTS, "the lost hosts to return")
    print(f"all {len(lost)} were Connected again within {returned:.1f} s")

    for what, pid in (("management node", node.pid), ("simulator", thousand.simulator_pid())):
        process = psutil.Process(pid)
        share = process.cpu_percent(interval=5)
        rss = process.memory_info().rss / 2**20
        print(f"{what}: {share:.0f} % of a core when idle at a tick of 2 s, {rss:.0f} MB")


def test_an_address_that_is_taken_among_a_thousand_is_refused(thousand: Scene) -> None:
    thousand.admin = thousand.node.rest().logged_in()
    answer = thousand.add(1)
    assert answer.status == 503
    assert "127.64.0.1 belongs to host" in answer.error["details"]


def test_the_thousand_have_as_many_different_devices(thousand: Scene) -> None:
    admin = thousand.node.rest().logged_in()
    devices = admin.query("/pci-device/pci-devices", f"host.{SIMULATED}", limit=str(HOSTS * 10))
    assert len({device["uuid"] for device in devices}) == HOSTS * 6
    assert len({device["hostUuid"] for device in devices}) == HOSTS


def test_the_files_of_the_fleet_are_its_owners_alone(thousand: Scene) -> None:
    simulator: Path = thousand.node.state / "simulator"
    homes = list((simulator / "hosts").iterdir())
    assert len(homes) == HOSTS
    assert {home.stat().st_mode & 0o777 for home in homes} == {0o700}
