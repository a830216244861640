"""Folders of a cache that are whole or not there: made beside and renamed, shared, the oldest removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.places import LabError, say

IN_USE = "used"  # who uses a folder holds a shared lock on this file in it


@contextlib.contextmanager
def only_one(parent: Path, timeout_s: float) -> Iterator[None]:
    """Be the only one, of all processes, that makes a folder in `parent`."""
    with (parent / "lock").open("w") as file:
        deadline = time.monotonic() + timeout_s
        told = False
        while not _locked(file.fileno(), fcntl.LOCK_EX):
            if not told:
                say(f"another process is at work in {parent}; waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise LabError(f"another process did not end its work in {timeout_s:g} s: {parent}")
            time.sleep(0.2)
        yield


@contextlib.contextmanager
def made(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block ends well, and vanishes when it does not.

    For the holder of `only_one`: what killed processes have left is removed.
    """
    for leftover in folder.parent.glob("partial-*"):
        shutil.rmtree(leftover)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep a folder from `remove_old`; a process that dies lets go."""
    with (folder / IN_USE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(folder)
        yield


def remove_old(parent: Path, keep: int) -> None:
    """Remove all folders but the `keep` that were used last, and those that are in use."""
    folders = [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("partial-")]
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]:
        with (folder / IN_USE).open("w") as file:
            if _locked(file.fileno(), fcntl.LOCK_EX):
                shutil.rmtree(folder)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
