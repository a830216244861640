"""A real libvirtd of the test's own, which sees no other VMs; they run without KVM."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until

START_TIMEOUT_S = 60.0
OWN_FOLDERS = ("/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
SCREENS = 40
_numbers = itertools.count()


def first_screen() -> int:
    """Return the first of 40 ports for screens that no other libvirtd of this run of tests uses."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return 5900 + SCREENS * (20 * worker + next(_numbers) % 20)


def boot_sector(code: bytes) -> bytes:
    """Return a disk that a PC boots, whose whole system is `code` (16 bits)."""
    return code.ljust(510, b"\0") + b"\x55\xaa"


POWER_OFF = bytes.fromhex("ba0406 b80020 ef f4 ebfd")
"""Write SLP_EN to the ACPI control port of a q35."""
OBEY_POWER_BUTTON = bytes.fromhex("ba0206 b80001 ef ba0006 ed f6c401 74fa") + POWER_OFF
"""Enable the power button's status, wait for it, power off."""
IDLE = bytes.fromhex("f4 ebfd")


def small_domain(folder: Path, code: bytes, **more: Any) -> dict[str, Any]:
    """Return what an agent is told of a VM with a disk that has `code` only."""
    path = folder / f"{uuid.uuid4().hex}.raw"
    path.write_bytes(boot_sector(code).ljust(2**20, b"\0"))
    disk = {"volumeUuid": uuid.uuid4().hex, "path": str(path), "format": "raw", "deviceId": 0}
    return {
        "uuid": uuid.uuid4().hex,
        "name": "a VM <&> more",
        "cpus": 1,
        "memoryBytes": 32 * 2**20,
        "disks": [disk],
        "nics": [],
        "consolePassword": "secret12",
        **more,
    }


@dataclass
class Libvirtd:
    """The daemon, in a mount namespace of its own; `name` is what it takes its host to be called."""

    directory: Path
    name: str = "host"
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "sock/libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    def prepare(self) -> None:
        etc = self.directory / "etc"
        etc.mkdir(parents=True)
        (self.directory / "sock").mkdir()
        first = first_screen()
        screens = f"remote_display_port_min = {first}\nremote_display_port_max = {first + SCREENS - 1}\n"
        (etc / "qemu.conf").write_text(QEMU_CONF + screens)
        for folder in OWN_FOLDERS:
            (self.directory / "own" / folder[1:]).mkdir(parents=True)
        config = {
            "unix_sock_dir": self.directory / "sock",
            "unix_sock_rw_perms": "0700",
            "auth_unix_rw": "none",
            "host_uuid": uuid.uuid4(),
            "log_outputs": f"2:file:{self.directory / 'libvirtd.log'}",
        }
        lines = (f'{key} = "{value}"\n' for key, value in config.items())
        (self.directory / "libvirtd.conf").write_text("".join(lines))
        mounts = [f"mkdir -p {d} && mount --bind {self.directory}/own{d} {d}" for d in OWN_FOLDERS]
        mounts += [f"mkdir -p /etc/libvirt && mount --bind {etc} /etc/libvirt"]
        mounts += [f"mount --bind {self._accounts(etc, name)} /etc/{name}" for name in ("passwd", "group")]
        daemon = f"exec libvirtd -f {self.directory}/libvirtd.conf -p {self.directory}/libvirtd.pid"
        script = "\n".join(["set -e", "mount --make-rprivate /", *mounts, f"hostname {self.name}", daemon])
        (self.directory / "start.sh").write_text(script)

    @staticmethod
    def _accounts(folder: Path, name: str) -> Path:
        """Make a file of accounts with libvirt's own, which it looks up though it does not use it here."""
        rest = {"passwd": "0:libvirt:/:/usr/sbin/nologin", "group": ""}[name]
        there = Path("/etc", name).read_text()
        own = folder / name
        own.write_text(there if "\nlibvirt-qemu:" in there else f"{there}libvirt-qemu:x:0:{rest}\n")
        return own

    def start(self) -> None:
        argv = ["unshare", "--mount", "--uts", "sh", str(self.directory / "start.sh")]
        with (self.directory / "out").open("wb") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=out)
        wait_until(self._answers, "libvirtd does not answer", START_TIMEOUT_S)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "out").read_text()
        return self.virsh("version", check=False).returncode == 0

    def kill(self) -> None:
        """End the daemon; its VMs go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def virsh(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["virsh", "-q", "-c", self.uri, *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check)

    def processes(self) -> list[int]:
        """Return the pids of the VMs."""
        pids = []
        for file in (self.directory / "own/run/libvirt/qemu").glob("*.pid"):
            with contextlib.suppress(FileNotFoundError, ValueError):  # a VM has just ended, or begins
                if file.name != "driver.pid":
                    pids.append(int(file.read_text()))
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def stop(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.kill()


def _lives(directory: Path, name: str) -> Iterator[Libvirtd]:
    for program in ("libvirtd", "virsh", "qemu-system-x86_64", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("a libvirtd of our own needs root")
    made = Libvirtd(directory, name)
    made.prepare()
    made.start()
    yield made
    made.stop()


def _without_vms(daemon: Libvirtd) -> Iterator[Libvirtd]:
    yield daemon
    for name in daemon.virsh("list", "--name").stdout.split():
        daemon.virsh("destroy", name, check=False)  # it may end by itself


@pytest.fixture(scope="module")
def one_libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    yield from _lives(tmp_path_factory.mktemp("libvirtd"), "one")


@pytest.fixture(scope="module")
def another_libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    yield from _lives(tmp_path_factory.mktemp("libvirtd"), "another")


@pytest.fixture
def libvirtd(one_libvirtd: Libvirtd) -> Iterator[Libvirtd]:
    """A libvirtd without VMs: it takes long to start."""
    yield from _without_vms(one_libvirtd)


@pytest.fixture
def libvirtd_elsewhere(another_libvirtd: Libvirtd) -> Iterator[Libvirtd]:
    """A libvirtd without VMs, of what it takes to be another host."""
    yield from _without_vms(another_libvirtd)
