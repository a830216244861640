"""File operations on storages, in a process of their own that the agent can walk away from.

`main` reads a request (JSON) from standard input and writes the answer to standard output:
`{"done": ...}`, or `{"error": "reason"}` when the operating system refuses. Nothing but the standard library
is imported: such a process is there in some ten milliseconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kvmagent.storage.probe import MARKERS, RefusedError, capacity, write_synced
from kvmagent.storage.sparse import RBD, open_writer, written

_CHUNK = 1024 * 1024
TRASH = ".trash"


def claim(root: str, uuid: str, *, first: bool, others: list[str], make: bool) -> dict[str, int]:
    """Write the storage's marker when it is initialised for the first time, else make sure that it is there.

    `make` says that the folder itself may be made then.
    """
    folder = Path(root)
    if first and make:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not folder.is_dir():
        raise RefusedError(f"there is no folder {root}")
    markers = folder / MARKERS
    if not first and not (markers / uuid).exists():
        raise RefusedError(f"{root} lacks the marker {MARKERS}/{uuid}, so it is not the folder that it was")
    markers.mkdir(mode=0o755, exist_ok=True)
    with (markers / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise RefusedError(f"files in {root} cannot be locked: {error.strerror}") from error
        for other in others:
            if (markers / other).exists():
                raise RefusedError(f"{root} belongs to the primary storage {other}")
        if first:
            write_synced(str(markers / uuid), uuid.encode())
    return capacity(root)


def size(path: str) -> int:
    """Return the bytes of a file or block device, 0 when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def write(path: str, text: str) -> None:
    """Write to a file that is there, of the kernel."""
    Path(path).write_text(text)


def exists(path: str) -> bool:
    """Say whether there is a file."""
    return Path(path).exists()


def make_parents(path: str) -> None:
    """Make the folders above a file; VMs' processes may pass through them."""
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)


def publish(partial: str, path: str) -> None:
    """Give a file that is complete its name, for good when this returns."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    Path(partial).replace(path)
    sync_folder(Path(path).parent)


def remove(root: str, paths: list[str], trash: str | None) -> None:
    """Remove files and folders, or move them to a folder of the trash."""
    for name in paths:
        path = Path(root) / name
        if not path.exists():
            continue
        if trash is not None:
            target = Path(root) / TRASH / trash / name
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.replace(target)
            os.utime(Path(root) / TRASH / trash)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        if path.parent.exists():
            sync_folder(path.parent)


def purge(root: str, older_than_s: int) -> int:
    """Remove the folders of the trash that are older; return how many those were."""
    trash, removed = Path(root) / TRASH, 0
    for folder in list(trash.iterdir()) if trash.is_dir() else []:
        if time.time() - folder.stat().st_mtime > older_than_s:
            shutil.rmtree(folder)
            removed += 1
    return removed


def sha256(path: str, length: int | None = None) -> dict[str, Any]:
    """Return the size and the SHA-256 of a file, or of the first `length` bytes of it."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path, 0, length):
        digest.update(chunk)
        size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def _chunks(path: str, offset: int, length: int | None) -> Iterator[bytes]:
    """Yield what a file holds from `offset` on; of the first `length` bytes where that is given."""
    if path.startswith(RBD):
        from kvmagent.storage import rbd_pipe  # it takes long to import

        yield from rbd_pipe.chunks(path, offset, length)
        return
    with Path(path).open("rb") as file:
        file.seek(offset)
        left = sys.maxsize if length is None else length - offset
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            yield chunk
            left -= len(chunk)


def copy(source: str, partial: str, length: int | None = None) -> dict[str, Any]:
    """Copy a file, or its first `length` bytes, holes and all, and read it back; return its size and SHA-256.

    Raises RefusedError when what was read back is not what was written.
    """
    digest, copied = hashlib.sha256(), 0
    with open_writer(partial) as writer:
        writer.begin(0)
        for chunk in _chunks(source, 0, length):
            digest.update(chunk)
            writer.write(chunk)
            copied += len(chunk)
    found = sha256(partial, copied)
    if found["sha256"] != digest.hexdigest():
        raise RefusedError(f"{partial} holds something else than was copied to it from {source}")
    return found


def fetch(**request: Any) -> None:
    """Fetch a file by HTTPS; see `kvmagent.storage.fetch`."""
    from kvmagent.storage.fetch import InterruptedTransferError, fetch_file  # only fetching needs TLS

    try:
        fetch_file(**request)
    except InterruptedTransferError as error:
        raise RefusedError(str(error)) from error


def send(path: str, offset: int, length: int) -> None:
    """Write the first `length` bytes of a file, from a place on, to standard output as they are."""
    for chunk in _chunks(path, offset, length):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        capacity, claim, size, write, exists, make_parents, publish, remove, purge, sha256, copy, fetch,
        written,
    )
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Do what the arguments say: `do`, or `send PATH OFFSET LENGTH`."""
    what, *rest = arguments
    if what == "send":
        send(rest[0], int(rest[1]), int(rest[2]))
        return
    request = json.load(sys.stdin)
    try:
        answer = {"done": OPERATIONS[request.pop("operation")](**request)}
    except RefusedError as error:
        answer = {"error": str(error)}
    except OSError as error:
        place = error.filename or request.get("root") or request.get("path") or ""
        answer = {"error": f"{place}: {error.strerror or error}"}
    json.dump(answer, sys.stdout)
