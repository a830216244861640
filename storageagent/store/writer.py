"""One image on its way in: cut into chunks, stored batch by batch, gone on with after a crash.

What has arrived is in `imports/<uuid>/`: `source.json` says where it comes from, `digests` names the chunks
that are durable. Chunks of the batch that is being written are in `staged/` there and get their names when
their content is on disk.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.files import sync_directory, write_durably
from agentkit.image_formats import HEADER_BYTES, describe
from agentkit.images import ImageDescription, StoredImage
from storageagent.store.chunks import CHUNK_BYTES, DIGEST_BYTES, ZEROS, Chunks, digest_of, packed
from storageagent.store.manifests import Manifests

Boundary = Callable[[str], None]
"""Called at every step with its name; tests use it to end the process there."""

BATCH_BYTES = 256 * 1024 * 1024
"""New chunks are brought to disk so many bytes at a time."""
_libc = ctypes.CDLL(None, use_errno=True)


def sync_file_system(folder: Path) -> None:
    """Bring all of a folder's file system to disk: of thousands of small files that is the fastest way."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


class Source(msgspec.Struct, rename="camel"):
    """Where an image comes from and what tells that it is still the same; only the same is gone on with."""

    image: ImageDescription
    tag: str = ""


class ImageWriter:
    """Takes in one image. Its methods block; they are to be called one at a time."""

    def __init__(
        self,
        folder: Path,
        source: Source,
        chunks: Chunks,
        manifests: Manifests,
        pool: ThreadPoolExecutor,
        boundary: Boundary,
    ) -> None:
        self.source = source
        self._folder = folder
        self._staged = folder / "staged"
        self._chunks = chunks
        self._manifests = manifests
        self._pool = pool
        self._boundary = boundary
        self._pinned: list[bytes] = []
        self._digests = bytearray()
        self._taken = 0
        self._batch: dict[bytes, int] = {}
        self._rest = b""
        self._whole = hashlib.sha256()
        self._header = b""
        self._described = False

    @property
    def offset(self) -> int:
        """How many bytes have been taken in."""
        return self._taken + len(self._rest)

    def open(self) -> None:
        """Go on where the same source was left, else begin."""
        known = self._known()
        if known:
            self._recall(known)
        else:
            self.begin()

    def begin(self, tag: str = "") -> None:
        """Forget what has arrived and begin; `tag` tells what arrives from now on from another content."""
        self.close()
        self.source = msgspec.structs.replace(self.source, tag=tag)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._staged.mkdir(mode=0o700, parents=True)
        write_durably(self._folder / "source.json", msgspec.json.encode(self.source))
        sync_directory(self._folder.parent)

    def write(self, data: bytes) -> None:
        """Take in what comes next. Raises HardpointError (SYS.1006) when it is not of the said format."""
        data = self._rest + data
        whole = len(data) // CHUNK_BYTES * CHUNK_BYTES
        view = memoryview(data)
        self._take([view[at : at + CHUNK_BYTES] for at in range(0, whole, CHUNK_BYTES)])
        self._rest = data[whole:]
        if sum(self._batch.values()) >= BATCH_BYTES:
            self.flush()
        if not self._described and len(self._header) >= HEADER_BYTES:
            describe(self._header, self.offset, self.source.image.format)
            self._described = True

    def take_stored(self, digest: bytes, stored: bytes) -> None:
        """Take in a chunk as another store keeps it; the caller has checked it."""
        if not self._pin(digest) and digest not in self._batch:
            self._stage(digest, stored)
        if sum(self._batch.values()) >= BATCH_BYTES:
            self._settle()

    def has(self, digest: bytes) -> bool:
        """Say whether a chunk is in the store already, and see that it stays."""
        return digest == ZEROS or self._pin(digest) or digest in self._batch

    def finish(self, *, size: int | None = None, sha256: str | None = None) -> StoredImage:
        """Make an image of what has arrived.

        Raises HardpointError (SYS.1006) when it is not of the said format, size or checksum; what has arrived
        is as it was then.
        """
        total, whole = self.offset, self._whole.copy()
        whole.update(self._rest)
        found = whole.hexdigest()
        if size not in (None, total) or sha256 not in (None, found):
            raise _differs(total, found, size, sha256)
        header = (self._header + self._rest)[:HEADER_BYTES]
        disk = describe(header, total, self.source.image.format)
        if self._rest:
            # Not noted: what is gone on with are whole chunks.
            self._take([memoryview(self._rest)])
            self._rest = b""
        stored = StoredImage(
            image=self.source.image, sha256=found, size_bytes=total, virtual_bytes=disk.virtual_bytes
        )
        self.publish(stored, bytes(self._digests))
        return stored

    def publish(self, stored: StoredImage, digests: bytes) -> None:
        """Bring the last chunks to disk, then the manifest."""
        self._settle()
        # The names, too: those that this import has given and those that it found just given by another.
        sync_file_system(self._folder)
        self._boundary("stored")
        self._manifests.publish(stored, digests)
        self._boundary("published")
        shutil.rmtree(self._folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the chunks in memory; what is on disk stays to be gone on with."""
        self._chunks.unpin(self._pinned)
        self._pinned.clear()
        self._digests.clear()
        self._batch.clear()
        self._rest, self._header, self._described, self._taken = b"", b"", False, 0
        self._whole = hashlib.sha256()

    def flush(self) -> None:
        """Bring what has arrived in whole chunks to disk, and note it."""
        self._settle()
        sync_file_system(self._folder)
        self._boundary("noting")
        path = self._folder / "digests"
        known = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(self._digests[known:])
            file.flush()
            os.fsync(file.fileno())

    def _known(self) -> bytes:
        """Return the digests of what has arrived from the same source before."""
        try:
            kept = msgspec.json.decode((self._folder / "source.json").read_bytes(), type=Source)
            if kept.image != self.source.image:
                return b""
            self.source = kept
            digests = (self._folder / "digests").read_bytes()
        except (OSError, msgspec.DecodeError):
            return b""
        return digests[: len(digests) // DIGEST_BYTES * DIGEST_BYTES]

    def _recall(self, digests: bytes) -> None:
        """Read again what has arrived, up to the first chunk that is not there any more."""
        shutil.rmtree(self._staged, ignore_errors=True)
        self._staged.mkdir(mode=0o700)
        for at in range(0, len(digests), DIGEST_BYTES):
            digest = digests[at : at + DIGEST_BYTES]
            if digest != ZEROS and not self._pin(digest):
                break
            try:
                piece = self._chunks.read(digest, CHUNK_BYTES)
            except HardpointError:
                break
            self._note(digest, piece)
        with (self._folder / "digests").open("wb") as file:
            file.write(self._digests)
            file.flush()
            os.fsync(file.fileno())

    def _take(self, pieces: list[memoryview]) -> None:
        digests = self._pool.map(self._store, pieces)
        for piece, digest in zip(pieces, digests, strict=True):
            self._note(digest, piece)

    def _note(self, digest: bytes, piece: bytes | memoryview) -> None:
        self._whole.update(piece)
        self._taken += len(piece)
        if len(self._header) < HEADER_BYTES:
            self._header += bytes(piece[: HEADER_BYTES - len(self._header)])
        self._digests += digest

    def _store(self, piece: memoryview) -> bytes:
        """Stage a chunk unless it is there; called from several threads."""
        digest = digest_of(piece)
        if digest != ZEROS and not self._pin(digest) and digest not in self._batch:
            self._stage(digest, packed(piece))
        return digest

    def _pin(self, digest: bytes) -> bool:
        self._pinned.append(digest)
        return self._chunks.pin(digest)

    def _stage(self, digest: bytes, stored: bytes) -> None:
        self._boundary("staging")
        (self._staged / digest.hex()).write_bytes(stored)
        self._batch[digest] = len(stored)

    def _settle(self) -> None:
        """Give the staged chunks their names once their content is on disk."""
        if not self._batch:
            return
        sync_file_system(self._staged)
        self._boundary("synced")
        for digest in self._batch:
            (self._staged / digest.hex()).replace(self._chunks.path(digest))
            self._boundary("named")
        self._batch.clear()


def _differs(total: int, found: str, size: int | None, sha256: str | None) -> HardpointError:
    wanted = f"{size} bytes" if size not in (None, total) else f"the SHA-256 {sha256}"
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"what has arrived are {total} bytes with the SHA-256 {found}, not {wanted}",
        remedy="send it again from the beginning",
        blame=Blame.CALLER,
    )
