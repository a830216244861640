"""Manifests: what an image is made of: a line of JSON about it, then its chunks' digests, 32 bytes each.

A manifest is written whole and then renamed, so that an image is there or is not.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.files import remove_durably, write_durably
from agentkit.images import StoredImage
from storageagent.store.chunks import CHUNK_BYTES, DIGEST_BYTES

log = logging.getLogger(__name__)

SUFFIX = ".image"
_HEAD_MAX_BYTES = 64 * 1024


class _Head(msgspec.Struct, rename="camel"):
    """The first line; `digests` is the SHA-256 of all that follows it."""

    version: int
    chunk_bytes: int
    digests: str
    stored: StoredImage


class Manifest:
    """An image's manifest, open."""

    def __init__(self, head: _Head, content: bytes | mmap.mmap, start: int) -> None:
        self.stored = head.stored
        self._digests_sha256 = head.digests
        self._content = content
        self._start = start

    @property
    def count(self) -> int:
        """How many chunks the image has."""
        return -(-self.stored.size_bytes // CHUNK_BYTES)

    def digest(self, number: int) -> bytes:
        """Return the digest of a chunk."""
        at = self._start + number * DIGEST_BYTES
        return self._content[at : at + DIGEST_BYTES]

    def digests(self) -> Iterator[bytes]:
        """Yield the digests of all chunks in their order."""
        return (self.digest(number) for number in range(self.count))

    def length(self, number: int) -> int:
        """Return how many bytes a chunk has."""
        return min(CHUNK_BYTES, self.stored.size_bytes - number * CHUNK_BYTES)

    def check(self) -> None:
        """Raise HardpointError (SYS.1006) unless the digests are those that were written."""
        if hashlib.sha256(self._content[self._start :]).hexdigest() != self._digests_sha256:
            raise _damaged(
                f"the manifest of image {self.stored.image.uuid}", "its list of chunks is another one"
            )


def encode(stored: StoredImage, digests: bytes) -> bytes:
    """Return a manifest as it is written."""
    head = _Head(1, CHUNK_BYTES, hashlib.sha256(digests).hexdigest(), stored)
    return msgspec.json.encode(head) + b"\n" + digests


def decode(content: bytes | mmap.mmap) -> Manifest:
    """Return a manifest. Raises ValueError when it is none, or cut off."""
    end = content.find(b"\n", 0, _HEAD_MAX_BYTES)
    head = msgspec.json.decode(content[: max(end, 0)], type=_Head)
    if (head.version, head.chunk_bytes) != (1, CHUNK_BYTES):
        raise ValueError(f"it has version {head.version} with chunks of {head.chunk_bytes} bytes")
    manifest = Manifest(head, content, end + 1)
    if len(content) != end + 1 + manifest.count * DIGEST_BYTES:
        raise ValueError("its length is not that of its image")
    return manifest


class Manifests:
    """The folder of manifests; its methods block on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, uuid: str) -> Path:
        """Return the file of an image's manifest."""
        return self.folder / (uuid + SUFFIX)

    def has(self, uuid: str) -> bool:
        """Say whether an image is there."""
        return self.path(uuid).exists()

    def uuids(self) -> list[str]:
        """Return the images that are there."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}"))

    @contextmanager
    def open(self, uuid: str) -> Iterator[Manifest]:
        """Give an image's manifest. Raises HardpointError: SYS.1003 for none, SYS.1006 for a damaged one."""
        try:
            with (
                self.path(uuid).open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as seen,
            ):
                try:
                    manifest = decode(seen)
                except (ValueError, msgspec.DecodeError) as error:
                    raise _damaged(f"the manifest {self.path(uuid)}", str(error)) from error
                yield manifest
        except FileNotFoundError:
            raise _absent(uuid) from None

    def read(self, uuid: str) -> StoredImage:
        """Return what an image is; raises as `open` does."""
        with self.open(uuid) as manifest:
            return manifest.stored

    def publish(self, stored: StoredImage, digests: bytes) -> None:
        """Make an image be there, durably."""
        write_durably(self.path(stored.image.uuid), encode(stored, digests), mode=0o600)

    def remove(self, uuid: str) -> None:
        """Take an image out, durably; one that is not there is no fault."""
        remove_durably(self.path(uuid))


def _damaged(what: str, reason: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"{what} cannot be used: {reason}",
        remedy="check the disk of the image store; delete the image and add it again",
    )


def _absent(uuid: str) -> HardpointError:
    return HardpointError(
        "SYS.1003",
        "Resource not found",
        f"there is no image {uuid} in this store",
        remedy="see QueryImage for the stores that have it",
        blame=Blame.CALLER,
    )
