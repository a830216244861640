"""`true` on 100 SSH servers by KvmRunShell's fan-out, beside clush and ansible ad hoc."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.common import Table, Worker, end, family_cpu_s, load_note, median, scratch, until

HOSTS, AT_ONCE = 100, 50
SSHD = "/usr/sbin/sshd"
HEADS = ("contender", "wall s", "own CPU s", "hosts' CPU s", "x first", "x kept")
FIRST, KEPT = "hardpoint, first run", "hardpoint, kept connections"
CLUSH, CLUSH_KEPT = "clush", "clush, kept connections"
CLUSH_PASSWORD = "clush, by password"
ANSIBLE, ANSIBLE_KEPT = "ansible", "ansible, kept connections"


@dataclass(frozen=True)
class Servers:
    """An sshd that listens on all loopback addresses, a user of it, and its key."""

    directory: Path
    port: int
    user: str
    password: str
    key: Path
    pid: int

    def ssh_options(self, control: str) -> str:
        """Return options of `ssh`; `control` says more, such as what becomes of its connections."""
        no_check = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        return f"-F none -i {self.key} -p {self.port} {no_check} {control}"


@dataclass(frozen=True)
class Taken:
    """What one run took; `hosts_cpu_s`: sshd and all that it started."""

    wall_s: float
    own_cpu_s: float
    hosts_cpu_s: float


Figures = dict[str, list[Taken]]


def _measured(servers: Servers, run: Callable[[], tuple[float, float]]) -> Taken:
    before = family_cpu_s(servers.pid)
    wall_s, cpu_s = run()
    return Taken(wall_s, cpu_s, family_cpu_s(servers.pid) - before)


def addresses(count: int) -> list[str]:
    """Return so many addresses of the loopback."""
    return [f"127.0.{20 + n // 200}.{1 + n % 200}" for n in range(count)]


def table(hosts: int = HOSTS, at_once: int = AT_ONCE, rounds: int = 3, slow_rounds: int = 1) -> Table:
    """Run all contenders in turn, the slow one in `slow_rounds` of the rounds; return the medians."""
    before = os.getloadavg()[0]
    result = Table(f"`true` on {hosts} hosts over SSH", HEADS)
    if os.geteuid() != 0 or not Path(SSHD).exists():
        result.notes = ["left out: needs root and OpenSSH's server, for a user of its own to log in as"]
        return result
    figures: Figures = defaultdict(list)
    with scratch() as directory, _servers(directory) as servers:
        arguments = [str(servers.port), servers.user, str(hosts), str(at_once)]
        with _password(servers), _hardpoint(arguments, directory) as worker:
            for number in range(rounds):
                for name, first in ((FIRST, True), (KEPT, False)):
                    figures[name].append(_measured(servers, partial(_ask, worker, hosts, first=first)))
                _clush(servers, hosts, at_once, figures)
                if number < slow_rounds:
                    _ansible(servers, hosts, at_once, figures)
    first, kept = (median(taken.wall_s for taken in figures[name]) for name in (FIRST, KEPT))
    for name, found in figures.items():
        wall = median(taken.wall_s for taken in found)
        cpu = [median(taken.own_cpu_s for taken in found), median(taken.hosts_cpu_s for taken in found)]
        ratios = [f"{wall / first:.1f}", f"{wall / kept:.1f}"]
        result.rows.append([name, f"{wall:.2f}", *(f"{seconds:.2f}" for seconds in cpu), *ratios])
    result.notes = _notes(at_once, rounds, slow_rounds, before)
    return result


def _notes(at_once: int, rounds: int, slow_rounds: int, before: float) -> list[str]:
    left_out = [name for name in ("clush", "ansible") if shutil.which(name, path=command_path()) is None]
    which = f"medians of {rounds} rounds (ansible: {slow_rounds}), in turn, {at_once} hosts at once each"
    notes = [
        f"{which}; one sshd on all addresses of this machine: its CPU, and its children's, is in every wall",
        "hardpoint logs in by password, which sshd hashes each time; the others by key unless they say so",
        "hardpoint: a call in a process that runs already; clush and ansible: commands, with their start",
        "kept connections: a second run; of clush and ansible by ControlPersist of ssh",
        "ansible as it comes, but for the forks",
        "aims: a fifth of clush, a thirty-fifth of ansible; kept connections seven times faster than first",
    ]
    return [*notes, *(f"{name} is not installed: left out" for name in left_out), load_note(before)]


@contextlib.contextmanager
def _servers(directory: Path) -> Iterator[Servers]:
    user, password = f"hpb{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    key, home = directory / "key", directory / "home"
    directory.chmod(0o711)
    for path in (directory / "host_key", key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    home.mkdir()
    shutil.copy(key.with_suffix(".pub"), directory / "authorized_keys")
    (directory / "authorized_keys").chmod(0o644)
    argv = ["useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", user]
    subprocess.run(argv, check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{user}:{password}\n", text=True, check=True)
        shutil.chown(home, user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with _sshd(directory, port, user) as pid:
            yield Servers(directory, port, user, password, key, pid)
    finally:
        subprocess.run(["userdel", "--force", user], check=True)


@contextlib.contextmanager
def _sshd(directory: Path, port: int, user: str) -> Iterator[int]:
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    config = directory / "sshd_config"
    lines = [
        f"ListenAddress 0.0.0.0:{port}",
        f"HostKey {directory / 'host_key'}",
        f"AuthorizedKeysFile {directory / 'authorized_keys'}",
        f"AllowUsers {user}",
        "UsePAM no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nStrictModes no\nUseDNS no",
        "PrintMotd no\nPidFile none\nMaxStartups 1000\nLogLevel ERROR\nPerSourceMaxStartups none\n",
    ]
    config.write_text("\n".join(lines))
    with (directory / "sshd.log").open("ab") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        until(lambda: _answers(port), "sshd listens", process)
        yield process.pid
    finally:
        end(process)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@contextlib.contextmanager
def _password(servers: Servers) -> Iterator[None]:
    """Have children find the password in their environment."""
    os.environ["HARDPOINT_BENCH_PASSWORD"] = servers.password
    try:
        yield
    finally:
        del os.environ["HARDPOINT_BENCH_PASSWORD"]


def _hardpoint(arguments: Sequence[str], directory: Path) -> Worker:
    return Worker("shell_hardpoint", *arguments, log=directory / "hardpoint.log")


def _ask(worker: Worker, hosts: int, *, first: bool) -> tuple[float, float]:
    answer = worker.ask(first=first)
    if answer["good"] != hosts:
        raise RuntimeError(f"hardpoint: {answer['good']} of {hosts} hosts: {answer['error']}")
    return answer["wall_s"], answer["cpu_s"]


def command_path() -> str:
    """Return where commands are looked for: those of this Python first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _clush(servers: Servers, hosts: int, at_once: int, figures: Figures) -> None:
    clush = shutil.which("clush", path=command_path())
    if clush is None:
        return
    # clush takes %% for %; %C is ssh's digest of user, host and port.
    control = f"-o ControlMaster=auto -o ControlPath={servers.directory}/c%%C -o ControlPersist=60"
    none = "-o ControlMaster=no -o ControlPath=none"
    password = f"{none} -o BatchMode=no -o PubkeyAuthentication=no -o PreferredAuthentications=password"
    environment = {"SSH_ASKPASS": str(_askpass(servers)), "SSH_ASKPASS_REQUIRE": "force"}
    for name, options in ((CLUSH_PASSWORD, password), (CLUSH, none), (CLUSH_KEPT, control)):
        argv = [clush, "-q", "-f", str(at_once), "-l", servers.user, "-o", servers.ssh_options(options)]
        argv += ["-w", ",".join(addresses(hosts)), "-S", "true"]
        if name == CLUSH_KEPT:
            _timed(argv)
        figures[name].append(_measured(servers, partial(_timed, argv, environment)))
    _close_masters(servers, "c*")


def _askpass(servers: Servers) -> Path:
    """Return a program that tells ssh the password."""
    program = servers.directory / "askpass"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$HARDPOINT_BENCH_PASSWORD"\n')
    program.chmod(0o700)
    return program


def _ansible(servers: Servers, hosts: int, at_once: int, figures: Figures) -> None:
    ansible = shutil.which("ansible", path=command_path())
    if ansible is None:
        return
    environment = {
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(servers.directory / "a"),
        "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=60",
        "ANSIBLE_SSH_COMMON_ARGS": "-F none -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        "ANSIBLE_LOCAL_TEMP": str(servers.directory / "tmp"),
        "HOME": str(servers.directory),
    }
    argv = [ansible, "all", "-i", ",".join(addresses(hosts)) + ",", "-f", str(at_once), "-o"]
    argv += ["-u", servers.user, "--private-key", str(servers.key), "-e", f"ansible_port={servers.port}"]
    argv += ["-m", "ansible.builtin.shell", "-a", "true"]
    for name in (ANSIBLE, ANSIBLE_KEPT):
        figures[name].append(_measured(servers, partial(_timed, argv, environment)))
    _close_masters(servers, "a/*")


def _timed(argv: Sequence[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Return the wall and CPU seconds of a command, its children included. RuntimeError when it fails."""
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    wall_s, after = time.perf_counter() - begin, os.times()
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-1000:]}")
    used = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    return wall_s, used


def _close_masters(servers: Servers, pattern: str) -> None:
    """End the connections that ssh keeps in the background."""
    for control in servers.directory.glob(pattern):
        argv = ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", "nobody"]
        subprocess.run(argv, capture_output=True, check=False)
