"""The agent's side of an update: begins the process that does it, or finds it, and waits for its result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import time
from pathlib import Path

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.files import write_durably
from agentkit.journal import valid_uuid
from agentkit.locks import content_if_taken
from agentkit.runner import CommandError, Runner
from kvmagent.os_update.worker import LOCK, LOG, ORDER, PROGRESS, RESULT, Order, Result
from kvmagent.protocol import OsUpdateProgress, OsUpdateReply, UpdateOs

log = logging.getLogger(__name__)

FOLDER = "os-updates"
STARTS = "starts"
STARTS_MAX = 5
"""An update whose process died so often, be it with the machine, is given up."""
START_TIMEOUT_S = 60.0
POLL_S = 0.25
LIMIT_S = 23 * 3600
KEEP_S = 90 * 24 * 3600.0
UNIT = "hardpoint-os-update-"


class OsUpdates:
    """The updates of the machine below `root`; their folders are in the agent's state directory."""

    def __init__(self, root: Path, state_dir: Path, runner: Runner) -> None:
        self._root = root
        self._folder = state_dir / FOLDER
        self._runner = runner

    async def run(self, command: UpdateOs) -> OsUpdateReply:
        """Begin the update unless it was, follow it to its end, return what it did. Raises its error.

        Cancelled, it leaves the update alone: the next call finds it where it is then.
        """
        directory = self._directory(command.update_uuid)
        await asyncio.to_thread(self._prepare, directory, command)
        while True:
            result = await asyncio.to_thread(_result, directory)
            if result is not None:
                return _settled(result)
            if not await asyncio.to_thread(_is_at_work, directory):
                # It may have ended between the two looks.
                result = await asyncio.to_thread(_result, directory)
                if result is not None:
                    return _settled(result)
                await self._start(directory)
            await asyncio.sleep(POLL_S)

    async def progress(self, update_uuid: str) -> OsUpdateProgress:
        """Return how far an update is."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            raw = await asyncio.to_thread((self._directory(update_uuid) / PROGRESS).read_bytes)
            return msgspec.json.decode(raw, type=OsUpdateProgress)
        return OsUpdateProgress(phase="", percent=0)

    def _directory(self, update_uuid: str) -> Path:
        if not valid_uuid(update_uuid):
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"updateUuid '{update_uuid[:80]}' is no uuid",
                remedy="give 32 lower-case hex digits",
                blame=Blame.CALLER,
            )
        return self._folder / update_uuid

    def _prepare(self, directory: Path, command: UpdateOs) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            if old != directory and old.stat().st_mtime < time.time() - KEEP_S:
                shutil.rmtree(old, ignore_errors=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        if not (directory / ORDER).exists():
            order = Order(str(self._root), command.exclude_packages)
            write_durably(directory / ORDER, msgspec.json.encode(order))

    async def _start(self, directory: Path) -> None:
        """Start the process and return when it is at work, or has ended already."""
        starts = await asyncio.to_thread(_count_start, directory)
        if starts > STARTS_MAX:
            raise HardpointError(
                "SYS.1006",
                "Operation failed",
                f"the process that updates the host has died {STARTS_MAX} times before its end",
                remedy=f"see {directory / LOG} and the host's system log",
            )
        log.info("operating system update begun", extra={"update": directory.name, "start": starts})
        argv = [sys.executable, "-m", "kvmagent.os_update.worker"]
        try:
            if self._has_systemd():
                completed = await self._runner.run(_unit(directory, argv), timeout_s=START_TIMEOUT_S)
            else:
                completed = await self._runner.run(
                    [*argv, "--detach", str(directory)], timeout_s=START_TIMEOUT_S
                )
            completed.check()
        except CommandError:
            if not await _until_at_work(directory, POLL_S):
                raise
        await _until_at_work(directory, START_TIMEOUT_S)

    def _has_systemd(self) -> bool:
        return self._root == Path("/") and Path("/run/systemd/system").is_dir()


def _unit(directory: Path, argv: list[str]) -> list[str]:
    """Return how systemd is asked for a unit of its own: outside the agent's sandbox and its restarts."""
    path = os.environ.get("PYTHONPATH")
    return [
        "systemd-run",
        f"--unit={UNIT}{directory.name}",
        "--collect",
        "--quiet",
        "--property=Type=exec",
        f"--property=RuntimeMaxSec={LIMIT_S}",
        f"--property=StandardError=append:{directory / LOG}",
        "--description=Hardpoint: update of the operating system",
        *([f"--setenv=PYTHONPATH={path}"] if path else []),
        *argv,
        str(directory),
    ]


async def _until_at_work(directory: Path, limit_s: float) -> bool:
    """Wait until somebody works there or has done so; False when nobody does in time."""
    deadline = time.monotonic() + limit_s
    while not await asyncio.to_thread(_is_begun, directory):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _is_begun(directory: Path) -> bool:
    return (directory / RESULT).exists() or _is_at_work(directory)


def _is_at_work(directory: Path) -> bool:
    """Say whether a process holds the folder's lock."""
    return content_if_taken(directory / LOCK) is not None


def _count_start(directory: Path) -> int:
    file = directory / STARTS
    count = int(file.read_bytes()) + 1 if file.exists() else 1
    write_durably(file, str(count).encode())
    return count


def _result(directory: Path) -> Result | None:
    try:
        return msgspec.json.decode((directory / RESULT).read_bytes(), type=Result)
    except FileNotFoundError:
        return None


def _settled(result: Result) -> OsUpdateReply:
    if result.reply is not None:
        return result.reply
    if result.error is not None:
        raise HardpointError.from_body(result.error)
    raise AssertionError("a result holds one of the two")
