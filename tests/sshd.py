"""A real OpenSSH server on the loopback with a password login; import its fixtures in a conftest."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.helpers import free_port, wait_until

SSHD = "/usr/sbin/sshd"
ADMIN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Account:
    """A throw-away user of this machine with a password."""

    name: str
    password: str
    uid: int

    def scripts(self) -> list[Path]:
        """Return the temporary script files of this user."""
        found = []
        for path in Path("/tmp").glob("hardpoint.*"):
            with contextlib.suppress(FileNotFoundError):  # others come and go
                if path.stat().st_uid == self.uid:
                    found.append(path)
        return found

    def processes(self) -> list[str]:
        """Return the command lines of what runs as this user, the server's own processes left out."""
        found = []
        for process in psutil.process_iter():
            try:
                with process.oneshot():
                    alive = process.status() != psutil.STATUS_ZOMBIE
                    if alive and process.uids().real == self.uid and not process.name().startswith("sshd"):
                        found.append(" ".join(process.cmdline()))
            except psutil.NoSuchProcess:
                continue
        return found

    def wait_for_no_processes(self) -> None:
        """Return when nothing runs as this user any more."""
        wait_until(lambda: not self.processes(), f"processes of {self.name} to end")

    def kill_processes(self) -> None:
        """End what runs as this user: nobody else uses the account."""
        for process in psutil.process_iter():
            try:
                if process.uids().real == self.uid and not process.name().startswith("sshd"):
                    process.kill()
            except psutil.NoSuchProcess:
                continue


def _admin(*argv: str, text: str | None = None) -> None:
    """Run a command that locks /etc/passwd, again while another test run holds the lock."""
    done: list[subprocess.CompletedProcess[str]] = []

    def attempt() -> bool:
        done.append(
            subprocess.run(
                argv, input=text, text=True, capture_output=True, check=False, env={"PATH": ADMIN_PATH}
            )
        )
        return "lock" not in done[-1].stderr or done[-1].returncode == 0

    wait_until(attempt, f"the lock of the account files for {argv[0]}")
    if done[-1].returncode != 0:
        pytest.fail(f"{argv}: {done[-1].stderr}")


class Sshd:
    """One sshd process with its own directory, host key and configuration.

    `options` are sshd_config directives that win over the defaults here. `address` is on the loopback.
    """

    def __init__(
        self,
        directory: Path,
        account: Account,
        key_type: str = "ed25519",
        options: dict[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.directory = directory
        self.account = account
        self.address = address
        self.port = free_port()
        self.options = options or {}
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.make_host_key(key_type)

    @property
    def host_key(self) -> str:
        """The host key as an OpenSSH line."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        """The host key's fingerprint as ssh-keygen prints it."""
        argv = ["ssh-keygen", "-lf", str(self.directory / "host_key.pub")]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]

    def make_host_key(self, key_type: str = "ed25519") -> None:
        """Replace the host key; sshd reads it anew for each connection, so at once."""
        for old in self.directory.glob("host_key*"):
            old.unlink()
        path = str(self.directory / "host_key")
        subprocess.run(["ssh-keygen", "-q", "-t", key_type, "-N", "", "-f", path], check=True)

    def log(self) -> str:
        """Return what the server has logged since its first start."""
        return self._log.read_text(errors="replace")

    def logins(self) -> int:
        """Return the number of accepted passwords."""
        return self.log().count("Accepted password")

    def start(self) -> None:
        """Start the server; returns when it accepts connections."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.directory / "sshd_config"
        config.write_text(self._config())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers, f"sshd to listen: {self.log()}", START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop the server and its sessions, by their process ids."""
        if self._process is None:
            return
        sessions = self.sessions()
        self._process.terminate()
        self._process.wait(60)
        self._process = None
        for session in sessions:
            try:
                session.kill()
            except psutil.NoSuchProcess:
                continue
        wait_until(lambda: not any(_runs(session) for session in sessions), "the sessions of sshd to end")

    def sessions(self) -> list[psutil.Process]:
        """Return the server's per-connection processes."""
        if self._process is None:
            return []
        children = psutil.Process(self._process.pid).children(recursive=True)
        return [child for child in children if _is_sshd(child)]

    def restart(self, *, new_host_key: bool = False, key_type: str = "ed25519") -> None:
        """Stop and start on the same port, as a reinstalled host when `new_host_key`."""
        self.stop()
        if new_host_key:
            self.make_host_key(key_type)
        self.start()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"sshd ended: {self.log()}")
        try:
            with socket.create_connection((self.address, self.port), 1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _config(self) -> str:
        defaults = {
            "HostKey": str(self.directory / "host_key"),
            "UsePAM": "no",
            "PasswordAuthentication": "yes",
            "KbdInteractiveAuthentication": "no",
            "PubkeyAuthentication": "no",
            "PermitRootLogin": "no",
            "AllowUsers": self.account.name,
            "StrictModes": "no",
            "UseDNS": "no",
            "PrintMotd": "no",
            "PidFile": "none",
            "MaxStartups": "200",
            "MaxSessions": "20",
            "LogLevel": "VERBOSE",
        }
        listen = [f"ListenAddress {self.address}:{self.port}"]
        if has_ipv6():
            listen.append(f"ListenAddress [::1]:{self.port}")
        # sshd takes the first value of a directive.
        lines = [f"{name} {value}" for name, value in (self.options | defaults | self.options).items()]
        return "\n".join([*listen, *lines, ""])


def _is_sshd(process: psutil.Process) -> bool:
    """Return whether a process is one of sshd's own and not gone in the meantime."""
    try:
        return bool(process.name().startswith("sshd"))
    except psutil.NoSuchProcess:
        return False


def _runs(process: psutil.Process) -> bool:
    """Return whether a process exists that is not merely waiting for init to reap it."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def has_ipv6() -> bool:
    """Return whether ::1 can be listened on."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def ssh_account() -> Iterator[Account]:
    """A user that exists for this test run."""
    if os.geteuid() != 0:
        pytest.skip("needs root to create a throw-away user")
    for tool in (SSHD, "useradd", "chpasswd", "userdel", "ssh-keygen"):
        if shutil.which(tool, path=ADMIN_PATH) is None:
            pytest.skip(f"{tool} is not installed")
    name, password = f"hpt{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    home = Path(tempfile.mkdtemp(prefix="hardpoint-test-home-"))  # pytest's own are closed to other users
    _admin("useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/bash", name)
    try:
        _admin("chpasswd", text=f"{name}:{password}\n")
        account = Account(name, password, pwd.getpwnam(name).pw_uid)
        os.chown(home, account.uid, -1)
        yield account
        account.kill_processes()
    finally:
        _admin("userdel", "--force", name)
        shutil.rmtree(home)


@pytest.fixture
def start_sshd(ssh_account: Account, tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """A function that starts a server; takes `key_type`, `options` and `address` of `Sshd`."""
    started: list[Sshd] = []

    def start(
        key_type: str = "ed25519", options: dict[str, str] | None = None, address: str = "127.0.0.1"
    ) -> Sshd:
        directory = tmp_path / f"sshd{len(started)}"
        directory.mkdir(mode=0o700)
        server = Sshd(directory, ssh_account, key_type, options, address)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def sshd(start_sshd: Callable[..., Sshd]) -> Sshd:
    """A running server with the default configuration."""
    return start_sshd()
