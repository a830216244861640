"""The images of a backup storage in a pool: brought in, described, taken out.

An image is an RBD image of its uuid's name with a protected snapshot of the same name, and a note that
describes it (`rbd image-meta`). It gets its name last: what has the name is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agentkit.downloads import Arrival, feed_from_url, without_login
from agentkit.errors import Blame, HardpointError
from agentkit.images import ImageDescription, StoredImage, TransferProgress
from agentkit.rbd import SLOW_LIMIT_S, Image, Trashed
from agentkit.rbd_removal import remove_image
from agentkit.turns import Turns
from cephagent.cluster import Ceph, full
from cephagent.parsing import pool_named
from cephagent.pipes import RbdSink, sha256_of
from cephagent.protocol import DropImage, ImportImage, PurgeTrashReply

log = logging.getLogger(__name__)

T = TypeVar("T")

NOTE = "hardpoint"
PARTIAL = ".partial"
STALL_S = 10.0
"""When nothing has come for so long it is asked whether the pool is full: writes to one wait for ever."""
_UUID = re.compile(r"[0-9a-f]{32}")


class Images:
    """What the agent does with images; one import of each at a time."""

    def __init__(self, ceph: Ceph, authority: Path) -> None:
        self._ceph = ceph
        self._authority = authority
        self._turns = Turns()
        self._arrivals: dict[str, Arrival] = {}
        self._imports: dict[str, asyncio.Task[StoredImage]] = {}

    def progress(self, uuid: str) -> TransferProgress:
        """Say how far an import is."""
        arrival = self._arrivals.get(uuid, Arrival())
        return TransferProgress(done_bytes=arrival.done, total_bytes=arrival.total)

    async def stored(self, pool: str, uuid: str) -> StoredImage:
        """Return an image. Raises HardpointError (SYS.1003) when the pool has none of that uuid."""
        found = await self._known(pool, uuid)
        if found is None:
            raise HardpointError(
                "SYS.1003",
                "Resource not found",
                f"there is no image {uuid} in pool {pool}",
                remedy="see the image's backupStorageRefs",
                blame=Blame.CALLER,
            )
        return found

    async def all(self, pool: str) -> list[StoredImage]:
        """Return the images of a pool."""
        found = []
        for name in await self._ceph.names(pool):
            if _UUID.fullmatch(name):
                image = await self._known(pool, name)
                if image is not None:
                    found.append(image)
        return found

    async def bring(self, command: ImportImage) -> StoredImage:
        """Bring in an image; see `ImportImage`."""
        uuid = command.image.uuid
        async with self._turns.of(uuid):
            known = await self._known(command.pool, uuid)
            if known is not None:
                return known
            task = asyncio.ensure_future(self._import(command))
            self._imports[uuid] = task
            try:
                return await task
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    raise
                raise _ended(uuid) from None
            finally:
                del self._imports[uuid]

    async def drop(self, command: DropImage) -> None:
        """Take an image out; see `DropImage`."""
        pool, uuid = command.pool, command.image_uuid
        task = self._imports.get(uuid)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with self._turns.of(uuid):
            await self._clear(pool, uuid)
            until = f"{command.kept_s} seconds" if command.kept_s else "now"
            done = await self._ceph.try_rbd("trash", "mv", f"{pool}/{uuid}", "--expires-at", until)
            if done.returncode != errno.ENOENT:
                done.check()
        if not command.kept_s:
            await self.purge(pool)

    async def purge(self, pool: str) -> PurgeTrashReply:
        """Remove for good what is due and is below nothing."""
        removed = freed = 0
        for image in await self._ceph.trash(pool):
            if _is_due(image):
                size = await self._ceph.remove_trashed(pool, image)
                removed, freed = removed + (size is not None), freed + (size or 0)
        return PurgeTrashReply(removed=removed, freed_bytes=freed)

    async def drop_clones(self, pools: list[str]) -> int:
        """Remove clones of other pools' images; see `DropClones`. Return how many images went."""
        removed, below = 0, set[str]()
        for pool in pools:
            going = [image for image in await self._ceph.trash(pool) if _is_due(image)]
            for image in going:
                found = await self._ceph.find(Image, "info", "-p", pool, "--image-id", image.id)
                below.update([found.parent.pool] if found is not None and found.parent is not None else [])
            removed += await self._empty_trash(pool, going)
        for pool in pools:
            for name in await self._ceph.names(pool):
                found = await self._ceph.image(pool, name) if _UUID.fullmatch(name) else None
                if found is None or found.parent is None or found.parent.pool in pools:
                    continue
                below.add(found.parent.pool)
                if await remove_image(self._ceph, pool, name):
                    removed += 1
                else:
                    extra = {"pool": pool, "image": name}
                    log.warning("a clone stays: others are clones of it", extra=extra)
        for pool in sorted(below.difference(pools)):
            await self.purge(pool)
        return removed

    async def _empty_trash(self, pool: str, going: list[Trashed]) -> int:
        """Remove all that can go, clones before what they are clones of; return how many images went."""
        removed = 0
        while going:
            left = [image for image in going if await self._ceph.remove_trashed(pool, image) is None]
            removed += len(going) - len(left)
            going = left if len(left) < len(going) else []
        return removed

    async def _import(self, command: ImportImage) -> StoredImage:
        pool, image = command.pool, command.image
        await self._check_room(pool)
        await self._clear(pool, image.uuid)
        arrival = self._arrivals[image.uuid] = Arrival()
        stem = f"{image.uuid}.{secrets.token_hex(4)}"
        try:
            stored = await self._fill(command, stem, arrival)
            await self._publish(pool, stem + PARTIAL, stored)
            return stored
        except (HardpointError, asyncio.CancelledError):
            with contextlib.suppress(HardpointError):
                await self._clear(pool, image.uuid)
            raise
        finally:
            self._arrivals.pop(image.uuid, None)

    async def _fill(self, command: ImportImage, stem: str, arrival: Arrival) -> StoredImage:
        """Make the partial image of an import; describe what it has."""
        pool, image = command.pool, command.image
        converted = image.format == "qcow2"
        name = f"{stem}.source{PARTIAL}" if converted else stem + PARTIAL
        sink = RbdSink(self._ceph, pool, name, image.format)
        authority = self._authority if command.source is not None else None
        async with self._unless_full(pool, lambda: arrival.done) as within:
            try:
                await within(feed_from_url(command.source or image.url, sink, arrival, authority))
                disk = await within(sink.finish())
            finally:
                await sink.close()
            sha256 = sink.sha256
            if command.sha256 is not None and sha256 != command.sha256:
                raise _other_content(image, sha256, command.sha256)
            if converted:
                await within(self._convert(pool, name, stem + PARTIAL))
                sha256 = await within(sha256_of(self._ceph, pool, stem + PARTIAL, disk.virtual_bytes))
        kept = msgspec.structs.replace(
            image, url=without_login(image.url), format="raw" if converted else image.format
        )
        size = disk.virtual_bytes
        return StoredImage(image=kept, sha256=sha256, size_bytes=size, virtual_bytes=size)

    async def _convert(self, pool: str, source: str, target: str) -> None:
        addresses = [self._ceph.address(pool, name) for name in (source, target)]
        options = ["convert", "-q", "-W", "-m", "16", "-f", "qcow2", "-O", "raw"]
        await self._ceph.run_qemu_img(*options, *addresses, limit_s=SLOW_LIMIT_S)
        await remove_image(self._ceph, pool, source)

    async def _publish(self, pool: str, partial: str, stored: StoredImage) -> None:
        uuid = stored.image.uuid
        note = msgspec.json.encode(stored).decode()
        await self._ceph.rbd("image-meta", "set", f"{pool}/{partial}", NOTE, note)
        snapshot = f"{pool}/{partial}@{uuid}"
        await self._ceph.rbd("snap", "create", snapshot, "--no-progress")
        await self._ceph.rbd("snap", "protect", snapshot)
        await self._ceph.rbd("rename", f"{pool}/{partial}", f"{pool}/{uuid}")

    async def _known(self, pool: str, uuid: str) -> StoredImage | None:
        note = await self._ceph.note(pool, uuid, NOTE)
        if note is None:
            return None
        try:
            return msgspec.json.decode(note, type=StoredImage)
        except msgspec.DecodeError as error:
            log.warning("image not understood", extra={"pool": pool, "image": uuid, "reason": str(error)})
            return None

    async def _clear(self, pool: str, uuid: str) -> None:
        """Remove what was begun of an image."""
        for name in await self._ceph.names(pool):
            if name.startswith(f"{uuid}.") and name.endswith(PARTIAL):
                await remove_image(self._ceph, pool, name)

    async def _check_room(self, pool: str) -> None:
        if pool_named(await self._ceph.report(), pool).is_full:
            raise full(f"pool {pool} takes no more data")

    @asynccontextmanager
    async def _unless_full(
        self, pool: str, progress: Callable[[], int]
    ) -> AsyncIterator[Callable[[Coroutine[Any, Any, T]], Coroutine[Any, Any, T]]]:
        """Give what ends a work when the pool has become full: it would wait until there is room again."""

        async def within(work: Coroutine[Any, Any, T]) -> T:
            task = asyncio.ensure_future(work)
            try:
                while True:
                    before = progress()
                    await asyncio.wait({task}, timeout=STALL_S)
                    if task.done():
                        return task.result()
                    if progress() == before:
                        await self._check_room(pool)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        yield within


def _is_due(image: Trashed) -> bool:
    """Say whether an image of this project has been in the trash for its time."""
    return image.is_due and _UUID.fullmatch(image.name.partition(".")[0]) is not None


def _ended(uuid: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the import of image {uuid} was ended: the image is deleted",
        remedy="add the image again",
    )


def _other_content(image: ImageDescription, found: str, wanted: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"image {image.uuid} has arrived with the SHA-256 {found}, not {wanted}",
        remedy="verify it where it comes from, then try again",
    )
