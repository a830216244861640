"""A cluster's hosts are updated by a long job: real agents, real apt on a small Debian that they share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apt_root import AptRoot
from tests.helpers import wait_until
from tests.node import Answer, Node, run_node

DEADLINE_S = 120.0


@pytest.fixture
def apt(tmp_path: Path) -> AptRoot:
    apt = AptRoot(tmp_path / "machine")
    apt.install({"one": "1.0", "two": "1.0"})
    apt.publish({"one": "2.0", "two": "2.0"})
    return apt


@pytest.fixture
def node(apt: AptRoot, tmp_path: Path) -> Iterator[Node]:
    yield from run_node(tmp_path / "state", {"HARDPOINT_LOCAL_AGENT_ROOT": str(apt.root)})
    apt.release()


class Scene:
    """A cluster with two hosts on one machine: the second one to be updated finds nothing left to do."""

    def __init__(self, node: Node, apt: AptRoot) -> None:
        self.node, self.apt = node, apt
        self.admin = node.rest().logged_in()
        zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"zoneUuid": zone, "hypervisorType": "KVM", "name": "cluster"}
        self.cluster = self.admin.create("/clusters", **wanted)["uuid"]
        self.simulators = self.admin.create("/clusters", **{**wanted, "hypervisorType": "Simulator"})["uuid"]
        self.hosts = [self.add(f"127.0.5.{number}") for number in (1, 2)]

    def add(self, address: str) -> str:
        params = {"name": address, "clusterUuid": self.cluster, "managementIp": address}
        return str(self.admin.create("/hosts/kvm", username="root", password="-", **params)["uuid"])

    def update(self, cluster: str | None = None, **params: Any) -> Answer:
        path = f"/clusters/{cluster or self.cluster}/actions"
        return self.admin.run("PUT", path, {"updateClusterOS": params})

    def begin(self, **params: Any) -> dict[str, Any]:
        """Begin an update and return its long job."""
        answer = self.update(**params)
        assert answer.status == 200, answer
        return dict(answer.body["inventory"])

    def long_job(self, uuid: str) -> dict[str, Any]:
        return dict(self.admin.get(f"/longjobs/{uuid}").body["inventory"])

    def ended(self, long_job: dict[str, Any]) -> dict[str, Any]:
        going_on = ("Running", "Canceling")
        wait_until(lambda: self.long_job(long_job["uuid"])["state"] not in going_on, "its end", DEADLINE_S)
        return self.long_job(long_job["uuid"])

    def result(self, long_job: dict[str, Any]) -> dict[str, Any]:
        done = self.ended(long_job)
        assert done["state"] == "Succeeded", done
        return dict(json.loads(done["jobResult"]))

    def states(self) -> list[str]:
        return [h["state"] for h in self.admin.query("/hosts", f"clusterUuid={self.cluster}")]

    def batches_of(self, hosts: int) -> None:
        path = "/global-configurations/cluster/update.os.parallelismDegree/actions"
        answer = self.admin.run("PUT", path, {"updateGlobalConfig": {"value": str(hosts)}})
        assert answer.status == 200, answer


@pytest.fixture
def scene(node: Node, apt: AptRoot) -> Scene:
    return Scene(node, apt)


def agents(node: Node) -> list[int]:
    """The process ids of the node's agents."""
    return [json.loads(file.read_text())["pid"] for file in node.state.glob("agents/*/ready.json")]


def test_all_hosts_are_updated_and_each_tells_what_changed(scene: Scene) -> None:
    long_job = scene.begin(excludePackages=["tw*"])
    assert (long_job["jobName"], long_job["targetResourceUuid"]) == ("APIUpdateClusterOSMsg", scene.cluster)
    data = json.loads(long_job["jobData"])
    assert (data["uuid"], data["excludePackages"]) == (scene.cluster, ["tw*"])
    result = scene.result(long_job)
    assert result.keys() == set(scene.hosts)
    assert [r["result"] for r in result.values()] == ["success"] * 2
    assert [r["rebootNeeded"] for r in result.values()] == [False] * 2
    changed = [change for r in result.values() for change in r["packages"]]
    assert {"name": "one", "before": "1.0", "after": "2.0"} in changed
    assert scene.apt.installed() == {"one": "2.0", "two": "1.0"}
    assert scene.states() == ["Enabled"] * 2
    progress = scene.admin.get(f"/task-progresses/{long_job['apiId']}").body["inventories"]
    assert progress[0]["content"] == "100"


def test_hosts_are_withheld_while_their_packages_change_and_get_back_the_state_they_had(scene: Scene) -> None:
    scene.apt.hold()
    zone_off = {"changeClusterState": {"stateEvent": "disable"}}
    scene.admin.run("PUT", f"/clusters/{scene.cluster}/actions", zone_off)
    long_job = scene.begin()
    wait_until(scene.apt.reached, "packages change", DEADLINE_S)
    assert scene.states() == ["PreMaintenance"] * 2
    refused = scene.update()
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    assert "PreMaintenance" in refused.error["details"]
    scene.apt.release()
    scene.result(long_job)
    assert scene.states() == ["Disabled"] * 2


def test_a_host_that_fails_stops_no_other(scene: Scene) -> None:
    scene.batches_of(1)
    scene.apt.fail_once("E: You don't have enough free space in /var/cache/apt/archives/.\n")
    first, second = scene.hosts
    result = scene.result(scene.begin())
    assert result[first]["result"] == "failed"
    assert result[first]["error"]["code"] == "SYS.1006"
    assert "enough free space" in result[first]["error"]["details"]
    assert result[second]["result"] == "success"
    assert [change["name"] for change in result[second]["packages"]] == ["one", "two"]
    assert scene.states() == ["Enabled"] * 2


def test_a_node_that_is_killed_goes_on_with_the_update_that_runs(scene: Scene) -> None:
    scene.apt.hold()
    long_job = scene.begin()
    wait_until(scene.apt.reached, "packages change", DEADLINE_S)
    scene.node.kill()
    scene.node.start()
    scene.admin.url = scene.node.url
    assert scene.states() == ["PreMaintenance"] * 2
    scene.apt.release()
    result = scene.result(long_job)
    assert [r["result"] for r in result.values()] == ["success"] * 2
    assert len(scene.apt.calls("apt-get -q -y")) == 2, "one for each host"
    assert scene.states() == ["Enabled"] * 2


def test_agents_that_are_killed_by_the_update_find_it_again(scene: Scene) -> None:
    scene.apt.hold()
    long_job = scene.begin()
    wait_until(lambda: len(scene.apt.calls("apt-get -q -y")) == 2, "packages change on both", DEADLINE_S)
    before = agents(scene.node)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(agents(scene.node)) & set(before), "other agents", DEADLINE_S)
    scene.apt.release()
    result = scene.result(long_job)
    assert [r["result"] for r in result.values()] == ["success"] * 2
    assert len(scene.apt.calls("apt-get -q -y")) == 2


def test_a_cancelled_update_finishes_the_hosts_it_is_at_and_begins_no_others(scene: Scene) -> None:
    scene.batches_of(1)
    scene.apt.hold()
    long_job = scene.begin()
    wait_until(scene.apt.reached, "packages change", DEADLINE_S)
    accepted = scene.admin.call("PUT", f"/longjobs/{long_job['uuid']}/actions", {"cancelLongJob": {}})
    wait_until(lambda: _step_of(scene, accepted) == "cancel", "the cancellation is under way", DEADLINE_S)
    wait_until(
        lambda: scene.long_job(long_job["uuid"])["state"] == "Canceling", "the state to show it", DEADLINE_S
    )
    refused = scene.admin.run("DELETE", f"/longjobs/{long_job['uuid']}", None)
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    scene.apt.release()
    assert scene.admin.wait(accepted.location).body == {}
    done = scene.ended(long_job)
    assert done["state"] == "Canceled"
    error = json.loads(done["jobResult"])
    first, second = scene.hosts
    assert error["code"] == "SYS.1017"
    assert f"Updated: 127.0.5.1 ({first})" in error["details"]
    assert "Not begun: 1 hosts" in error["details"]
    assert second not in error["details"]
    assert len(scene.apt.calls("apt-get -q -y")) == 1
    assert scene.states() == ["Enabled"] * 2


def test_a_node_that_is_killed_goes_on_with_the_cancellation(scene: Scene) -> None:
    scene.batches_of(1)
    scene.apt.hold()
    long_job = scene.begin()
    wait_until(scene.apt.reached, "packages change", DEADLINE_S)
    scene.admin.call("PUT", f"/longjobs/{long_job['uuid']}/actions", {"cancelLongJob": {}})
    wait_until(
        lambda: scene.long_job(long_job["uuid"])["state"] == "Canceling", "the cancellation", DEADLINE_S
    )
    scene.node.kill()
    scene.node.start()
    scene.admin.url = scene.node.url
    assert scene.long_job(long_job["uuid"])["state"] == "Canceling"
    scene.apt.release()
    done = scene.ended(long_job)
    assert done["state"] == "Canceled"
    assert f"Updated: 127.0.5.1 ({scene.hosts[0]})" in json.loads(done["jobResult"])["details"]
    assert len(scene.apt.calls("apt-get -q -y")) == 1
    assert scene.states() == ["Enabled"] * 2


def _step_of(scene: Scene, accepted: Answer) -> str:
    return str(scene.admin.call("GET", accepted.location).headers.get("X-Job-Step"))


def test_progress_is_told_while_hosts_are_updated(scene: Scene) -> None:
    scene.batches_of(1)
    long_job = scene.begin()
    scene.result(long_job)
    scene.apt.publish({"one": "3.0"})
    scene.apt.hold()
    (scene.apt.root / "reached-upgrade").unlink()
    again = scene.begin()
    wait_until(scene.apt.reached, "packages change", DEADLINE_S)

    def percent() -> int:
        (progress,) = scene.admin.get(f"/task-progresses/{again['apiId']}").body["inventories"]
        return int(progress["content"])

    wait_until(lambda: 0 < percent() < 50, "a share of the first host", DEADLINE_S)
    scene.apt.release()
    scene.result(again)


def test_an_empty_cluster_is_done_at_once_with_nothing(scene: Scene) -> None:
    zone = scene.admin.create("/zones", name="another")["uuid"]
    empty = scene.admin.create("/clusters", zoneUuid=zone, hypervisorType="KVM", name="empty")["uuid"]
    assert scene.result(scene.update(empty).body["inventory"]) == {}


def test_what_cannot_be_updated_is_refused_before_a_long_job_exists(scene: Scene) -> None:
    nobody = "0" * 32
    for cluster, code, said in (
        (nobody, "SYS.1003", nobody),
        (scene.simulators, "SYS.1006", "hypervisor mismatch"),
    ):
        refused = scene.update(cluster)
        assert (refused.status, refused.error["code"]) == (503, code)
        assert said in refused.error["details"]
    assert scene.admin.query("/longjobs") == []


def test_a_host_that_is_not_connected_is_refused_and_named(scene: Scene) -> None:
    home = scene.node.state / "agents" / scene.hosts[1]
    pid = json.loads((home / "ready.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)  # it says nothing, and nobody starts another one in its place
    try:
        where = f"/hosts/{scene.hosts[1]}"
        wait_until(
            lambda: scene.admin.get(where).body["inventory"]["status"] == "Disconnected",
            "its loss",
            DEADLINE_S,
        )
        refused = scene.update()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    assert "127.0.5.2" in refused.error["details"]
    assert "Disconnected" in refused.error["details"]


@pytest.mark.parametrize(
    "names", [["a b"], ["a,b"], ["--allow-downgrades"], [""], ["a\nPackage: b"], "kernel"]
)
def test_names_that_are_no_packages_are_refused_at_once(scene: Scene, names: Any) -> None:
    path = f"/clusters/{scene.cluster}/actions"
    answer = scene.admin.call("PUT", path, {"updateClusterOS": {"excludePackages": names}})
    assert (answer.status, answer.error["code"]) == (400, "SYS.1007")
    assert "'excludePackages'" in answer.error["details"]


def test_it_may_be_submitted_as_a_long_job_too(scene: Scene) -> None:
    data = json.dumps({"uuid": scene.cluster, "excludePackages": ["two"]})
    long_job = scene.admin.create("/longjobs", jobName="APIUpdateClusterOSMsg", jobData=data)
    assert scene.result(long_job).keys() == set(scene.hosts)
    assert scene.apt.installed() == {"one": "2.0", "two": "1.0"}


def test_the_long_job_has_the_uuid_that_was_asked_for_and_no_two_have_the_same(scene: Scene) -> None:
    wanted = "932696598b644375aea4e6226cc0c140"
    assert scene.begin(resourceUuid=wanted)["uuid"] == wanted
    scene.ended({"uuid": wanted})
    refused = scene.update(resourceUuid=wanted)
    assert (refused.status, refused.error["code"]) == (503, "SYS.1007")
