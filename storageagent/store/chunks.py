"""Chunks: pieces of images, each a file named by the SHA-256 of what is in it, compressed with zstd.

Images are cut at fixed offsets (docs/adr/0010). A piece of zeros is no file at all. What a running import
relies on is pinned, so that a collection of garbage at the same time leaves it alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from agentkit.errors import HardpointError

CHUNK_BYTES = 256 * 1024
DIGEST_BYTES = 32
ZEROS = bytes(DIGEST_BYTES)
"""Stands for a chunk of nothing but zeros, whatever its length."""
STORED_MAX_BYTES = CHUNK_BYTES + 4096
_LEVEL = 1
_NOTHING = bytes(CHUNK_BYTES)


def digest_of(piece: bytes | memoryview) -> bytes:
    """Return a chunk's name as bytes: its SHA-256, `ZEROS` for zeros."""
    if piece == _NOTHING[: len(piece)]:
        return ZEROS
    return hashlib.sha256(piece).digest()


def packed(piece: bytes | memoryview) -> bytes:
    """Return a chunk as it is stored."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(piece)


def unpacked(stored: bytes, digest: bytes) -> bytes:
    """Return what was packed. Raises ValueError when that is not what the digest names."""
    try:
        piece = zstandard.ZstdDecompressor().decompress(stored, max_output_size=CHUNK_BYTES)
    except zstandard.ZstdError as error:
        raise ValueError(f"it cannot be decompressed: {error}") from error
    if hashlib.sha256(piece).digest() != digest:
        raise ValueError("its content has another checksum")
    return piece


class Chunks:
    """The folder of chunks; its methods block on the disk and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._pins: Counter[bytes] = Counter()
        self._spared: set[bytes] | None = None
        """What was pinned at any time since the collection that runs began; None when none does."""

    def prepare(self) -> None:
        """Make the folders."""
        for number in range(256):
            (self.folder / f"{number:02x}").mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: bytes) -> Path:
        """Return the file of a chunk."""
        name = digest.hex()
        return self.folder / name[:2] / name

    def pin(self, digest: bytes) -> bool:
        """Keep a chunk from being collected until `unpin`; return whether it is there."""
        with self._lock:
            self._pins[digest] += 1
            if self._spared is not None:
                self._spared.add(digest)
            return self.path(digest).exists()

    def unpin(self, digests: Iterable[bytes]) -> None:
        """Take back pins."""
        with self._lock:
            self._pins.subtract(digests)
            self._pins += Counter()

    def read(self, digest: bytes, length: int) -> bytes:
        """Return a chunk of so many bytes, checked.

        Raises HardpointError (SYS.1006) when it is missing or damaged.
        """
        if digest == ZEROS:
            return bytes(length)
        try:
            piece = unpacked(self.path(digest).read_bytes(), digest)
            if len(piece) != length:
                raise ValueError(f"it has {len(piece)} bytes, not {length}")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise HardpointError(
                "SYS.1006",
                "Operation failed",
                f"chunk {digest.hex()} of {self.folder} cannot be used: {reason}",
                remedy="check the disk of the image store; add the image again from its source",
            ) from error
        return piece

    def begin_sweep(self) -> None:
        """From now on remember what is pinned, until `end_sweep`."""
        with self._lock:
            self._spared = set(self._pins)

    def end_sweep(self) -> None:
        """The collection has ended."""
        with self._lock:
            self._spared = None

    def sweep(self, digest: bytes) -> int | None:
        """Remove a chunk that no manifest names; return its bytes on disk, None when an import needs it."""
        with self._lock:
            if self._spared is None:
                raise AssertionError("sweep outside of a collection")
            if digest in self._spared:
                return None
            path = self.path(digest)
            size = path.stat().st_blocks * 512
            path.unlink()
            return size

    def all(self) -> Iterator[bytes]:
        """Yield the digests of all chunks that are there."""
        for folder in sorted(self.folder.iterdir()):
            for path in folder.iterdir():
                try:
                    digest = bytes.fromhex(path.name)
                except ValueError:
                    continue
                if len(digest) == DIGEST_BYTES:
                    yield digest
