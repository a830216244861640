"""Writing a file with holes for zeros, or a block device; standard library only, as `worker`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)
_BEHIND = 4 * 1024 * 1024
"""A logical volume is up to so much larger than a raw image on it, whose VM is to see zeros there."""


RBD = "rbd:"
"""What names of RBD images begin with."""


class Writer(Protocol):
    """What contents are written to from some place on; `length` is what has been written before."""

    @property
    def length(self) -> int:
        """How many bytes there are that can be gone on with."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes that are there already."""

    def begin(self, offset: int) -> None:
        """Write from `offset` on; what is behind it goes."""

    def write(self, chunk: bytes) -> None:
        """Append bytes."""


def open_writer(path: str) -> Writer:
    """Return what writes a file, a block device or an RBD image."""
    if path.startswith(RBD):
        from kvmagent.storage.rbd_pipe import RbdWriter  # it takes long to import

        return RbdWriter(path)
    return SparseWriter(path)


class SparseWriter:
    """A file that this process alone writes, from some place on; zeros become holes.

    A block device holds what it held before: it is written from its beginning, zeros too, and a little
    behind.

    Somebody else who writes it is waited for: a worker whose agent was killed may not have noticed yet.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._at = 0
        self._is_device = stat.S_ISBLK(os.fstat(self._descriptor).st_mode)

    def __enter__(self) -> Self:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._end()
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    @property
    def length(self) -> int:
        """How many bytes have been written before; of a device that is not known."""
        return 0 if self._is_device else os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes that are there already."""
        return os.pread(self._descriptor, length, offset)

    def begin(self, offset: int) -> None:
        """Write from `offset` on; what is behind it goes."""
        if not self._is_device:
            os.ftruncate(self._descriptor, offset)
        self._at = offset

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        for start in range(0, len(chunk), _BLOCK):
            piece = chunk[start : start + _BLOCK]
            if self._is_device or piece != _ZEROS[: len(piece)]:
                self._put(piece, self._at)
            self._at += len(piece)
        # A file that is broken off has the length that has arrived, also where that ends with a hole.
        if not self._is_device:
            os.ftruncate(self._descriptor, max(self._at, self.length))
        os.lseek(self._descriptor, self._at, os.SEEK_SET)  # for `written`

    def _end(self) -> None:
        if not self._is_device:
            os.ftruncate(self._descriptor, self._at)
            return
        left = os.lseek(self._descriptor, 0, os.SEEK_END) - self._at
        for start in range(0, min(left, _BEHIND), _BLOCK):
            self._put(_ZEROS[: min(_BLOCK, left - start)], self._at + start)

    def _put(self, piece: bytes, offset: int) -> None:
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written


def written(path: str) -> int:
    """Return up to where a process has written a file or device; 0 when none has it open for that.

    A device does not tell it otherwise.
    """
    real, most = str(Path(path).resolve()), 0
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # of a process that has ended
            if str(descriptor.readlink()) == real:
                told = (descriptor.parents[1] / "fdinfo" / descriptor.name).read_text()
                lines = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
                if int(lines["flags"], 8) & os.O_ACCMODE != os.O_RDONLY:
                    most = max(most, int(lines["pos"]))
    return most
