"""What scripts print beyond the cap of a reply, kept in private files of the management node.

`<directory>/<job uuid>/<host uuid>.<stdout|stderr>`, folders of mode 0700 and files of mode 0600. All file
operations are done by one thread, in their order, so that a slow disk holds up neither the event loop nor
the accounts of what is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

_log = logging.getLogger(__name__)

Stream = Literal["stdout", "stderr"]
T = TypeVar("T")

_NAME = re.compile(r"[0-9a-z]{1,64}")


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """Bytes kept of one stream and in all, number of jobs, and bytes that the file system must have left."""

    file_bytes: int
    total_bytes: int
    jobs: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of a stream is in its file; `error` says why there is no file, empty when there is one."""

    length: int
    error: str = ""


class OutputFile:
    """One stream on its way to its file. `on_room` is called each time that something has been written."""

    def __init__(self, store: OutputStore, path: Path, on_room: Callable[[], None]) -> None:
        self._store = store
        self._on_room = on_room
        self._pieces: list[bytes] = []
        self._writer: asyncio.Task[None] | None = None
        self.path = path
        self.descriptor: int | None = None
        self.length = 0
        self.error = ""
        self.closed = False
        self.pending = 0
        """Bytes that were taken and are not in the file yet."""

    def feed(self, data: bytes) -> None:
        """Take the next piece; returns at once."""
        if self.error or self.closed:
            return
        self._pieces.append(data)
        self.pending += len(data)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def finish(self) -> Kept:
        """Return what the file holds, once it holds all that was fed."""
        if self._writer is not None:
            await self._writer
        await self._store.do(self._store.close_file, self)
        return Kept(self.length, self.error)

    def abandon(self) -> None:
        """Close the file with what is in it; what is pending is dropped. Returns at once."""
        self.closed = True
        self._store.later(self._store.close_file, self)

    async def _write(self) -> None:
        while self._pieces and not self.closed:
            data = b"".join(self._pieces)
            self._pieces.clear()
            await self._store.do(self._store.write, self, data)
            self.pending -= len(data)
            self._on_room()
        if self._pieces:  # closed meanwhile: what came since is for nobody
            self.pending -= sum(map(len, self._pieces))
            self._pieces.clear()
            self._on_room()
        self._writer = None


class OutputStore:
    """The files of one folder. The oldest jobs' files make room for new ones, those being written never."""

    def __init__(self, directory: Path, limits: OutputLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outputs")
        self._used: dict[str, int] = {}  # bytes by job, oldest first
        self._total = 0
        self._writing: Counter[str] = Counter()
        self._thread.submit(self._take_stock)

    async def do(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function on the store's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def later(self, function: Callable[..., object], *arguments: object) -> None:
        """Have a function called on the store's thread."""
        self._thread.submit(function, *arguments)

    def close(self) -> None:
        """Return when all that was asked for is done."""
        self._thread.shutdown()

    def file(self, job: str, host: str, stream: Stream, on_room: Callable[[], None]) -> OutputFile:
        """Return a file that begins to exist with its first piece."""
        return OutputFile(self, self._path(job, host, stream), on_room)

    async def find(self, job: str, host: str, stream: Stream) -> Path | None:
        """Return the file of a stream, None when there is none."""
        path = self._path(job, host, stream)
        return path if await self.do(path.is_file) else None

    async def jobs(self) -> list[str]:
        """Return the uuids of the jobs that have files."""
        return list(await self.do(lambda: list(self._used)))

    async def remove(self, jobs: Collection[str]) -> None:
        """Remove the files of some jobs, of those that are not being written."""
        await self.do(self._remove_all, jobs)

    def _path(self, job: str, host: str, stream: Stream) -> Path:
        if not (_NAME.fullmatch(job) and _NAME.fullmatch(host) and stream in ("stdout", "stderr")):
            raise ValueError(job, host, stream)
        return self._directory / job / f"{host}.{stream}"

    # What follows runs on the store's thread.

    def write(self, file: OutputFile, data: bytes) -> None:
        """Append to a file as far as the limits allow. An error of the system is kept in the file."""
        if file.error or file.closed:
            return
        data = data[: self._limits.file_bytes - file.length]
        job = file.path.parent.name
        try:
            if file.descriptor is None:
                file.descriptor = self._open(file.path)
                self._writing[job] += 1
            self._make_room(file.descriptor, job, len(data))
            for piece in _written(file.descriptor, data):
                file.length += piece
                self._add(job, piece)
        except OSError as error:
            file.error = error.strerror or str(error)
            _log.warning("output of a script cannot be kept", extra={"job": job, "reason": file.error})
            self.close_file(file)
            self._discard(file, job)

    def close_file(self, file: OutputFile) -> None:
        """Close a file for good; nothing happens when it is closed."""
        file.closed = True
        if file.descriptor is not None:
            os.close(file.descriptor)
            file.descriptor = None
            self._writing[file.path.parent.name] -= 1

    def _discard(self, file: OutputFile, job: str) -> None:
        """Give the space of a file back: what it holds is in no reply's words."""
        with contextlib.suppress(OSError):
            file.path.unlink(missing_ok=True)
        self._add(job, -file.length)
        file.length = 0

    def _add(self, job: str, length: int) -> None:
        self._used[job] = self._used.get(job, 0) + length
        self._total += length

    def _open(self, path: Path) -> int:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._used.setdefault(path.parent.name, 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def _make_room(self, descriptor: int, job: str, length: int) -> None:
        """Remove the oldest files until `length` more bytes fit; raises OSError when they cannot."""
        lack = self._lack(descriptor, length)
        for oldest in [old for old in self._used if old != job and not self._writing[old]] if lack else []:
            self._remove(oldest)
            lack = self._lack(descriptor, length)
            if lack is None:
                break
        if lack is not None:
            raise lack

    def _lack(self, descriptor: int, length: int) -> OSError | None:
        limits = self._limits
        if self._total + length > limits.total_bytes:
            return OSError(errno.EDQUOT, f"shell_files_bytes ({limits.total_bytes}) would be exceeded")
        if len(self._used) > limits.jobs:
            return OSError(errno.EDQUOT, f"shell_files_jobs ({limits.jobs}) would be exceeded")
        free = os.fstatvfs(descriptor)
        if limits.free_bytes and free.f_bavail * free.f_frsize < limits.free_bytes + length:
            left = f"less than shell_files_free_bytes ({limits.free_bytes}) would be left free"
            return OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {left}")
        return None

    def _remove_all(self, jobs: Collection[str]) -> None:
        for job in jobs:
            if not self._writing[job]:
                self._remove(job)

    def _remove(self, job: str) -> None:
        shutil.rmtree(self._directory / job, ignore_errors=True)
        self._total -= self._used.pop(job, 0)

    def _take_stock(self) -> None:
        """Find what an earlier process left."""
        with contextlib.suppress(OSError):
            found = [entry for entry in self._directory.iterdir() if _NAME.fullmatch(entry.name)]
            for folder in sorted(found, key=lambda entry: entry.stat().st_mtime):
                self._add(folder.name, sum(file.stat().st_size for file in folder.iterdir()))


def _written(descriptor: int, data: bytes) -> Iterator[int]:
    """Write all of `data`; yield the length of each piece that went in."""
    rest = memoryview(data)
    while rest:
        count = os.write(descriptor, rest)
        yield count
        rest = rest[count:]
