"""The process that updates the operating system: `python -m kvmagent.os_update.worker [--detach] DIRECTORY`.

It is no part of the agent's life: an update may restart the agent, or replace what it runs on. What is to be
done is in the directory, and so is what comes of it: `order.json`, `before.json`, `progress.json`, `log`,
`result.json`; who works there holds `lock`. Begun again after it was killed, it mends what was left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from agentkit.errors import ErrorBody, HardpointError
from agentkit.files import write_durably
from agentkit.locks import take
from kvmagent.machine.programs import below_root, find_program
from kvmagent.machine.tree import Tree
from kvmagent.os_update.managers import (
    LOCK_WAIT_S,
    PackageManager,
    Step,
    Versions,
    changes,
    find_manager,
    reboot_reason,
)
from kvmagent.protocol import OsUpdateProgress, OsUpdateReply

ORDER, BEFORE, PROGRESS, LOG, RESULT, LOCK, PREFERENCES = (
    "order.json",
    "before.json",
    "progress.json",
    "log",
    "result.json",
    "lock",
    "preferences",
)
LIST_TIMEOUT_S = 300.0
LOCK_PAUSE_S = 2.0
_KEPT_LINES = 400
_SHOWN_LINES = 5


class Order(msgspec.Struct, rename="camel"):
    """What is to be done: the machine below `root` is updated without the excluded packages."""

    root: str
    exclude_packages: list[str]


class Result(msgspec.Struct, rename="camel", omit_defaults=True):
    """What came of it: one of the two."""

    reply: OsUpdateReply | None = None
    error: ErrorBody | None = None


def main(argv: Sequence[str]) -> int:
    """Do the work, or, with `--detach`, leave it to a process that has no parent."""
    directory = Path(argv[-1])
    os.umask(0o077)
    if "--detach" in argv and not _detach(directory):
        return 0
    with (directory / LOCK).open("ab") as lock:
        if not take(lock):
            return 0  # another one is at work
        if not (directory / RESULT).exists():
            write_durably(directory / RESULT, msgspec.json.encode(_work(directory)))
    return 0


def _detach(directory: Path) -> bool:
    """Return True in a process of its own session that writes to the log; False in the caller's."""
    if os.fork():
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, descriptor)
    return True


def _work(directory: Path) -> Result:
    try:
        order = msgspec.json.decode((directory / ORDER).read_bytes(), type=Order)
        with (directory / LOG).open("ab", buffering=0) as log:
            return Result(reply=Update(directory, order, log).run())
    except HardpointError as error:
        return Result(error=error.to_body())
    except (OSError, msgspec.DecodeError) as error:
        details = f"the update in {directory} could not be worked on: {error}"
        remedy = "see that the agent's state directory is writable and has space"
        return Result(error=HardpointError("SYS.1000", "Internal error", details, remedy=remedy).to_body())


class Update:
    """One update, from the list of what is installed to the answer."""

    def __init__(self, directory: Path, order: Order, log: IO[bytes]) -> None:
        self._directory = directory
        self._order = order
        self._log = log
        self._tree = Tree(order.root)
        self._percent = -1

    def run(self) -> OsUpdateReply:
        """Do all of it. Raises HardpointError (SYS.1006) when a command fails, SYS.1014 for no manager."""
        manager = find_manager(self._tree)
        if manager is None:
            raise HardpointError(
                "SYS.1014",
                "Not supported",
                "the host has neither apt nor dnf nor yum",
                remedy="update the host by the means of its distribution",
            )
        before = self._before(manager)
        exclude, preferences = self._order.exclude_packages, self._directory / PREFERENCES
        preferences.write_text(manager.preferences(self._tree, exclude))
        begun = 0
        for step in manager.steps(exclude, str(preferences)):
            self._report(step.phase, begun)
            self._run(manager, step, begun)
            begun = step.done
        self._report("check", begun)
        packages = changes(before, self._list(manager))
        reason = reboot_reason(self._tree, restart_advised=self._restart_advised())
        self._report("", 100)
        return OsUpdateReply(
            manager=manager.name, packages=packages, reboot_needed=reason is not None, reboot_reason=reason
        )

    def _before(self, manager: PackageManager) -> Versions:
        """Return what was installed when the update was begun for the first time."""
        file = self._directory / BEFORE
        if not file.exists():
            write_durably(file, msgspec.json.encode(self._list(manager)))
        return msgspec.json.decode(file.read_bytes(), type=Versions)

    def _list(self, manager: PackageManager) -> Versions:
        program, *words = manager.list_argv()
        argv = [below_root(self._tree, program), *words]
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._environment(manager),
            timeout=LIST_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise _failed(argv, done.returncode, done.stderr.decode(errors="replace").splitlines())
        return manager.versions(done.stdout.decode(errors="replace"))

    def _run(self, manager: PackageManager, step: Step, begun: int) -> None:
        """Run a step, again while another process has the manager's lock."""
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            code, lines = self._once(manager, step, begun)
            if code == 0:
                return
            locked = step.waits_for_lock and manager.is_locked("\n".join(lines))
            if not locked or time.monotonic() > deadline:
                raise _failed(step.argv, code, lines)
            time.sleep(LOCK_PAUSE_S)

    def _once(self, manager: PackageManager, step: Step, begun: int) -> tuple[int, list[str]]:
        """Run a command into the log; return its exit code and its last lines."""
        program, *words = step.argv
        lines: list[str] = []
        process = subprocess.Popen(
            [below_root(self._tree, program), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(manager),
            cwd="/",
            umask=0o022,  # what is installed is for all
        )
        with process, process.stdout or open(os.devnull, "rb") as output:  # noqa: PTH123 it is never None
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                share = manager.percent(line)
                if share is not None:
                    self._report(step.phase, begun + int((step.done - begun) * min(share, 100) / 100))
                if not manager.is_noise(line):
                    self._log.write(raw)
                    lines = [*lines[-_KEPT_LINES:], line]
        return process.returncode, lines

    def _restart_advised(self) -> bool:
        """Ask the distribution's own tool, which answers 1 when a reboot is needed."""
        program = find_program(self._tree, "needs-restarting")
        if program is None:
            return False
        argv = [below_root(self._tree, program), "-r"]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIST_TIMEOUT_S, check=False
        )
        return done.returncode == 1

    def _report(self, phase: str, percent: int) -> None:
        """Write how far it is; who reads it sees the old or the new, and a power cut may lose it."""
        if percent <= self._percent:
            return
        self._percent = percent
        file = self._directory / PROGRESS
        fresh = file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(OsUpdateProgress(phase=phase, percent=percent)))
        fresh.replace(file)

    def _environment(self, manager: PackageManager) -> dict[str, str]:
        own = {} if self._tree.live else {"HARDPOINT_ROOT": self._tree.root}
        return {**os.environ, "LC_ALL": "C", **manager.environment, **own}


def _failed(argv: Sequence[str], code: int, lines: Sequence[str]) -> HardpointError:
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith(("E:", "Error", "error:", "dpkg: error"))]
    told = " | ".join((errors or said)[-_SHOWN_LINES:])[-2000:]
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"`{argv[0].rpartition('/')[2]} {argv[-1]}` failed: {ended}{': ' + told if told else ''}",
        remedy="see the update's log on the host, mend what it says and update again",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
