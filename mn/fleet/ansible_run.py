"""Runs of playbooks: a private folder, a process, its reports; whatever ends the run ends both."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import msgspec

from mn.fleet.ansible_play import Play, Told
from mn.fleet.deploy import Report
from mn.fleet.ssh import SshTarget
from mn.fleet.survey import HostSurvey
from mn.fleet.wheelhouse import ansible_directory

log = logging.getLogger(__name__)

LIMIT_S = 1800.0
STOP_TIMEOUT_S = 20.0
"""A cancelled run closes its connections and removes its folder in this time, or is killed."""
RUNS_AT_ONCE = 8
_LINE_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Played:
    """A run that ended well: how many tasks changed something, and a log if a task gave one."""

    changed: int
    log: str


class PlayError(Exception):
    """A run that did not end well: the task, what the host said, what to do, a log if there is one."""

    def __init__(self, task: str, message: str, remedy: str = "", log: str = "") -> None:
        super().__init__(f"{task}: {message}")
        self.task = task
        self.message = message
        self.remedy = remedy
        self.log = log


class Runs:
    """Plays playbooks on one host each, at most `at_once` together; their folders are below `directory`."""

    def __init__(self, directory: Path, *, at_once: int = RUNS_AT_ONCE, limit_s: float = LIMIT_S) -> None:
        self._directory = directory
        self._limit_s = limit_s
        self._places = asyncio.Semaphore(at_once)

    def clean(self) -> None:
        """Remove what a management node that was killed left behind; to be called before the first run."""
        shutil.rmtree(self._directory, ignore_errors=True)

    async def play(
        self,
        playbook: str,
        login: SshTarget,
        survey: HostSurvey,
        variables: dict[str, object],
        report: Report,
    ) -> Played:
        """Play on the host that was surveyed; `report` is told each task's name. Raises PlayError."""
        async with self._places:
            directory = await asyncio.to_thread(self._prepare, login, survey, variables)
            play = Play(
                directory=str(directory),
                playbook=str(ansible_directory() / playbook),
                password=login.password,
                become_password=not survey.root,
                limit_s=self._limit_s,
            )
            try:
                async with _process(directory) as process:
                    return await _follow(process, play, report)
            finally:
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    def _prepare(self, login: SshTarget, survey: HostSurvey, variables: dict[str, object]) -> Path:
        """Make a run's folder: inventory, pinned host key, settings of the runner."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="run-", dir=self._directory))
        (directory / "env").mkdir(mode=0o700)
        (directory / "env" / "settings").write_text('{"pexpect_timeout": 1}')
        known_hosts = directory / "known_hosts"
        host = f"[{login.host}]:{login.port}" if login.port != 22 else login.host
        known_hosts.write_text(f"{host} {survey.host_key}\n")
        given = {
            "ansible_host": login.host,
            "ansible_port": login.port,
            "ansible_user": login.username,
            "ansible_python_interpreter": survey.python_path,
            "ansible_ssh_args": _ssh_arguments(known_hosts, survey.host_key),
            "hardpoint_become": not survey.root,
        }
        inventory = {"all": {"hosts": {"host": given | variables}}}
        handle = os.open(directory / "hosts.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(inventory))
        return directory


def _ssh_arguments(known_hosts: Path, host_key: str) -> str:
    """Return options that take nothing from the files, agent or keys of the user who runs mn."""
    kind = asyncssh.import_public_key(host_key).get_algorithm()
    algorithms = "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind
    options = {
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlgorithms": algorithms,
        "PubkeyAuthentication": "no",
        "PreferredAuthentications": "password,keyboard-interactive",
        "NumberOfPasswordPrompts": "1",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
    }
    return "-F /dev/null " + " ".join(f"-o {name}={value}" for name, value in options.items())


@asynccontextmanager
async def _process(directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the process of a run; at the end of the block it is gone, and ansible with it."""
    binaries = Path(sys.executable).parent
    environment = {
        "PATH": f"{binaries}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "ANSIBLE_CONFIG": str(ansible_directory() / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        "ANSIBLE_HOME": str(directory / "ansible"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mn.fleet.ansible_play",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=directory,
        limit=_LINE_MAX_BYTES,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        await asyncio.shield(_end(process))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let a process end by itself, having closed its input; kill it when it takes too long."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _follow(process: asyncio.subprocess.Process, play: Play, report: Report) -> Played:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the process was started with pipes")
    process.stdin.write(msgspec.json.encode(play) + b"\n")
    await process.stdin.drain()
    failure, kept = Told(), ""
    async for line in process.stdout:
        told = msgspec.json.decode(line, type=Told)
        if told.task:
            report(told.task)
        kept = told.log or kept
        if told.failed and not failure.failed:
            failure = told
        if told.status:
            return _outcome(told, failure, kept, play.limit_s)
    said = await process.stderr.read(2000) if process.stderr else b""
    raise PlayError("", f"its process ended early: {said.decode(errors='replace').strip()[-500:]}")


def _outcome(end: Told, failure: Told, kept: str, limit_s: float) -> Played:
    if end.status == "successful":
        return Played(end.changed, kept)
    if end.status == "timeout":
        message = f"not done after {limit_s:g} s"
        raise PlayError(failure.failed, message, "allow more time with the setting deploy_timeout_s")
    if failure.failed:
        remedy = "see that the host's SSH server still answers" if failure.unreachable else failure.remedy
        raise PlayError(failure.failed, failure.message or "it gave no reason", remedy, failure.log)
    raise PlayError("", f"ansible ended as {end.status}: {end.output.strip()[-500:]}")
