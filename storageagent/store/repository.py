"""The store: a folder with chunks, manifests and begun imports, which one process has for itself."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.files import write_durably
from agentkit.images import StoredImage
from storageagent.protocol import ReclaimReply, StoreReport
from storageagent.store.chunks import CHUNK_BYTES, ZEROS, Chunks
from storageagent.store.collect import collect
from storageagent.store.manifests import Manifests
from storageagent.store.writer import Boundary, ImageWriter, Source

MARKER = "hardpoint-image-store.json"
_WORKERS = min(4, os.cpu_count() or 1)
_CAPACITY_STEP_BYTES = 16 * 1024 * 1024
"""A change of the free space by less is none: it would be told with every file that anybody writes."""
_STRANGERS_ALLOWED = {"lost+found"}


def no_boundary(_name: str) -> None:
    """Go on."""


class Repository:
    """An open store. Its methods block on the disk and may be called from several threads."""

    def __init__(self, folder: Path, boundary: Boundary = no_boundary, *, create: bool = True) -> None:
        """Open the store in a folder, making it if need be and `create` says so.

        Raises HardpointError (SYS.1006) when the folder is none. A store that was there before is not to be
        created: what is missing is the file system it lies on.
        """
        self.folder = folder
        self._boundary = boundary
        try:
            _prepare(folder, create=create)
            self._lock = _locked(folder / MARKER)
            self.chunks = Chunks(folder / "chunks")
            self.chunks.prepare()
            self.manifests = Manifests(folder / "images")
            self._imports = folder / "imports"
            for path in (self.manifests.folder, self._imports):
                path.mkdir(mode=0o700, exist_ok=True)
            self._forget_ended()
        except OSError as error:
            raise _unusable(folder, f"{error.filename or folder}: {error.strerror}") from error
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="chunks")
        self._collecting = threading.Lock()
        self._busy: set[str] = set()

    def _forget_ended(self) -> None:
        """Remove what a process that was killed has left of imports that had ended."""
        for folder in self._imports.iterdir():
            if self.manifests.has(folder.name):
                shutil.rmtree(folder)

    def close(self) -> None:
        """Let another process have it."""
        self._pool.shutdown()
        os.close(self._lock)

    def report(self) -> StoreReport:
        """Look at the file system."""
        found = os.statvfs(self.folder)
        total, available = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        seen = f"{self.folder} {total} {available // _CAPACITY_STEP_BYTES}"
        digest = hashlib.sha256(seen.encode()).hexdigest()
        return StoreReport(url=str(self.folder), total_bytes=total, available_bytes=available, hash=digest)

    def writer(self, source: Source) -> ImageWriter:
        """Return the writer of an image that comes from `source`; `release` gives it back."""
        uuid = source.image.uuid
        self._busy.add(uuid)
        folder = self._imports / uuid
        return ImageWriter(folder, source, self.chunks, self.manifests, self._pool, self._boundary)

    def release(self, writer: ImageWriter) -> None:
        """End an import, or leave it to be gone on with."""
        writer.close()
        self._busy.discard(writer.source.image.uuid)

    def drop(self, uuid: str) -> None:
        """Take an image out, and what has arrived of it."""
        self.manifests.remove(uuid)
        shutil.rmtree(self._imports / uuid, ignore_errors=True)

    def collect(self) -> ReclaimReply:
        """Remove chunks that nothing needs. Raises HardpointError (SYS.1006) when a manifest is damaged."""
        with self._collecting:
            return collect(self.chunks, self.manifests, self._imports, set(self._busy), self._boundary)

    def read(self, uuid: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of an image from `start` to `end`, checked. Raises as `Manifests.open` does."""
        with self.manifests.open(uuid) as manifest:
            for number in range(start // CHUNK_BYTES, -(-end // CHUNK_BYTES)):
                piece = self.chunks.read(manifest.digest(number), manifest.length(number))
                begin = number * CHUNK_BYTES
                yield piece[max(start - begin, 0) : end - begin]

    def verify(self, uuid: str) -> list[str]:
        """Return the digests of chunks that are missing or damaged."""
        damaged = []
        with self.manifests.open(uuid) as manifest:
            for number, digest in enumerate(manifest.digests()):
                try:
                    self.chunks.read(digest, manifest.length(number))
                except HardpointError:
                    damaged.append(digest.hex())
        return list(dict.fromkeys(damaged))

    def stored_chunk(self, uuid: str, number: int) -> bytes:
        """Return a chunk of an image as it is kept, unchecked: who copies it checks it."""
        with self.manifests.open(uuid) as manifest:
            if not 0 <= number < manifest.count or manifest.digest(number) == ZEROS:
                raise IndexError(number)
            return self.chunks.path(manifest.digest(number)).read_bytes()

    def images(self) -> tuple[list[StoredImage], list[HardpointError]]:
        """Return the images that are there, and why some cannot be read."""
        found, faults = [], []
        for uuid in self.manifests.uuids():
            try:
                found.append(self.manifests.read(uuid))
            except HardpointError as error:
                faults.append(error)
        return found, faults

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Say of a full disk what it is: BS.1003. What arrived is to be dropped by the caller."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise HardpointError(
                    "SYS.1006",
                    "Operation failed",
                    f"the image store cannot write to {error.filename or self.folder}: {error.strerror}",
                    remedy="check the disk and the permissions of the image store",
                ) from error
            raise HardpointError(
                "BS.1003",
                "Not enough capacity",
                f"the file system of the image store {self.folder} is full",
                remedy="delete images and reclaim their space (ReclaimSpaceFromImageStore), or enlarge it",
            ) from error


def _prepare(folder: Path, *, create: bool) -> None:
    """Make the folder a store. Raises HardpointError (SYS.1006) for one that holds other things."""
    if not folder.is_absolute():
        raise _unusable(folder, "it is no absolute path")
    marker = folder / MARKER
    if not create and not marker.exists():
        raise _unusable(folder, f"{marker} is gone; see whether its file system is mounted")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if marker.exists():
        try:
            if msgspec.json.decode(marker.read_bytes()) == {"version": 1, "chunkBytes": CHUNK_BYTES}:
                return
        except msgspec.DecodeError:
            pass
        raise _unusable(folder, f"{marker} is not of this version of the image store")
    strangers = sorted({path.name for path in folder.iterdir()} - _STRANGERS_ALLOWED - {MARKER + ".tmp"})
    if strangers:
        raise _unusable(folder, f"it is no image store and not empty: it has {strangers[0]}")
    write_durably(marker, msgspec.json.encode({"version": 1, "chunkBytes": CHUNK_BYTES}))


def _locked(marker: Path) -> int:
    lock = os.open(marker, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise _unusable(marker.parent, "another agent works on it") from error
    return lock


def _unusable(folder: Path, reason: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"{folder} cannot be the folder of an image store: {reason}",
        remedy="give an absolute path of a folder that is empty, or was an image store before",
        blame=Blame.CALLER,
    )
