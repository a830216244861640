"""Two hosts are updated from the lab's repository, and the management node is killed in the middle."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab

UPDATE_TIMEOUT_S = 600.0
HOLD = "/run/lab-hold"
WAIT = f"while [ -e {HOLD} ]; do sleep 0.2; done\n"


@pytest.fixture(scope="module")
def guests(lab: Lab, fleet: Fleet) -> list[Guest]:
    for name in ("lab-tool", "lab-kept", "lab-slow"):
        lab.repository.make(name, "1.0", files={f"/usr/share/{name}/version": "1.0\n"})
    guests = [lab.machine(name) for name in fleet.hosts]
    for guest in guests:
        guest.run("apt-get update && apt-get install -y lab-tool lab-kept lab-slow", UPDATE_TIMEOUT_S)
        guest.run("echo mine >> /usr/share/lab-tool/version")
    return guests


class Updates:
    """Updates of the cluster, and what came of them."""

    def __init__(self, fleet: Fleet) -> None:
        self.admin, self.cluster, self.hosts = fleet.admin, fleet.cluster, fleet.hosts

    def begin(self, **params: Any) -> dict[str, Any]:
        path = f"/clusters/{self.cluster}/actions"
        answer = self.admin.run("PUT", path, {"updateClusterOS": params})
        assert answer.status == 200, answer
        return dict(answer.body["inventory"])

    def long_job(self, uuid: str) -> dict[str, Any]:
        return dict(self.admin.get(f"/longjobs/{uuid}").body["inventory"])

    def states(self) -> set[str]:
        return {host["state"] for host in self.admin.query("/hosts")}


@pytest.fixture(scope="module")
def updates(fleet: Fleet) -> Updates:
    return Updates(fleet)


def version(guest: Guest, package: str) -> str:
    return guest.run(f"dpkg-query -W -f '${{Version}}' {package}")


def test_two_hosts_are_updated_once_though_the_node_is_killed_and_an_agent_restarted(
    updates: Updates, guests: list[Guest], fleet: Fleet, lab: Lab
) -> None:
    lab.repository.make(
        "lab-tool", "2.0", files={"/usr/share/lab-tool/version": "2.0\n"}, asks_for_reboot=True
    )
    lab.repository.make("lab-kept", "2.0", files={"/usr/share/lab-kept/version": "2.0\n"})
    counted = f"echo once >> /var/tmp/lab-slow\n{WAIT}"
    lab.repository.make("lab-slow", "2.0", postinst=counted)
    for guest in guests:
        guest.run(f"touch {HOLD}")

    long_job = updates.begin(excludePackages=["lab-k*"])
    for guest in guests:
        wait_until(
            lambda guest=guest: guest.try_run("test -s /var/tmp/lab-slow").returncode == 0,  # type: ignore[misc]
            f"packages of {guest.name} change",
            UPDATE_TIMEOUT_S,
        )
    units = guests[0].run("systemctl list-units --plain --no-legend 'hardpoint-os-update-*'")
    assert "running" in units
    assert updates.states() == {"PreMaintenance"}

    fleet.node.kill()
    guests[0].run("systemctl kill --signal=KILL hardpoint-kvmagent")
    fleet.node.start()
    fleet.admin.url = fleet.node.url
    assert updates.long_job(long_job["uuid"])["state"] == "Running"
    for guest in guests:
        guest.run(f"rm {HOLD}")

    wait_until(
        lambda: updates.long_job(long_job["uuid"])["state"] != "Running", "the update's end", UPDATE_TIMEOUT_S
    )
    done = updates.long_job(long_job["uuid"])
    assert done["state"] == "Succeeded", done
    result = json.loads(done["jobResult"])
    assert result.keys() == set(updates.hosts.values())
    for outcome in result.values():
        assert outcome["result"] == "success", outcome
        assert {p["name"]: (p["before"], p["after"]) for p in outcome["packages"]} == {
            "lab-tool": ("1.0", "2.0"),
            "lab-slow": ("1.0", "2.0"),
        }
        assert outcome["rebootNeeded"] is True
        assert outcome["rebootReason"] == "asked for by lab-tool"
    for guest in guests:
        assert version(guest, "lab-kept") == "1.0"
        assert guest.run("cat /var/tmp/lab-slow").split() == ["once"]
        assert guest.run("apt-mark showhold").strip() == ""
    assert updates.states() == {"Enabled"}


def test_a_host_that_cannot_be_updated_stops_no_other_and_the_next_update_mends_it(
    updates: Updates, guests: list[Guest], fleet: Fleet, lab: Lab
) -> None:
    fleet.wait_until_connected()  # the first one's agent was killed
    broken, other = guests
    lab.repository.make("lab-tool", "3.0", postinst="if [ -e /run/lab-broken ]; then exit 1; fi\n")
    broken.run("touch /run/lab-broken")
    result = finished(updates, updates.begin(excludePackages=["lab-kept"]))
    failed = result[updates.hosts[broken.name]]
    assert failed["result"] == "failed"
    assert failed["error"]["code"] == "SYS.1006"
    assert "lab-tool" in failed["error"]["details"]
    assert result[updates.hosts[other.name]]["result"] == "success"
    assert updates.states() == {"Enabled"}

    broken.run("rm /run/lab-broken")
    again = finished(updates, updates.begin(excludePackages=["lab-kept"]))
    assert {outcome["result"] for outcome in again.values()} == {"success"}
    assert version(broken, "lab-tool") == "3.0"
    assert broken.run("dpkg --audit").strip() == ""


def finished(updates: Updates, long_job: dict[str, Any]) -> dict[str, Any]:
    wait_until(
        lambda: updates.long_job(long_job["uuid"])["state"] != "Running", "the update's end", UPDATE_TIMEOUT_S
    )
    done = updates.long_job(long_job["uuid"])
    assert done["state"] == "Succeeded", done
    return dict(json.loads(done["jobResult"]))
