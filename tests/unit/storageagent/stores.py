"""Small stores and images for tests."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

from agentkit.images import ImageDescription, StoredImage
from storageagent.store.chunks import CHUNK_BYTES
from storageagent.store.repository import Repository
from storageagent.store.writer import Source

UUID_A, UUID_B = "a" * 32, "b" * 32


def described(uuid: str = UUID_A, **more: Any) -> ImageDescription:
    return ImageDescription(**{"uuid": uuid, "name": f"image {uuid[:1]}", "format": "raw", **more})


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def content(*seeds: int, tail: int = 0) -> bytes:
    """Return an image of whole chunks, one for each seed (0: zeros), and a last one of `tail` bytes."""
    pieces = [bytes(CHUNK_BYTES) if seed == 0 else noise(seed, CHUNK_BYTES) for seed in seeds]
    return b"".join([*pieces, noise(999, tail)])


def qcow2(
    virtual: int, *, version: int = 3, backing: int = 0, encryption: int = 0, features: int = 0
) -> bytes:
    """Return the first cluster of a qcow2 image."""
    head = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, backing, 0, 16, virtual, encryption, 1, 0, 65536, 65536, 1, 0
    )
    return (head + struct.pack(">QQQII", features, 0, 0, 4, 104)).ljust(65536, b"\0")


def put(repository: Repository, data: bytes, image: ImageDescription | None = None) -> StoredImage:
    """Bring in an image."""
    writer = repository.writer(Source(image or described()))
    try:
        writer.open()
        writer.write(data[writer.offset :])
        return writer.finish()
    finally:
        repository.release(writer)


def get(repository: Repository, uuid: str = UUID_A) -> bytes:
    size = repository.manifests.read(uuid).size_bytes
    return b"".join(repository.read(uuid, 0, size))


def chunk_files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "chunks").glob("*/*")}


def leftovers(folder: Path) -> list[Path]:
    """Return files under names that are not final, and begun imports."""
    return [*folder.rglob("*.tmp"), *(folder / "imports").iterdir()]
