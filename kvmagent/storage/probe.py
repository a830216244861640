"""Looks at one storage: `probe.py ROOT UUID WRITES`, a script as it is run for each every few seconds.

Nothing is imported but what Python has built in: it is there in a fifth of a worker's time. It prints the
bytes of the file system and those that are available; with exit code 1 it prints why the storage is not the
one that it has to be.
"""

from __future__ import annotations

import errno
import os
import sys
import time

MARKERS = ".hardpoint"
FULL = (errno.ENOSPC, errno.EDQUOT)


class RefusedError(Exception):
    """An operation that found the storage other than it has to be."""


def capacity(root: str) -> dict[str, int]:
    """Return the bytes of the file system of a folder."""
    found = os.statvfs(root)
    return {"total": found.f_blocks * found.f_frsize, "available": found.f_bavail * found.f_frsize}


def write_synced(path: str, content: bytes) -> None:
    """Write a file and bring it to disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def probe(root: str, uuid: str, writes: str) -> dict[str, int]:
    """Make sure that the storage is the right one and takes writes, or is full; return its capacity."""
    try:
        os.stat(f"{root}/{MARKERS}/{uuid}")  # noqa: PTH116 - pathlib takes longer to import than all else here
    except FileNotFoundError:
        raise RefusedError(f"{root} lacks the marker {MARKERS}/{uuid}: is it mounted?") from None
    try:
        write_synced(f"{root}/{MARKERS}/{writes}", str(time.time()).encode())
    except OSError as error:
        if error.errno not in FULL:
            raise
    return capacity(root)


def main(root: str, uuid: str, writes: str) -> int:
    """Print what there is of a storage and return 0, or what is wrong and return 1."""
    try:
        found = probe(root, uuid, writes)
        wrong, said = False, f"{found['total']} {found['available']}"
    except RefusedError as error:
        wrong, said = True, str(error)
    except OSError as error:
        wrong, said = True, f"{error.filename or root}: {error.strerror or error}"
    sys.stdout.write(f"{said}\n")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
