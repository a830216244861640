"""Sessions of a host, real processes and files; iscsiadm and the kernel are doubles (tests/initiator.py)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ProcessRunner
from kvmagent.iscsi.keeper import IscsiKeeper
from kvmagent.protocol_iscsi import Chap, IscsiEvent, IscsiServer, SessionState
from tests.initiator import GIB, IQN, Lun, San, calls, install, lose

SECRET = "verysecret12"
ONE, TWO = "10.0.0.1,3260", "10.0.1.1,3260"
WWIDS = [f"36001405{n:08x}1111422283334444444" for n in range(4)]
CHAP = Chap(user="hosts", secret=SECRET)
LIMIT_S = 30.0


@dataclass
class Host:
    root: Path
    state: Path
    san: San
    events: list[IscsiEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state.mkdir(exist_ok=True)
        install(self.root, self.san)
        self.keeper = self.agent()

    def agent(self, orphan_grace_s: float = 60.0) -> IscsiKeeper:
        """Return the keeper as an agent that has just started has it."""
        return IscsiKeeper(
            self.root,
            self.state,
            ProcessRunner(),
            self.events.append,
            look_every_s=0.05,
            orphan_grace_s=orphan_grace_s,
        )

    def change(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self.san, name, value)
        self.san.write(self.root)

    @property
    def sessions(self) -> list[str]:
        folder = self.root / "sys/class/iscsi_session"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    @property
    def records(self) -> list[Path]:
        try:
            return sorted((self.root / "etc/iscsi/nodes").glob("*/*/default"))
        except FileNotFoundError:  # they go meanwhile
            return []

    def mount(self, disk: str) -> None:
        (self.root / "proc/mounts").write_text(f"/dev/{disk} /mnt/lun ext4 rw 0 0\n")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    luns = [Lun(number, WWIDS[number], serial=f"unit{number}") for number in range(2)]
    return Host(tmp_path / "machine", tmp_path / "state", San([ONE, TWO], luns, user="hosts", secret=SECRET))


@contextlib.asynccontextmanager
async def running(keeper: IscsiKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.02)


def server(address: str = "10.0.0.1", uuid: str = "a" * 32, chap: Chap | None = CHAP) -> IscsiServer:
    return IscsiServer(uuid=uuid, address=address, port=3260, chap=chap)


async def test_a_service_that_does_not_start_is_named_with_its_reason_and_where_to_look(host: Host) -> None:
    systemctl = host.root / "usr/sbin/systemctl"
    systemctl.write_text("#!/bin/sh\necho Unit iscsid.service is masked. >&2; exit 1\n")
    systemctl.chmod(0o755)
    with pytest.raises(HardpointError, match=r"iscsid does not start: Unit .* is masked") as raised:
        await host.keeper.login(server())
    assert "open-iscsi is installed" in raised.value.remedy
    assert "journalctl -u iscsid" in raised.value.remedy
    assert host.sessions == []


async def test_a_login_finds_the_luns_and_says_the_secret_to_no_command(host: Host) -> None:
    report = await host.keeper.login(server())
    assert [(lun.lun, lun.wwid, lun.size, lun.type) for lun in report.luns] == [
        (0, WWIDS[0], GIB, "disk"),
        (1, WWIDS[1], GIB, "disk"),
    ]
    (session,) = report.sessions
    assert (session.iqn, session.address, session.state) == (IQN, "10.0.0.1", SessionState.LOGGED_IN)
    assert SECRET not in "".join(calls(host.root))
    (record,) = host.records
    assert record.stat().st_mode & 0o777 == 0o600
    text = record.read_text()
    assert f"node.session.auth.password = {SECRET}\n" in text
    assert "node.startup = manual\n" in text
    assert not list((host.root / "etc/iscsi").glob(".hardpoint*"))


async def test_a_portal_announces_others_which_are_left_alone(host: Host) -> None:
    await host.keeper.login(server())
    assert len(host.sessions) == 1
    await host.keeper.login(server("10.0.1.1", uuid="b" * 32))
    assert len(host.sessions) == 2
    await host.keeper.logout("a" * 32)
    assert (len(host.sessions), len(host.records)) == (1, 1)


@pytest.mark.parametrize(
    "chap", [None, Chap(user="hosts", secret="wrong"), Chap(user="others", secret=SECRET)]
)
async def test_who_is_not_let_in_leaves_nothing(host: Host, chap: Chap | None) -> None:
    with pytest.raises(HardpointError) as refused:
        await host.keeper.login(server(chap=chap))
    assert refused.value.code == "ISCSI.1001"
    assert "refuses this CHAP name or secret" in refused.value.details
    assert "wrong" not in refused.value.details
    assert (host.sessions, host.records) == ([], [])
    assert (await host.keeper.sync([])).servers == []


async def test_a_portal_that_does_not_answer_is_named(host: Host) -> None:
    host.change(up=False)
    with pytest.raises(HardpointError, match=r"10\.0\.0\.1:3260") as refused:
        await host.keeper.login(server())
    assert refused.value.remedy


async def test_luns_of_one_wwid_are_refused_with_both_shown(host: Host) -> None:
    host.san.luns.append(Lun(2, WWIDS[0], serial="another"))
    host.change()
    with pytest.raises(HardpointError, match=r"LUN 0 of .* and LUN 2 of") as refused:
        await host.keeper.login(server())
    assert refused.value.code == "ISCSI.1002"
    assert host.sessions == []


async def test_a_second_login_finds_what_was_added_and_what_has_grown(host: Host) -> None:
    await host.keeper.login(server())
    host.san.luns[0].size = 2 * GIB
    host.san.luns.append(Lun(2, WWIDS[2], serial="unit2"))
    host.change()
    report = await host.keeper.login(server())
    assert [(lun.lun, lun.size) for lun in report.luns] == [(0, 2 * GIB), (1, GIB), (2, GIB)]
    assert len(host.sessions) == 1


async def test_another_secret_is_used_at_the_next_login_and_drops_no_session(host: Host) -> None:
    await host.keeper.login(server())
    other = Chap(user="hosts", secret="othersecret1")
    await host.keeper.change(server(chap=other))
    assert host.sessions == ["session1"]
    assert "othersecret1" in host.records[0].read_text()
    host.change(secret="othersecret1")
    lose(host.root, 1)
    async with running(host.keeper):
        await until(lambda: len(host.sessions) == 1)
    assert not any("othersecret1" in call for call in calls(host.root))


async def test_a_session_that_is_lost_is_told_of_and_logged_in_again(host: Host) -> None:
    await host.keeper.login(server())
    async with running(host.keeper):
        await until(lambda: host.keeper._told is not None)
        host.change(up=False)
        lose(host.root, 1)
        await until(lambda: host.events)
        (session,) = host.events[0].report.servers[0].sessions
        assert session.state is SessionState.MISSING
        await until(lambda: host.events[-1].report.servers[0].sessions[0].reason)
        assert "did not answer" in str(host.events[-1].report.servers[0].sessions[0].reason)
        host.change(up=True)
        await until(lambda: len(host.sessions) == 1)
        await until(lambda: host.events[-1].report.servers[0].sessions[0].state is SessionState.LOGGED_IN)
        assert len(host.events[-1].report.servers[0].luns) == 2


async def test_an_agent_that_was_killed_logs_in_to_what_is_missing_by_itself(host: Host) -> None:
    await host.keeper.login(server())
    lose(host.root, 1)
    async with running(host.agent()):
        await until(lambda: len(host.sessions) == 1)


async def test_an_orphan_is_told_of_then_swept(host: Host) -> None:
    await host.keeper.login(server())
    ledger = json.loads((host.state / "iscsi.json").read_text())
    (host.state / "iscsi.json").write_text(json.dumps({**ledger, "needed": []}))
    async with running(host.agent()):
        await until(lambda: host.events and host.events[0].report.orphans)
        await asyncio.sleep(0.3)
        assert host.sessions == ["session1"], "it has time for being needed after all"
    async with running(host.agent(orphan_grace_s=0)):
        await until(lambda: (host.sessions, host.records) == ([], []))


async def test_what_somebody_else_logged_in_to_stays(host: Host) -> None:
    foreign = San(["10.9.9.9,3260"], [Lun(0, WWIDS[3])], iqn="iqn.2026-01.org.example:boot")
    foreign.write(host.root)
    argv = ["-m", "node", "-T", foreign.iqn, "-p", "10.9.9.9:3260"]
    for more in (["-o", "new"], ["--login"]):
        (
            await ProcessRunner().run([str(host.root / "usr/sbin/iscsiadm"), *argv, *more], timeout_s=30)
        ).check()
    host.change()
    await host.keeper.login(server())
    await host.keeper.sync([])
    assert host.sessions == ["session1"]
    assert [record.parents[1].name for record in host.records] == [foreign.iqn]


async def test_a_disk_that_is_used_holds_up_the_logout_and_is_named(host: Host) -> None:
    await host.keeper.login(server())
    host.mount("sda1")
    with pytest.raises(HardpointError, match="sda1 is mounted at /mnt/lun"):
        await host.keeper.logout("a" * 32)
    assert host.sessions == ["session1"]
    (host.root / "proc/mounts").write_text("")
    await host.keeper.logout("a" * 32)
    assert (host.sessions, host.records) == ([], [])


async def test_sync_takes_over_what_is_wanted_and_says_what_fails(host: Host) -> None:
    await host.keeper.login(server())
    other = server("10.0.1.1", uuid="b" * 32)
    lost = server("10.0.2.1", uuid="c" * 32)
    report = await host.keeper.sync([other, lost])
    by_uuid = {one.server_uuid: one for one in report.servers}
    assert by_uuid.keys() == {"b" * 32, "c" * 32}
    assert by_uuid["b" * 32].error is None
    error = by_uuid["c" * 32].error
    assert error is not None
    assert error.code == "ISCSI.1001"
    assert len(host.sessions) == 1


async def test_a_portal_that_was_never_heard_of_is_asked_again(host: Host) -> None:
    host.change(up=False)
    report = await host.keeper.sync([server()])
    assert report.servers[0].error is not None
    async with running(host.keeper):
        await asyncio.sleep(0.5)
        host.change(up=True)
        await until(lambda: len(host.sessions) == 1)
        await until(lambda: host.events and host.events[-1].report.servers[0].luns)
        assert host.events[-1].report.servers[0].error is None


async def test_a_host_without_open_iscsi_says_how_it_gets_it(host: Host) -> None:
    (host.root / "usr/sbin/iscsiadm").unlink()
    with pytest.raises(HardpointError, match="has no iscsiadm") as refused:
        await host.keeper.login(server())
    assert (refused.value.code, refused.value.remedy[:18]) == ("SYS.1014", "reconnect the host")


async def test_portals_are_ipv6_as_well(host: Host) -> None:
    host.change(portals=["fd00::1,3260"])
    report = await host.keeper.login(server("fd00::1"))
    assert report.sessions[0].address == "fd00::1"
    assert report.luns[0].path == f"ip-fd00::1:3260-iscsi-{IQN}-lun-0"
    assert any("-p [fd00::1]:3260" in call for call in calls(host.root))


async def test_a_ledger_that_cannot_be_read_is_said_with_its_path(host: Host) -> None:
    (host.state / "iscsi.json").write_text("{")
    with pytest.raises(HardpointError, match=r"iscsi\.json"):
        await host.keeper.sync([])
