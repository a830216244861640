"""Files that are either there in full or not at all, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

TMP_SUFFIX = ".tmp"


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` with `content`, on disk when this returns; blocks on the disk.

    A crash leaves the old file or the new one, and at worst `path` + `.tmp` beside it.
    """
    tmp = path.with_name(path.name + TMP_SUFFIX)
    descriptor = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    tmp.replace(path)
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Remove `path`, gone for good when this returns; nothing to do when it is absent. Blocks on the disk."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Bring the directory's entries to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
