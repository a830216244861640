"""Contents of RBD images as they flow through `rbd`; standard library only, as `worker`.

An image is named as qemu-img takes it, `rbd:pool/image:id=user:conf=file`.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
import tempfile
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, Self

from kvmagent.storage.probe import RefusedError

_CHUNK = 1024 * 1024
_WATCHED_S, _PAUSE_S = 60.0, 2.0
"""So long a process that was killed keeps an image from being removed, at most."""
_SAID_BYTES = 2000


def rbd_argv(path: str, before: list[str], after: list[str]) -> list[str]:
    """Return a command of `rbd` with an image between its words; it dies with this process."""
    image, user, configuration = path.removeprefix("rbd:").split(":", 2)
    client = ["-c", configuration.removeprefix("conf="), "--id", user.removeprefix("id=")]
    return ["setpriv", "--pdeathsig", "KILL", "rbd", *client, *before, image, *after]


def chunks(path: str, offset: int, length: int | None) -> Iterator[bytes]:
    """Yield what an RBD image holds from `offset` on; of its first `length` bytes where that is given.

    It is read from its beginning: `rbd export` cannot do otherwise. Raises RefusedError.
    """
    with tempfile.TemporaryFile() as said:
        argv = rbd_argv(path, ["export", "--no-progress"], ["-"])
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        output: IO[bytes] = process.stdout  # type: ignore[assignment]
        at = 0
        try:
            while chunk := output.read(_CHUNK if length is None else max(0, min(_CHUNK, length - at))):
                begin = max(0, offset - at)
                at += len(chunk)
                if begin < len(chunk):
                    yield chunk[begin:]
            if length is None or at < length:
                _check(process.wait(), said, "read", path)
        finally:
            _end(process)


class RbdWriter:
    """An RBD image that is written from its beginning, `SparseWriter` for images; zeros take no room."""

    length = 0
    """What has been written by a process before cannot be gone on with."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        try:
            if process is not None and error is None:
                _input(process).close()
                _check(process.wait(), self._said, "written", self._path)
        finally:
            if process is not None:
                _end(process)
            self._said.close()

    def read(self, offset: int, length: int) -> bytes:
        """There is nothing before the beginning."""
        return b""

    def begin(self, offset: int) -> None:
        """Begin anew: what is there of the image goes."""
        if self._process is not None:
            _end(self._process)
        argv, until = rbd_argv(self._path, ["rm", "--no-progress"], []), time.monotonic() + _WATCHED_S
        while (done := subprocess.run(argv, capture_output=True, check=False)).returncode == errno.EBUSY:
            if time.monotonic() > until:
                break
            time.sleep(_PAUSE_S)
        if done.returncode not in (0, errno.ENOENT):
            self._said.write(done.stderr)
            _check(done.returncode, self._said, "begun anew", self._path)
        self._process = subprocess.Popen(
            rbd_argv(self._path, ["import", "--no-progress", "-"], []),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        process: Any = self._process
        try:
            _input(process).write(chunk)
        except BrokenPipeError:
            with contextlib.suppress(BrokenPipeError):
                _input(process).close()
            _check(process.wait() or -1, self._said, "written", self._path)


def _input(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdin is None:
        raise AssertionError("rbd has no input")
    return process.stdin


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _check(code: int, said: IO[bytes], what: str, path: str) -> None:
    if code == 0:
        return
    said.seek(0)
    lines = said.read()[-_SAID_BYTES:].decode(errors="replace").splitlines()
    name = path.removeprefix("rbd:").partition(":")[0]
    reason = " | ".join(lines[-3:]) or f"exit code {code}"
    raise RefusedError(f"the RBD image {name} cannot be {what}: {reason}")
