"""The task journal on disk: what was asked and what came of it, each durable before anybody is told.

A task is one file, `<directory>/<uuid>.json`. It is written when the task is accepted and replaced as a whole
when the result is known, so that no crash can leave the two halves disagreeing. Results stay until the caller
says that it has them, at most `KEEP_S`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.files import TMP_SUFFIX, remove_durably, write_durably
from agentkit.wire import TaskReport, TaskState

log = logging.getLogger(__name__)
T = TypeVar("T")

KEEP_S = 7 * 24 * 3600.0
QUARANTINE_MAX = 100
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")
_WRITERS = 2


class Entry(msgspec.Struct, rename="camel", omit_defaults=True):
    """A task's file. `body` is there until `report` is, so that no secret of a request outlives it.

    `started` is false while the task waits for its turn: it has done nothing yet and may run after a crash.
    """

    uuid: str
    digest: str
    accepted: float
    started: bool = True
    finished: float | None = None
    body: Any = None
    report: TaskReport | None = None


@dataclass
class _Known:
    digest: str
    finished: float | None


class Journal:
    """The tasks of one agent on disk; its coroutines do the disk's work in `threads`, else in its own."""

    def __init__(
        self, directory: Path, *, clock: Callable[[], float] = time.time, threads: Executor | None = None
    ) -> None:
        self._directory = directory
        self._quarantine = directory / "quarantine"
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._own = ThreadPoolExecutor(_WRITERS, thread_name_prefix="journal") if threads is None else None
        self._threads = threads or self._own

    async def open(self) -> list[Entry]:
        """Read the journal and return the tasks without a result, oldest first.

        Unreadable files go to `quarantine/`, with a log line each; results that are too old are removed.
        """
        entries = await self._in_thread(self._load)
        for entry in entries:
            self._known[entry.uuid] = _Known(entry.digest, entry.finished)
        return sorted((entry for entry in entries if entry.report is None), key=lambda entry: entry.accepted)

    def close(self) -> None:
        """Let the writes under way finish and end the threads, where they are its own."""
        if self._own is not None:
            self._own.shutdown(wait=True)

    def knows(self, uuid: str) -> bool:
        """Say whether there is a task `uuid`."""
        return uuid in self._known

    def check_same(self, uuid: str, digest: str) -> None:
        """Raise HardpointError (SYS.1006) when the known task `uuid` was asked for with another body."""
        if self._known[uuid].digest != digest:
            details = f"task {uuid} was given to this agent before, with another body"
            remedy = "use a new uuid for a new task"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)

    async def accept(self, uuid: str, digest: str, body: bytes, *, started: bool) -> Entry:
        """Keep a new task; durable on return. Raises OSError when the disk refuses."""
        entry = Entry(uuid, digest, self._clock(), started, body=msgspec.json.decode(body))
        self._known[uuid] = _Known(digest, None)
        try:
            await self._in_thread(self._write, entry)
        except BaseException:
            self._known.pop(uuid, None)
            raise
        return entry

    async def start(self, entry: Entry) -> None:
        """Note that a task that waited for its turn begins; durable on return."""
        if not entry.started:
            entry.started = True
            await self._in_thread(self._write, entry)

    async def finish(self, entry: Entry, report: TaskReport) -> None:
        """Keep the result of a task; durable on return. Raises OSError when the disk refuses."""
        now = self._clock()
        done = Entry(entry.uuid, entry.digest, entry.accepted, finished=now, report=report)
        await self._in_thread(self._write, done)
        self._known[entry.uuid].finished = now

    async def report(self, uuid: str) -> TaskReport | None:
        """Return a task's report, `Running` while it has no result, None when unknown or its file is bad."""
        if uuid not in self._known:
            return None
        entry = await self._in_thread(self._read, self._path(uuid))
        if entry is None:
            self._known.pop(uuid, None)
            return None
        return entry.report or TaskReport(uuid=uuid, state=TaskState.RUNNING)

    async def forget(self, uuid: str) -> None:
        """Remove a finished task, durably; nothing to do when it is unknown."""
        if uuid in self._known:
            await self._in_thread(remove_durably, self._path(uuid))
            self._known.pop(uuid, None)

    async def prune(self) -> int:
        """Forget results older than `KEEP_S` and return how many."""
        limit = self._clock() - KEEP_S
        old = [
            uuid
            for uuid, known in self._known.items()
            if known.finished is not None and known.finished < limit
        ]
        for uuid in old:
            await self.forget(uuid)
        if old:
            log.info("results that nobody fetched are forgotten", extra={"tasks": len(old)})
        return len(old)

    def _path(self, uuid: str) -> Path:
        return self._directory / f"{uuid}.json"

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _write(self, entry: Entry) -> None:
        write_durably(self._path(entry.uuid), msgspec.json.encode(entry))

    def _load(self) -> list[Entry]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._directory.glob(f"*{TMP_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        limit = self._clock() - KEEP_S
        entries = []
        for path in sorted(self._directory.glob("*.json")):
            entry = self._read(path)
            if entry is not None and entry.finished is not None and entry.finished < limit:
                path.unlink(missing_ok=True)
            elif entry is not None:
                entry.report = entry.report and TaskReport(uuid=entry.uuid, state=entry.report.state)
                entries.append(entry)
        return entries

    def _read(self, path: Path) -> Entry | None:
        """Return what `path` holds; None, with the file put aside, when that is no entry of that name."""
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
            if entry.uuid != path.stem or not valid_uuid(entry.uuid):
                raise msgspec.ValidationError(f"it holds task {entry.uuid}")
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
            self._put_aside(path, str(error))
            return None
        return entry

    def _put_aside(self, path: Path, reason: str) -> None:
        log.error("task file unreadable, put aside", extra={"file": str(path), "reason": reason})
        try:
            self._quarantine.mkdir(mode=0o700, exist_ok=True)
            path.replace(self._quarantine / path.name)
            aside = sorted(self._quarantine.iterdir(), key=lambda file: file.stat().st_mtime)
            for file in aside[:-QUARANTINE_MAX]:
                file.unlink(missing_ok=True)
        except OSError as error:
            log.error("it cannot be put aside", extra={"file": str(path), "reason": str(error)})  # noqa: TRY400


def valid_uuid(text: str) -> bool:
    """Say whether `text` is a uuid in lower case, with or without dashes."""
    return _UUID.fullmatch(text) is not None


def body_digest(body: bytes) -> str:
    """Return the SHA-256 of a JSON document, the same however it is spaced and its keys are ordered.

    Raises msgspec.DecodeError when it is no JSON.
    """
    canonical = msgspec.json.encode(msgspec.json.decode(body), order="deterministic")
    return hashlib.sha256(canonical).hexdigest()


def succeeded(uuid: str, result: Any) -> TaskReport:
    """Return the report of a task that did what it should."""
    return TaskReport(uuid=uuid, state=TaskState.SUCCEEDED, result=result)


def failed(uuid: str, error: HardpointError) -> TaskReport:
    """Return the report of a task that failed."""
    return TaskReport(uuid=uuid, state=TaskState.FAILED, error=error.to_body())
