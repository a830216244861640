"""Playbooks are played against a real sshd by a plain user: what a run tells, leaves, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from mn.fleet.ansible_play import Play
from mn.fleet.ansible_run import PlayError, Runs
from mn.fleet.deploy import silent
from mn.fleet.ssh import SshPool, SshTarget
from mn.fleet.survey import HostSurvey, take_survey
from tests.helpers import wait_until
from tests.sshd import Sshd

SLOW = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Sleep for long
      ansible.builtin.raw: sleep 300
"""
QUICK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Write a file
      host_files:
        files: "{{ files }}"
    - name: Write it again
      host_files:
        files: "{{ files }}"
"""
FAILING = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Write where one must not
      host_files:
        files: {/proc/hardpoint: {content: x, mode: "0644"}}
"""


@pytest.fixture
def login(sshd: Sshd) -> SshTarget:
    return SshTarget(sshd.address, sshd.port, sshd.account.name, sshd.account.password)


@pytest.fixture
async def survey(login: SshTarget) -> AsyncIterator[HostSurvey]:
    async with SshPool() as pool:
        # Nothing has to be done as root in these playbooks, and the user may not.
        yield msgspec.structs.replace(await take_survey(pool, login), root=True)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def playbook(tmp_path: Path, text: str) -> str:
    path = tmp_path / "playbook.yml"
    path.write_text(text)
    return str(path)


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "sshd" not in child.name():
                found.append(child)
    return found


def ours() -> list[str]:
    """Return the command lines of what runs of playbooks have started."""
    lines = []
    for child in children():
        try:
            lines.append(" ".join(child.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return [line for line in lines if "ansible" in line or "ssh " in line]


async def test_tasks_are_told_and_what_changed_is_counted(
    runs: Runs, login: SshTarget, survey: HostSurvey, tmp_path: Path
) -> None:
    files = {f"/tmp/hardpoint-test-{login.username}": {"content": "x", "mode": "0600"}}
    told: list[str] = []
    book = playbook(tmp_path, QUICK)
    played = await runs.play(book, login, survey, {"files": files}, told.append)
    Path(next(iter(files))).unlink()
    assert told == ["Write a file", "Write it again"]
    assert played.changed == 1
    assert list((tmp_path / "runs").iterdir()) == []


async def test_a_failing_task_is_named_with_the_hosts_words_and_a_remedy(
    runs: Runs, login: SshTarget, survey: HostSurvey, tmp_path: Path
) -> None:
    with pytest.raises(PlayError) as caught:
        await runs.play(playbook(tmp_path, FAILING), login, survey, {}, silent)
    assert caught.value.task == "Write where one must not"
    assert "cannot be written" in caught.value.message
    assert "file systems" in caught.value.remedy


async def test_a_password_that_changed_since_the_survey_fails_the_first_task(
    runs: Runs, login: SshTarget, survey: HostSurvey, tmp_path: Path
) -> None:
    wrong = dataclasses.replace(login, password="wrong")
    with pytest.raises(PlayError) as caught:
        await runs.play(playbook(tmp_path, SLOW), wrong, survey, {}, silent)
    assert "wrong" not in str(caught.value)


async def test_a_host_key_other_than_the_surveyed_one_is_refused(
    runs: Runs, login: SshTarget, survey: HostSurvey, sshd: Sshd, tmp_path: Path
) -> None:
    sshd.restart(new_host_key=True)
    with pytest.raises(PlayError, match=r"(?i)host key"):
        await runs.play(playbook(tmp_path, SLOW), login, survey, {}, silent)


async def test_the_password_is_nowhere_while_a_run_goes_on_and_a_cancelled_one_leaves_nothing(
    runs: Runs, login: SshTarget, survey: HostSurvey, sshd: Sshd, tmp_path: Path
) -> None:
    running = asyncio.create_task(runs.play(playbook(tmp_path, SLOW), login, survey, {}, silent))
    await asyncio.to_thread(
        wait_until,
        lambda: any("sleep 300" in line for line in sshd.account.processes()),
        "the task to run on the host",
        60.0,
    )
    for child in children():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                assert login.password.encode() not in Path(f"/proc/{child.pid}/{name}").read_bytes()
    folder = tmp_path / "runs"
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        assert not path.is_file() or login.password.encode() not in path.read_bytes()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ours() == []
    assert list(folder.iterdir()) == []


async def test_a_run_over_its_time_limit_says_so(
    login: SshTarget, survey: HostSurvey, tmp_path: Path
) -> None:
    with pytest.raises(PlayError, match="not done after 6 s") as caught:
        await Runs(tmp_path / "runs", limit_s=6.0).play(playbook(tmp_path, SLOW), login, survey, {}, silent)
    assert "deploy_timeout_s" in caught.value.remedy


async def test_a_run_ends_with_the_management_node_that_is_killed(
    login: SshTarget, survey: HostSurvey, sshd: Sshd, tmp_path: Path
) -> None:
    code = """
import asyncio, sys, msgspec
from pathlib import Path
from mn.fleet.ansible_run import Runs
from mn.fleet.deploy import silent
from mn.fleet.ssh import SshTarget
from mn.fleet.survey import HostSurvey
given = msgspec.json.decode(sys.stdin.buffer.read())
login = SshTarget(*given["login"])
survey = msgspec.convert(given["survey"], HostSurvey)
asyncio.run(Runs(Path(given["runs"])).play(given["book"], login, survey, {}, silent))
"""
    given = {
        "login": [login.address, login.port, login.username, login.password],
        "survey": msgspec.to_builtins(survey),
        "runs": str(tmp_path / "runs"),
        "book": playbook(tmp_path, SLOW),
    }
    node = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env={**os.environ})
    assert node.stdin is not None
    node.stdin.write(msgspec.json.encode(given))
    node.stdin.close()
    wait_until(lambda: any("sleep 300" in line for line in sshd.account.processes()), "the task to run", 60.0)
    descendants = psutil.Process(node.pid).children(recursive=True)
    node.send_signal(signal.SIGKILL)
    node.wait()
    wait_until(lambda: not any(p.is_running() for p in descendants), "ansible to end", 60.0)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_play_never_shows_its_password() -> None:
    play = Play(directory="d", playbook="p", password="secret", become_password=False, limit_s=1.0)
    assert "secret" not in repr(play)
