"""The record of what a lab has made on this machine, so that a killed run can be cleaned up later."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.lab import kept
from tests.lab.network import Network
from tests.lab.places import LabError, cache, say

RECORD = "lab.json"
SOCKET_PATH_LIMIT = 90  # bytes; the kernel takes 107, ssh adds 17 while it makes one
END_TIMEOUT_S = 10.0
CLEAN_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    started: int  # clock ticks since the boot
    boot: str  # id of that boot

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has this id now; None when there is none, or only its corpse."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text().strip())

    @property
    def alive(self) -> bool:
        """Whether it is that very process that runs."""
        return Process.of(self.pid) == self

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise LabError(f"process {self.pid} does not end")
            time.sleep(0.02)


@dataclass
class Run:
    """One lab that is up: its folder, who owns it, and what has to go when it ends."""

    folder: Path
    owner: Process
    processes: list[Process] = field(default_factory=list)

    @property
    def network(self) -> Network:
        """The network namespace of this lab."""
        return Network(self.folder.name)

    def add(self, pid: int) -> None:
        """Record a process that must not outlive the lab."""
        process = Process.of(pid)
        if process is not None:
            self.processes = [one for one in self.processes if one.alive] + [process]
            _write(self.folder, self)

    def remove(self) -> None:
        """End the processes, those inside the namespace too; remove the namespace and the folder."""
        for process in self.processes:
            process.end()
        for process in _inside(self.network):
            process.end()
        self.network.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


def _inside(network: Network) -> list[Process]:
    """Return who runs in the namespace, but for us and who started us."""
    if not network.path.exists():
        return []
    listed = subprocess.run(
        ["ip", "netns", "pids", network.name], capture_output=True, text=True, check=False
    )
    ours = {os.getpid(), os.getppid()}
    found = [Process.of(int(pid)) for pid in listed.stdout.split() if int(pid) not in ours]
    return [process for process in found if process is not None]


def folder() -> Path:
    """Return the folder that has a folder for each run."""
    path = cache() / "runs"
    path.mkdir(exist_ok=True)
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT - 24:
        raise LabError(f"{path} is too long a path for sockets; set HARDPOINT_LAB_CACHE to a shorter one")
    return path


def begin() -> Run:
    """Record a new run, owned by this process. The record is there before anything else is."""
    owner = Process.of(os.getpid())
    assert owner is not None
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder()))
    run = Run(folder() / secrets.token_hex(3), owner)
    _write(partial, run)
    partial.rename(run.folder)
    return run


def _write(place: Path, run: Run) -> None:
    record = {"owner": asdict(run.owner), "processes": [asdict(process) for process in run.processes]}
    partial = place / f".{RECORD}"
    partial.write_text(json.dumps(record))
    partial.replace(place / RECORD)


def recorded() -> Iterator[Run]:
    """Yield the runs that have a record, alive or dead."""
    for path in sorted(folder().glob(f"*/{RECORD}")):
        with contextlib.suppress(FileNotFoundError):  # it ends while we look
            record = json.loads(path.read_text())
            processes = [Process(**process) for process in record["processes"]]
            yield Run(path.parent, Process(**record["owner"]), processes)


def clean() -> list[str]:
    """Remove what runs have left whose owner is dead; returns their names.

    Labs that begin at the same time do it one after the other: two cannot remove the same things.
    """
    removed = []
    with kept.only_one(folder(), CLEAN_TIMEOUT_S):
        for run in recorded():
            if not run.owner.alive and not run.folder.name.startswith("."):
                say(f"removing what the killed run {run.folder.name} has left")
                run.remove()
                removed.append(run.folder.name)
        for partial in folder().glob(".partial-*"):
            if time.time() - partial.stat().st_mtime > END_TIMEOUT_S:
                shutil.rmtree(partial, ignore_errors=True)
    return removed
