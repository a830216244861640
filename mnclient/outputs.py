"""Long outputs of scripts, fetched into a file: by ranges, and under the file's own name only when whole.

What has come lies beside it, `.<name>.<digest>.part`; the next fetch of the same output goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mnclient.errors import (
    ErrorCode,
    HardpointClientError,
    NoAnswerError,
    NotLoggedInError,
    OperationError,
    RequestError,
)
from mnclient.protocol import FIRST_PAUSE_S, PAUSE_GROWTH, Options, Progress, Request
from mnclient.transport import Incoming, Transport

NOT_FOUND = "SYS.1003"
OK, PARTIAL, NOT_SATISFIABLE = 200, 206, 416

_LOCATION = re.compile(
    r"(?:https?://[^/]+)?(?:/[^/]+)?/v1"
    r"(?P<path>/hosts/kvm/shell-outputs/(?P<job>[0-9a-z]{1,64})/(?P<host>[0-9a-z]{1,64})/(?P<stream>stdout|stderr))"
)
_RANGE = re.compile(r"bytes (?:(?P<begin>\d+)-\d+|\*)/(?P<total>\d+)")


@dataclass(frozen=True)
class Output:
    """A stream that a script printed; `path` is where it is below the API's version."""

    path: str
    job_uuid: str
    host_uuid: str
    stream: str

    @classmethod
    def at(cls, location: str) -> Output:
        """Return what a `stdoutLocation` or `stderrLocation` is the location of. Raises RequestError."""
        found = _LOCATION.fullmatch(location)
        if found is None:
            raise RequestError(
                f"'{location}' is no location of a script's output: give the stdoutLocation or "
                "stderrLocation of a reply of KvmRunShell"
            )
        return cls(found["path"], found["job"], found["host"], found["stream"])

    @property
    def name(self) -> str:
        """What its file is called unless somebody says otherwise."""
        return f"{self.host_uuid}.{self.stream}"


def fetch(transport: Transport, output: Output, target: Path, options: Options) -> Path:
    """Fetch an output into a file (into a folder: under its own name); return the file, mode 0600.

    A node that breaks off is asked for the rest as long as the options say. Raises RequestError for a target
    that cannot be, OperationError, NoAnswerError, NotLoggedInError.
    """
    if not options.session:
        raise NotLoggedInError("to fetch a script's output needs a session")
    if target.is_dir():
        target /= output.name
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise RequestError(f"{target} is no plain file, it is not replaced: give the name of another one")
    source = hashlib.sha256(output.path.encode()).hexdigest()[:16]
    part = target.with_name(f".{target.name[:200]}.{source}.part")
    try:
        with _own(part) as file:
            try:
                _fetch(transport, output, file, options)
            except BaseException:
                if not file.tell():
                    part.unlink(missing_ok=True)
                raise
            part.replace(target)
    except HardpointClientError:
        raise
    except OSError as error:
        raise HardpointClientError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def _fetch(transport: Transport, output: Output, file: BinaryIO, options: Options) -> None:
    """Make a file whole and safe on its disk."""
    file.seek(0, os.SEEK_END)
    try:
        _fill(transport, output, file, options)
    except NoAnswerError as error:
        kept = f"{error}; {file.tell()} bytes are kept, fetch it again to go on from there"
        raise NoAnswerError(kept, sent=error.sent) from error
    except OperationError as error:
        if error.error.code == NOT_FOUND:  # nobody can complete it
            _restart(file)
        raise
    file.flush()
    os.fsync(file.fileno())


def _own(part: Path) -> BinaryIO:
    """Open what has come so far for this process alone; a file that got its name meanwhile is not touched."""
    while True:
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RequestError(f"{part} cannot be written: {error.strerror}") from error
        file = os.fdopen(descriptor, "r+b")
        try:
            _lock(file, part)
            if part.exists() and os.path.samestat(os.fstat(descriptor), part.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: BinaryIO, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RequestError(f"another process fetches into {part}: wait for it") from error


def _fill(transport: Transport, output: Output, file: BinaryIO, options: Options) -> None:
    """Append what is missing."""
    heard, pause = None, FIRST_PAUSE_S
    while True:
        had = file.tell()
        try:
            if _append(transport, output, file, options):
                return
            heard = time.monotonic()
        except NoAnswerError as error:
            if error.sent and (heard is None or file.tell() > had):
                heard, pause = time.monotonic(), FIRST_PAUSE_S
            if heard is None or time.monotonic() - heard > options.outage_s:
                raise
            time.sleep(pause)
            pause = min(pause * PAUSE_GROWTH, options.poll_s)


def _append(transport: Transport, output: Output, file: BinaryIO, options: Options) -> bool:
    """Ask once for what is missing and append it; False when it must be fetched from the beginning."""
    had = file.tell()
    headers = {"Authorization": f"OAuth {options.session}"}
    if had:
        headers["Range"] = f"bytes={had}-"
    with transport.opened(Request("GET", options.prefix + output.path, headers)) as reply:
        begin, total = _extent(reply.headers)
        if had and reply.status == NOT_SATISFIABLE:
            if total != had:
                _restart(file)
            return total == had
        if reply.status != OK and not (reply.status == PARTIAL and begin == had):
            raise OperationError(ErrorCode.parse(reply.body(), reply.status))
        if reply.status == OK:
            _restart(file)
        _take(reply, output, file, total or reply.length, options)
    return True


def _take(reply: Incoming, output: Output, file: BinaryIO, total: int, options: Options) -> None:
    for piece in reply.pieces():
        file.write(piece)
        if options.on_progress:
            done = file.tell()
            text = f"{done} of {total} bytes"
            options.on_progress(Progress(output.job_uuid, 100 * done // max(total, 1), text))


def _restart(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _extent(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return where a range begins and how long the whole is, None for what is not told."""
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    if found is None:
        return None, None
    return int(found["begin"]) if found["begin"] else None, int(found["total"])
