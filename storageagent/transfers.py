"""Images on their way into the store: one import of each at a time, gone on with wherever it was left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agentkit.downloads import Arrival, feed_from_url, without_login
from agentkit.errors import Blame, HardpointError
from agentkit.images import ImageDescription, StoredImage, TransferProgress
from agentkit.turns import Turns
from agentkit.working import in_thread
from storageagent import sources
from storageagent.protocol import ImportImage
from storageagent.store.repository import Repository
from storageagent.store.writer import ImageWriter, Source

Feed = Callable[[ImageWriter, Arrival], Awaitable[StoredImage]]
"""Brings an image to a writer and finishes it."""


@dataclass
class _Upload:
    writer: ImageWriter
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Taking:
    """A writer as a sink."""

    def __init__(self, writer: ImageWriter) -> None:
        self._writer = writer

    @property
    def offset(self) -> int:
        """How many bytes have been taken in."""
        return self._writer.offset

    @property
    def tag(self) -> str:
        """What tells that the source is still the same."""
        return self._writer.source.tag

    async def begin(self, tag: str) -> None:
        """Forget what has arrived and begin."""
        await in_thread(self._writer.begin, tag)

    async def write(self, block: bytes) -> None:
        """Take in what comes next."""
        await in_thread(self._writer.write, block)


class Transfers:
    """Imports and uploads; `repository` gives the open store."""

    def __init__(self, repository: Callable[[], Repository]) -> None:
        self._repository = repository
        self._turns = Turns()
        self._arrivals: dict[str, Arrival] = {}
        self._imports: dict[str, asyncio.Task[StoredImage]] = {}
        self._uploads: dict[str, _Upload] = {}

    def progress(self, uuid: str) -> TransferProgress:
        """Say how far an import is."""
        arrival = self._arrivals.get(uuid, Arrival())
        return TransferProgress(done_bytes=arrival.done, total_bytes=arrival.total)

    async def import_from(self, command: ImportImage, authority: Path) -> StoredImage:
        """Bring in an image; see `ImportImage`. `authority` is that of other agents."""
        image, trusted = command.image, authority if command.source is not None else None
        url = command.source or image.url
        kept = msgspec.structs.replace(image, url=without_login(image.url))

        async def feed(writer: ImageWriter, arrival: Arrival) -> StoredImage:
            await in_thread(writer.open)
            await feed_from_url(url, _Taking(writer), arrival, trusted)
            return await in_thread(writer.finish, sha256=command.sha256)

        return await self._import(kept, feed)

    async def copy_from(self, uuid: str, source: sources.OtherStore) -> StoredImage:
        """Bring in an image from another store; see `CopyImage`."""
        known = await asyncio.to_thread(self._known, uuid)
        if known is not None:
            return known
        async with source as opened:
            manifest = await opened.manifest(uuid)

            async def feed(writer: ImageWriter, arrival: Arrival) -> StoredImage:
                await in_thread(writer.open)
                return await opened.feed(manifest, writer, arrival)

            return await self._import(manifest.stored.image, feed)

    async def drop(self, uuid: str) -> None:
        """End an import or upload of an image and take it out of the store."""
        await self._end(uuid)
        async with self._turns.of(uuid):
            await asyncio.to_thread(self._repository().drop, uuid)

    async def end_all(self) -> None:
        """End all imports and uploads; what arrived is gone on with another time."""
        for uuid in [*self._imports, *self._uploads]:
            await self._end(uuid)

    async def begin_upload(self, image: ImageDescription) -> None:
        """Let an image be uploaded."""
        async with self._turns.of(image.uuid):
            await self._upload(image)

    async def upload_offset(self, uuid: str) -> int:
        """Return how many bytes of an upload are there. Raises HardpointError (SYS.1003) for no upload."""
        return self._found(uuid).writer.offset

    async def take_upload(self, uuid: str, offset: int, blocks: AsyncIterator[bytes]) -> tuple[int, bool]:
        """Take in blocks after an offset; return the offset then, and whether they were taken."""
        upload = self._found(uuid)
        repository = self._repository()
        async with upload.turn:
            if offset != upload.writer.offset:
                return upload.writer.offset, False
            with repository.filling():
                try:
                    async for block in blocks:
                        await in_thread(upload.writer.write, block)
                finally:
                    await in_thread(upload.writer.flush)
            return upload.writer.offset, True

    async def finish_upload(self, uuid: str, size: int, sha256: str | None) -> StoredImage:
        """Make an image of an upload; see `FinishUpload`."""
        known = await asyncio.to_thread(self._known, uuid)
        if known is not None:
            return known
        upload = self._found(uuid)
        repository = self._repository()
        async with upload.turn:
            with repository.filling():
                stored = await in_thread(upload.writer.finish, size=size, sha256=sha256)
            self._uploads.pop(uuid, None)
            await in_thread(repository.release, upload.writer)
            return stored

    async def _import(self, image: ImageDescription, feed: Feed) -> StoredImage:
        async with self._turns.of(image.uuid):
            known = await asyncio.to_thread(self._known, image.uuid)
            if known is not None:
                return known
            task = asyncio.ensure_future(self._run(image, feed))
            self._imports[image.uuid] = task
            try:
                return await task
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    raise
                raise _ended(image.uuid) from None
            finally:
                del self._imports[image.uuid]

    async def _run(self, image: ImageDescription, feed: Feed) -> StoredImage:
        repository, arrival = self._repository(), Arrival()
        self._arrivals[image.uuid] = arrival
        writer = repository.writer(Source(image))
        try:
            with repository.filling():
                return await feed(writer, arrival)
        except HardpointError as error:
            await in_thread(repository.release, writer)
            await in_thread(repository.drop, image.uuid)
            if error.code == "BS.1003":
                await in_thread(repository.collect)
            raise
        finally:
            await in_thread(repository.release, writer)
            self._arrivals.pop(image.uuid, None)

    async def _upload(self, image: ImageDescription) -> None:
        known = self._uploads.get(image.uuid)
        if known is not None and known.writer.source.image == image:
            return
        await self._end(image.uuid)
        writer = self._repository().writer(Source(image))
        await in_thread(writer.open)
        self._uploads[image.uuid] = _Upload(writer)

    async def _end(self, uuid: str) -> None:
        task = self._imports.get(uuid)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        upload = self._uploads.pop(uuid, None)
        if upload is not None:
            async with upload.turn:
                await in_thread(self._repository().release, upload.writer)

    def _known(self, uuid: str) -> StoredImage | None:
        manifests = self._repository().manifests
        return manifests.read(uuid) if manifests.has(uuid) else None

    def _found(self, uuid: str) -> _Upload:
        upload = self._uploads.get(uuid)
        if upload is None:
            raise HardpointError(
                "SYS.1003",
                "Resource not found",
                f"no upload of image {uuid} is under way",
                remedy="begin it again",
                blame=Blame.CALLER,
            )
        return upload


def _ended(uuid: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the import of image {uuid} was ended: the image is deleted",
        remedy="add the image again",
    )
