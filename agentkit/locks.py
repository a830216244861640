"""Locks on files by flock: who takes one waits out those that only look whether it is free."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

LOOK_S = 2.0
"""Whoever looks holds the lock too, but never as long as this."""
_POLL_S = 0.04


def take(file: IO[bytes] | IO[str] | int) -> bool:
    """Lock a file for as long as it is open; return False when somebody else has the lock. Blocks."""
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def content_if_taken(path: Path) -> bytes | None:
    """Return what a file holds whose lock somebody has; None when nobody has it, or there is no file."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read()
    except FileNotFoundError:
        return None
    return None
