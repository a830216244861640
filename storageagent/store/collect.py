"""The collection of garbage: chunks that no manifest, no begun import and no running one needs are removed.

Removing one chunk is one unlink, so whenever the process dies, what is left is more garbage and nothing else.
What imports do meanwhile is seen by their pins (`Chunks`); a manifest that cannot be read ends the collection
before it has removed anything, for nobody knows what it needs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agentkit.errors import HardpointError
from storageagent.protocol import ReclaimReply
from storageagent.store.chunks import DIGEST_BYTES, Chunks
from storageagent.store.manifests import Manifest, Manifests

LIVE_AT_ONCE = 1_000_000
"""Digests that are held in memory at once; of a larger store, parts are looked at one after the other."""
IMPORT_KEPT_S = 7 * 86400.0
"""An import that was begun and not gone on with is garbage after so long."""


def collect(
    chunks: Chunks,
    manifests: Manifests,
    imports: Path,
    busy: set[str],
    boundary: Callable[[str], None],
    clock: Callable[[], float] = time.time,
) -> ReclaimReply:
    """Collect garbage; `busy` are the images whose import runs. Raises HardpointError (SYS.1006)."""
    reply = ReclaimReply(freed_bytes=0, removed_chunks=0, kept_chunks=0)
    chunks.begin_sweep()
    try:
        _drop_old_imports(imports, busy, clock())
        total = 0
        for manifest in _each(manifests):
            manifest.check()
            total += manifest.count
        parts = total // LIVE_AT_ONCE + 1
        for part in range(parts):
            live = {d for d in _needed(manifests, imports) if d[-1] % parts == part}
            boundary("marked")
            _sweep(chunks, live, parts, part, reply, boundary)
    finally:
        chunks.end_sweep()
    return reply


def _each(manifests: Manifests) -> Iterator[Manifest]:
    """Yield the manifests, without those that are deleted meanwhile."""
    for uuid in manifests.uuids():
        try:
            with manifests.open(uuid) as manifest:
                yield manifest
        except HardpointError as error:
            if error.code != "SYS.1003":
                raise


def _needed(manifests: Manifests, imports: Path) -> Iterator[bytes]:
    for manifest in _each(manifests):
        yield from manifest.digests()
    for path in imports.glob("*/digests"):
        content = path.read_bytes()
        for at in range(0, len(content) // DIGEST_BYTES * DIGEST_BYTES, DIGEST_BYTES):
            yield content[at : at + DIGEST_BYTES]


def _sweep(
    chunks: Chunks,
    live: set[bytes],
    parts: int,
    part: int,
    reply: ReclaimReply,
    boundary: Callable[[str], None],
) -> None:
    for digest in chunks.all():
        if digest[-1] % parts != part:
            continue
        freed = None if digest in live else chunks.sweep(digest)
        if freed is None:
            reply.kept_chunks += 1
            continue
        boundary("swept")
        reply.removed_chunks += 1
        reply.freed_bytes += freed


def _drop_old_imports(imports: Path, busy: set[str], now_s: float) -> None:
    for folder in imports.iterdir():
        if folder.name not in busy and now_s - folder.stat().st_mtime > IMPORT_KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
