"""A guest: start and stop it, log in, plug devices, read its console."""

from __future__ import annotations

import concurrent.futures
import contextlib
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.lab import machine
from tests.lab.image import ImageSet
from tests.lab.image_files import ROOT_PASSWORD
from tests.lab.machine import Role, Start
from tests.lab.places import LabError, run
from tests.lab.qmp import Qmp
from tests.lab.runs import Run

BOOT_TIMEOUT_S = 480.0  # three guests at once take a minute on two cores; with others at work, five
QEMU_START_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 60.0
END_TIMEOUT_S = 30.0
MIGRATION_TIMEOUT_S = 120.0
UNPLUG_TIMEOUT_S = 30.0
SETTLE_TIMEOUT_S = 30.0
JOURNAL_TAIL, JOURNAL_TIMEOUT_S = 30, 30.0
CONSOLE_TAIL = 40  # lines


# The kernel ends a guest when the *thread* that started it ends, so they are started by one that stays
_spawner = concurrent.futures.ThreadPoolExecutor(1, "spawner")


class CommandFailed(LabError):  # noqa: N818
    """A command in a guest ended with another exit code than 0."""


class Guest:
    """A guest of a lab; made by Lab."""

    def __init__(self, role: Role, images: ImageSet, lab: Run) -> None:
        self.role = role
        self.name = role.name
        self.address, self.second_address = role.addresses
        self.password = ROOT_PASSWORD
        self.folder = lab.folder / role.name
        self.console = self.folder / "console.log"
        self.start_as = Start()
        self._images = images
        self._lab = lab
        self._network = lab.network
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None

    # Life

    @property
    def running(self) -> bool:
        """Whether its QEMU runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def qmp(self) -> Qmp:
        """The connection to its QEMU."""
        if self._qmp is None:
            raise LabError(f"{self.name} does not run")
        return self._qmp

    def start(self, start: Start | None = None, *, keep_disks: bool = False) -> None:
        """Start its QEMU, on fresh disks unless `keep_disks`; returns before it has booted, see `wait`."""
        if self.running:
            raise LabError(f"{self.name} runs already")
        self.start_as = start or Start()
        self.folder.mkdir(exist_ok=True)
        if not keep_disks:
            self._make_disks()
        self._network.join(self.name)
        argv = machine.command_line(self.role, self._images, self.folder, self.start_as)
        (self.folder / "qmp").unlink(missing_ok=True)
        command = self._network.inside(["setpriv", "--pdeathsig", "KILL", *argv])
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = _spawner.submit(
                subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ).result(QEMU_START_TIMEOUT_S)
        self._lab.add(self._process.pid)
        self._qmp = self._connect()

    def wait(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until one can log in and the drivers of its devices are loaded."""
        deadline = time.monotonic() + timeout_s
        while True:
            done = self._ssh("udevadm settle --timeout=20", SETTLE_TIMEOUT_S, "-oConnectTimeout=2")
            if done is not None and done.returncode == 0:
                return
            if not self.running:
                raise LabError(f"{self.name} has ended while it was waited for\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: no SSH after {timeout_s:g} s\n{self.last_words()}")
            time.sleep(0.3)

    def power_off(self) -> None:
        """Cut the power."""
        self.close_ssh()
        if self.running:
            with contextlib.suppress(LabError):
                self.qmp.command("quit")
        self.wait_until_off()

    def shut_down(self) -> None:
        """Press the power button, and wait until it is off."""
        self.close_ssh()
        self.qmp.command("system_powerdown")
        self.wait_until_off(BOOT_TIMEOUT_S)

    def wait_until_off(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """Wait until its QEMU has ended, as it does when the guest powers itself off."""
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise LabError(f"{self.name} is not off after {timeout_s:g} s\n{self.last_words()}") from None
        if self._qmp is not None:
            self._qmp.close()
        self._process = self._qmp = None

    def reset(self) -> None:
        """Press the reset button; it boots again, see `wait`."""
        self.close_ssh()
        self.qmp.command("system_reset")

    def reboot(self) -> None:
        """Have it reboot in an orderly way, and wait until one can log in again."""
        before = self.boot_id()
        self.try_run("systemctl reboot")
        self.wait_until_rebooted(before)

    def boot_id(self) -> str:
        """Return what is another one after each boot."""
        return self.run("cat /proc/sys/kernel/random/boot_id")

    def wait_until_rebooted(self, before: str, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until one can log in to what has another boot id."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.close_ssh()
            self.wait(timeout_s)
            with contextlib.suppress(LabError):
                if self.boot_id() != before:
                    return
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} has not booted again\n{self.last_words()}")
            time.sleep(1)

    def pause(self) -> None:
        """Stop its processors; to the others it is as dead."""
        self.qmp.command("stop")

    def resume(self) -> None:
        """Let it go on after a pause."""
        self.qmp.command("cont")

    def link(self, nic: int, *, up: bool) -> None:
        """Pull the cable of a network interface (0 or 1), or plug it in again."""
        self.qmp.command("set_link", name=f"nic{nic}", up=up)

    # Logging in

    def run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a shell script as root and return what it printed. Raises CommandFailed."""
        done = self.try_run(script, timeout_s)
        if done.returncode != 0:
            raise CommandFailed(
                f"{self.name}: exit code {done.returncode}: {script}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def try_run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root and return how it went; exit code 255 when one cannot log in."""
        done = self._ssh(script, timeout_s)
        if done is None:
            raise LabError(f"{self.name}: not done in {timeout_s:g} s: {script}\n{self.last_words()}")
        return done

    def wait_for(self, condition: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        """Wait until a shell condition holds. Raises LabError when it does not in time."""
        loop = shlex.quote(f"until {condition}; do sleep 0.1; done")
        done = self.try_run(f"timeout {timeout_s:g} sh -c {loop}", timeout_s + COMMAND_TIMEOUT_S)
        if done.returncode != 0:
            raise LabError(f"{self.name}: not in {timeout_s:g} s: {condition}\n{done.stderr}")

    def write(self, path: str, content: str) -> None:
        """Write a file in the guest."""
        self.run(f"cat >{shlex.quote(path)} <<'END-OF-FILE'\n{content}\nEND-OF-FILE")

    def ssh_argv(self, *options: str) -> list[str]:
        """Return the argv of ssh to this guest, from wherever the caller is."""
        key = ["-i", str(self._images.ssh_key), "-oIdentitiesOnly=yes", "-oBatchMode=yes"]
        host = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR"]
        share = ["-oControlMaster=auto", f"-oControlPath={self._control}", "-oControlPersist=600"]
        times = ["-oConnectTimeout=10", "-oServerAliveInterval=5", "-oServerAliveCountMax=6"]
        argv = ["ssh", "-F/dev/null", *options, *key, *host, *share, *times, f"root@{self.address}"]
        return self._network.inside(argv)

    def close_ssh(self) -> None:
        """Close the shared SSH connection; it would not survive what comes."""
        if self._control.exists():
            argv = self.ssh_argv("-Oexit")
            subprocess.run(argv, capture_output=True, timeout=END_TIMEOUT_S, check=False)
            self._control.unlink(missing_ok=True)

    @property
    def _control(self) -> Path:
        return self.folder / "ssh"

    def _ssh(self, script: str, timeout_s: float, *options: str) -> subprocess.CompletedProcess[str] | None:
        argv = [*self.ssh_argv(*options), script]
        try:
            return subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            return None

    # Devices

    def plug(self, driver: str, identity: str, **options: Any) -> None:
        """Plug a device: `plug("e1000e", "nic9", bus="rp6")`, `plug("usb-mouse", "mouse9", bus="xhci.0")`."""
        self.qmp.command("device_add", driver=driver, id=identity, **options)

    def unplug(self, identity: str) -> None:
        """Unplug a device and wait until the guest has let it go."""
        self.qmp.command("device_del", id=identity)
        self.qmp.wait_event("DEVICE_DELETED", UNPLUG_TIMEOUT_S, lambda data: data.get("device") == identity)

    def add_disk(self, name: str, size: str = "32M") -> None:
        """Make a backend for a disk that will be plugged: `plug("usb-storage", ..., drive=name)`."""
        path = self.folder / f"{name}.raw"
        run(["truncate", "-s", size, path], COMMAND_TIMEOUT_S)
        file = {"driver": "file", "filename": str(path)}
        self.qmp.command("blockdev-add", driver="raw", node_name=name, file=file)

    def open_disk(self, name: str) -> None:
        """Make a backend of one of the guest's own disks that it does not start with."""
        file = {"driver": "file", "filename": str(self.folder / f"{name}.qcow2")}
        self.qmp.command("blockdev-add", driver="qcow2", node_name=name, file=file)

    def remove_disk(self, name: str) -> None:
        """Remove the backend of a disk that was unplugged."""
        self.qmp.command("blockdev-del", node_name=name)

    # What is left when it does not work

    def last_words(self) -> str:
        """Return the end of its console and what QEMU said."""
        console = self.console.read_text(errors="replace") if self.console.exists() else ""
        log = self.folder / "qemu.log"
        said = log.read_text(errors="replace") if log.exists() else ""
        tail = "\n".join(console.splitlines()[-CONSOLE_TAIL:])
        return f"--- console of {self.name}\n{tail}\n--- its QEMU\n{said[-2000:]}"

    def journal(self) -> str:
        """Return the end of what its services have written; nothing when one cannot log in."""
        if not self.running:
            return ""
        units = " ".join(f"-u {unit}" for unit in ("'hardpoint-*'", "lvmlockd", "sanlock", "libvirtd"))
        look = f"systemctl --failed --no-legend; journalctl -q --no-pager -n {JOURNAL_TAIL} -o cat {units}"
        done = self._ssh(look, JOURNAL_TIMEOUT_S)
        return "" if done is None else f"--- journal of {self.name}\n{done.stdout}"

    def disks(self) -> list[Path]:
        """Return the files of its disks."""
        return [self.folder / f"{name}.qcow2" for name in ("root", *(name for name, _ in self.role.disks))]

    def _make_disks(self) -> None:
        root = self._images.disk(self.role.image)
        create = ["qemu-img", "create", "-q", "-f", "qcow2"]
        run([*create, "-b", root, "-F", "qcow2", self.folder / "root.qcow2"], COMMAND_TIMEOUT_S)
        for name, size in self.role.disks:
            run([*create, self.folder / f"{name}.qcow2", size], COMMAND_TIMEOUT_S)

    def _connect(self) -> Qmp:
        deadline = time.monotonic() + QEMU_START_TIMEOUT_S
        while True:
            if not self.running:
                raise LabError(f"QEMU of {self.name} ended at once\n{self.last_words()}")
            try:
                return Qmp(self.folder / "qmp")
            except OSError:
                if time.monotonic() > deadline:
                    raise LabError(f"QEMU of {self.name} does not answer\n{self.last_words()}") from None
                time.sleep(0.02)
