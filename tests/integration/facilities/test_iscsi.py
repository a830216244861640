"""iSCSI through a real node and a real agent process; iscsiadm and the kernel are doubles (initiator.py)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.initiator import GIB, IQN, Lun, San, calls, install, lose
from tests.integration.hosts.conftest import make_machine
from tests.node import Answer, Node, Rest, run_node
from tests.silence import agent_pid, silent

SERVERS, LUNS = "/storage-devices/iscsi/servers", "/storage-devices/iscsi/luns"
SECRET, OTHER = "verysecret12", "othersecret12"
ONE, TWO = "10.0.0.1", "10.0.1.1"
WWIDS = [f"36001405{n:08x}1111422283334444444" for n in range(4)]
TIMEOUT_S = 60.0
ADDRESS = "127.0.2.9"


@dataclass
class Place:
    node: Node
    admin: Rest
    machine: Path
    san: San
    cluster: str
    host: str

    def attach(self, server: str) -> Answer:
        return self.admin.run("POST", f"/clusters/{self.cluster}{SERVERS}/{server}", {})

    def detach(self, server: str) -> Answer:
        return self.admin.run("DELETE", f"/clusters/{self.cluster}{SERVERS}/{server}", None)

    def add(self, **more: Any) -> str:
        chap = {"chapUserName": "hosts", "chapUserPassword": SECRET}
        uuid: str = self.admin.create(SERVERS, **{"ip": ONE, **chap, **more})["uuid"]
        return uuid

    def show(self, server: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"{SERVERS}/{server}")
        return found

    def status(self, server: str) -> list[str]:
        return [ref["status"] for ref in self.show(server)["iscsiHostRefs"]]

    def change(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.san, name, value)
        self.san.write(self.machine)

    def sessions(self) -> list[int]:
        folder = self.machine / "sys/class/iscsi_session"
        return sorted(int(path.name[7:]) for path in folder.iterdir()) if folder.exists() else []

    def host_status(self) -> str:
        (found,) = self.admin.query(f"/hosts/{self.host}")
        return str(found["status"])

    def discovers(self, after: int) -> bool:
        """Say whether a portal has been asked for its targets since so many calls."""
        return any("discovery" in call for call in calls(self.machine)[after:])

    def agent(self) -> Path:
        return self.node.state / "agents" / self.host


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("iscsi")
    machine, san = directory / "machine", San([f"{ONE},3260", f"{TWO},3260"], [])
    make_machine(machine)
    install(machine, san)
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(machine)}
    for node in run_node(directory / "state", environment):
        admin = node.rest().logged_in()
        zone = admin.create("/zones", name="zone")["uuid"]
        wanted = {"name": "cluster", "zoneUuid": zone, "hypervisorType": "KVM"}
        cluster = admin.create("/clusters", **wanted)["uuid"]
        login = {"managementIp": ADDRESS, "username": "root", "password": "unused"}
        host = admin.create("/hosts/kvm", name="kvm", clusterUuid=cluster, **login)["uuid"]
        yield Place(node, admin, machine, san, cluster, host)


@pytest.fixture
def place(everything: Place) -> Iterator[Place]:
    """The place with two LUNs and no server; a test leaves no session."""
    luns = [Lun(number, WWIDS[number], serial=f"unit{number}") for number in range(2)]
    everything.change(luns=luns, user="hosts", secret=SECRET, up=True, discovery_s=0.0)
    yield everything
    for server in everything.admin.query(SERVERS):
        path = f"{SERVERS}/{server['uuid']}?deleteMode=Enforcing"
        assert everything.admin.run("DELETE", path, None).status == 200
    # A host that was not connected then logs out as soon as it is.
    wait_until(lambda: everything.sessions() == [], "every session to end", TIMEOUT_S)


def test_a_server_is_attached_refreshed_and_detached_and_nothing_is_left(place: Place) -> None:
    server = place.add()
    answer = place.attach(server)
    assert answer.status == 200, answer
    (target,) = answer.body["inventory"]["iscsiTargets"]
    assert target["iqn"] == IQN
    assert [(lun["wwid"], lun["size"], lun["type"]) for lun in target["iscsiLuns"]] == [
        (WWIDS[0], GIB, "disk"),
        (WWIDS[1], GIB, "disk"),
    ]
    kept = {lun["wwid"]: lun["uuid"] for lun in target["iscsiLuns"]}
    place.change(
        luns=[Lun(0, WWIDS[0], 2 * GIB, "unit0"), Lun(1, WWIDS[1], serial="unit1"), Lun(2, WWIDS[2])]
    )
    assert place.admin.run("POST", f"{SERVERS}/{server}", {}).status == 200
    now = {lun["wwid"]: (lun["uuid"], lun["size"]) for lun in place.admin.query(LUNS)}
    assert now[WWIDS[0]] == (kept[WWIDS[0]], 2 * GIB), "what has grown is the same LUN"
    assert WWIDS[2] in now
    assert place.detach(server).status == 200
    assert place.sessions() == []
    assert not list((place.machine / "etc/iscsi").rglob("default"))
    assert place.show(server)["iscsiHostRefs"] == []


def test_a_host_that_is_not_let_in_takes_the_attaching_back_with_its_reason(place: Place) -> None:
    server = place.add(chapUserPassword=OTHER)
    answer = place.attach(server)
    assert (answer.status, answer.error["code"]) == (503, "SYS.1006")
    assert f"host kvm ({place.host})" in answer.error["details"]
    assert "refuses this CHAP name or secret" in answer.error["details"]
    assert answer.error["cause"]["code"] == "ISCSI.1001"
    assert place.show(server)["iscsiClusterRefs"] == []
    assert place.sessions() == []
    right = {"updateIscsiServer": {"chapUserPassword": SECRET}}
    assert place.admin.run("PUT", f"{SERVERS}/{server}/actions", right).status == 200
    assert place.attach(server).status == 200


def test_two_luns_of_one_wwid_are_refused_with_both_shown(place: Place) -> None:
    place.change(luns=[Lun(0, WWIDS[0], serial="a"), Lun(1, WWIDS[0], serial="b")])
    answer = place.attach(place.add())
    assert (answer.status, answer.error["cause"]["code"]) == (503, "ISCSI.1002")
    assert "serial a" in answer.error["details"]
    assert "serial b" in answer.error["details"]


def test_a_second_server_is_a_second_path_to_the_same_luns(place: Place) -> None:
    first, second = place.add(), place.add(ip=TWO)
    for server in (first, second):
        assert place.attach(server).status == 200
    paths = place.admin.query(LUNS, f"wwid={WWIDS[0]}")
    assert {lun["path"] for lun in paths} == {f"ip-{ip}:3260-iscsi-{IQN}-lun-0" for ip in (ONE, TWO)}
    assert len(place.sessions()) == 2
    assert place.detach(first).status == 200
    assert len(place.sessions()) == 1


def test_another_secret_reaches_the_host_without_dropping_the_session(place: Place) -> None:
    server = place.add()
    place.attach(server)
    before = place.sessions()
    body = {"updateIscsiServer": {"chapUserPassword": OTHER}}
    assert place.admin.run("PUT", f"{SERVERS}/{server}/actions", body).status == 200
    assert place.sessions() == before
    (record,) = (place.machine / "etc/iscsi").rglob("default")
    assert OTHER in record.read_text()


def test_no_secret_is_in_a_command_a_log_or_the_database(place: Place) -> None:
    place.attach(place.add())
    assert not any(SECRET in call for call in calls(place.machine))
    (record,) = (place.machine / "etc/iscsi").rglob("default")
    ledger = place.agent() / "iscsi.json"
    for file in (record, *place.agent().rglob("iscsi.json")):
        assert file.stat().st_mode & 0o077 == 0, file
    known = {record, ledger, *place.agent().rglob("iscsi.json")}
    for file in place.node.state.rglob("*"):
        if file.is_file() and file not in known:
            assert SECRET.encode() not in file.read_bytes(), file


def test_a_session_that_is_lost_is_an_issue_until_it_is_back(place: Place) -> None:
    server = place.add()
    place.attach(server)
    place.change(up=False)
    lose(place.machine, place.sessions()[0])
    wait_until(lambda: place.status(server) == ["Disconnected"], "the loss to be seen", TIMEOUT_S)
    wait_until(lambda: bool(place.admin.query("/issues", "code=ISCSI.DISCONNECTED")), "the issue", TIMEOUT_S)
    (issue,) = place.admin.query("/issues", "code=ISCSI.DISCONNECTED")
    assert (issue["resourceUuid"], issue["operation"]) == (server, "RefreshIscsiServer")
    assert f"host kvm ({place.host})" in issue["evidence"]
    place.change(up=True)
    wait_until(lambda: place.status(server) == ["Connected"], "the session to be back", TIMEOUT_S)
    wait_until(lambda: not place.admin.query("/issues", "code=ISCSI.DISCONNECTED"), "its end", TIMEOUT_S)


def test_an_agent_that_is_killed_keeps_its_sessions_and_finds_what_is_missing(place: Place) -> None:
    server = place.add()
    place.attach(server)
    os.kill(agent_pid(place.node, ADDRESS), signal.SIGKILL)
    lose(place.machine, place.sessions()[0])
    wait_until(lambda: place.sessions() != [], "the session to be there again", TIMEOUT_S)
    wait_until(lambda: place.status(server) == ["Connected"], "the host to say so", TIMEOUT_S)


def test_a_server_that_was_detached_while_its_host_was_away_is_logged_out_of_later(place: Place) -> None:
    server = place.add()
    place.attach(server)
    with silent(place.node, ADDRESS):
        wait_until(lambda: place.host_status() == "Disconnected", "the host to be lost", TIMEOUT_S)
        assert place.detach(server).status == 200
        assert len(place.sessions()) == 1
    wait_until(lambda: place.sessions() == [], "the host to log out", TIMEOUT_S)
    wait_until(lambda: place.status(server) == [], "that to be known", TIMEOUT_S)


def test_a_server_that_was_deleted_while_its_host_was_away_is_logged_out_of_later(place: Place) -> None:
    server = place.add()
    place.attach(server)
    with silent(place.node, ADDRESS):
        wait_until(lambda: place.host_status() == "Disconnected", "the host to be lost", TIMEOUT_S)
        deleted = place.admin.run("DELETE", f"{SERVERS}/{server}?deleteMode=Enforcing", None)
        assert deleted.status == 200
        assert len(place.sessions()) == 1
    wait_until(lambda: place.sessions() == [], "the host to log out", TIMEOUT_S)
    ledger = place.agent() / "iscsi.json"
    wait_until(lambda: SECRET not in ledger.read_text(), "it to forget the secret", TIMEOUT_S)


def test_a_disk_in_use_keeps_the_server_attached(place: Place) -> None:
    server = place.add()
    place.attach(server)
    disk = next(path.name for path in (place.machine / "sys/class/block").iterdir())
    mounts = place.machine / "proc/mounts"
    mounts.write_text(f"/dev/{disk} /mnt/lun ext4 rw 0 0\n")
    try:
        refused = place.detach(server)
        assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
        assert f"{disk} is mounted at /mnt/lun" in refused.error["details"]
        assert len(place.show(server)["iscsiClusterRefs"]) == 1
        wait_until(lambda: place.status(server) == ["Connected"], "it to be there as before", TIMEOUT_S)
    finally:
        mounts.unlink()
    assert place.detach(server).status == 200


def test_a_refused_detaching_leaves_all_as_it_was_though_the_host_is_being_looked_at(place: Place) -> None:
    server = place.add()
    place.attach(server)
    mounts = place.machine / "proc/mounts"
    place.change(discovery_s=2.0)
    with silent(place.node, ADDRESS):
        wait_until(lambda: place.host_status() == "Disconnected", "the host to be lost", TIMEOUT_S)
        before = len(calls(place.machine))
    wait_until(lambda: place.discovers(before), "its sessions to be looked at", TIMEOUT_S)
    disk = next(path.name for path in (place.machine / "sys/class/block").iterdir())
    mounts.write_text(f"/dev/{disk} /mnt/lun ext4 rw 0 0\n")
    try:
        assert place.detach(server).status == 503
        assert place.host_status() == "Connected"
        assert place.status(server) == ["Connected"]
    finally:
        mounts.unlink()
