"""Disk images on a storage: each is made under another name and gets its own when it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agentkit.errors import Blame, HardpointError
from agentkit.turns import Turns
from kvmagent.protocol_ceph import SOURCE
from kvmagent.protocol_storage import (
    Capacity,
    CopyFile,
    CreateDisk,
    DiskReply,
    FetchFile,
    GetDisk,
    GetTransferProgress,
    PurgeTrash,
    RebaseDisk,
    RemoveFiles,
    ResizeDisk,
    StorageSpec,
)
from kvmagent.storage.backend import PARTIAL, Images
from kvmagent.storage.children import COPY_LIMIT_S, QUICK_LIMIT_S, Children, refused
from kvmagent.storage.keeper import StorageKeeper, Watched
from kvmagent.storage.qemu_img import (
    check_disk,
    check_format,
    compare_argv,
    convert_argv,
    info_argv,
    parse_info,
    same_image,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """An image that is to be made: of `size` bytes inside where that is known, or by copying `bytes`."""

    name: str
    format: str
    backing: str | None
    size: int | None
    bytes: int | None = None


class Disks:
    """Makes, changes and moves disk images. `fleet_ca` is the authority that other agents are checked by."""

    def __init__(self, keeper: StorageKeeper, children: Children, fleet_ca: Path) -> None:
        self._keeper = keeper
        self._children = children
        self._fleet_ca = fleet_ca
        self._making = Turns()
        """Held while a file is made: two jobs that want the same image have it fetched once."""

    async def capacity(self, spec: StorageSpec) -> Capacity:
        """Return a storage's capacity."""

        async def work(storage: Watched) -> Capacity:
            return await storage.images.capacity()

        return await self._keeper.use(spec, work)

    async def create(self, command: CreateDisk) -> DiskReply:
        """Make an image, empty or on another one."""
        check_format(command.format)
        if command.size is None and command.backing is None:
            raise refused(f"{command.path} has neither a size nor an image below it", "report it")
        wanted = Wanted(command.path, command.format, command.backing, command.size)
        below = [command.backing] if command.backing is not None else []

        async def work(storage: Watched) -> DiskReply:
            images = storage.images

            async def fill(_partial: str) -> None:
                await images.create(
                    command.path, command.size, command.format, command.backing, command.backing_format
                )

            async with images.opened(*below, chain=True, shared=True):
                return await self._make(images, wanted, fill)

        return await self._keeper.use(command.storage, work)

    async def get(self, command: GetDisk) -> DiskReply:
        """Return what an image is."""

        async def work(storage: Watched) -> DiskReply:
            async with storage.images.opened(command.path, shared=True):
                return await _described(storage.images, command.path, command.format)

        return await self._keeper.use(command.storage, work)

    async def resize(self, command: ResizeDisk) -> DiskReply:
        """Make an image larger."""

        async def work(storage: Watched) -> DiskReply:
            images = storage.images
            async with images.opened(command.path, chain=True):
                found = await _described(images, command.path, command.format)
                if found.size > command.size:
                    raise _smaller(command, found)
                if found.size < command.size:
                    async with _explained(images, command.path):
                        await images.resize(command.path, command.size, command.format)
                return await _described(images, command.path, command.format)

        return await self._keeper.use(command.storage, work)

    async def rebase(self, command: RebaseDisk) -> DiskReply:
        """Put an image onto another one, or onto none; it shows the same content at every moment."""
        below = [command.backing] if command.backing is not None else []

        async def work(storage: Watched) -> DiskReply:
            images = storage.images
            async with images.opened(command.path, *below, chain=True), _explained(images, command.path):
                return await images.rebase(command.path, command.backing, command.backing_format)

        return await self._keeper.use(command.storage, work)

    async def remove(self, command: RemoveFiles) -> list[str]:
        """Remove files and folders, or move them to the trash; return what has to stay there.

        What is not whole is removed alone only when nobody makes a whole one of it.
        """

        async def work(storage: Watched) -> list[str]:
            async with AsyncExitStack() as stack:
                for path in command.paths:
                    whole = path.removesuffix(PARTIAL)
                    if whole not in command.paths:
                        made = self._making.of(storage.images.path(whole))
                        await stack.enter_async_context(made)
                return await storage.images.remove(command.paths, command.trash)

        return await self._keeper.use(command.storage, work)

    async def purge(self, command: PurgeTrash) -> int:
        """Remove what has been in the trash for long; return how many folders that were."""

        async def work(storage: Watched) -> int:
            return await storage.images.purge(command.older_than_s)

        return await self._keeper.use(command.storage, work)

    async def digest(self, spec: StorageSpec, name: str) -> tuple[int, str]:
        """Return the size and the SHA-256 of an image as it is copied."""

        async def work(storage: Watched) -> tuple[int, str]:
            images = storage.images
            async with images.opened(name, chain=True, shared=True):
                length = await images.length(name)
                found = await self._children.do("sha256", COPY_LIMIT_S, path=images.path(name), length=length)
            return int(found["size"]), str(found["sha256"])

        return await self._keeper.use(spec, work)

    async def fetch(self, command: FetchFile) -> DiskReply:
        """Fetch an image from another agent or an image store."""
        check_format(command.format)
        wanted = Wanted(command.path, command.format, command.backing, None, command.size)
        converts = command.source_format not in (None, command.format)

        async def bring(partial: str) -> None:
            ca = command.ca
            if ca is None:
                ca = await asyncio.to_thread(self._fleet_ca.read_text)
            await self._children.do(
                "fetch",
                COPY_LIMIT_S,
                url=command.url,
                ca=ca,
                partial=partial,
                size=command.size,
                sha256=command.sha256,
                token=command.token,
            )

        async def work(storage: Watched) -> DiskReply:
            images, came = storage.images, command.path + SOURCE

            async def bring_and_convert(partial: str) -> None:
                path, source_format = images.path(came), str(command.source_format)
                await bring(path)
                found = parse_info(
                    (await self._children.run(info_argv(path, source_format), QUICK_LIMIT_S)).check().stdout
                )
                check_disk(found, command.path, source_format, None)
                await self._convert(path, source_format, partial, command.format)
                await images.remove([came], None)

            return await self._make(images, wanted, bring_and_convert if converts else bring)

        return await self._keeper.use(command.storage, work)

    async def copy(self, command: CopyFile) -> DiskReply:
        """Copy an image between two storages of this host."""
        check_format(command.format)

        if command.source.uuid == command.storage.uuid:
            raise refused(f"{command.path} is on the storage that it is to be copied from", "report it")

        async def work(source: Watched, target: Watched) -> DiskReply:
            path, source_format = source.images.path(command.source_path), command.source_format
            async with source.images.opened(command.source_path, chain=True, shared=True):
                if source_format not in (None, command.format):
                    found = await source.images.describe(command.source_path, str(source_format))
                    length, whole = None, found.size
                else:
                    length = await source.images.length(command.source_path)
                    whole = length or int(await self._children.do("size", QUICK_LIMIT_S, path=path))
                wanted = Wanted(command.path, command.format, command.backing, None, whole)

                async def fill(partial: str) -> None:
                    if source_format not in (None, command.format):
                        await self._convert(path, source_format, partial, command.format)
                        return
                    await self._children.do("copy", COPY_LIMIT_S, source=path, partial=partial, length=length)

                return await self._make(target.images, wanted, fill)

        return await self._with_both(command.source, command.storage, work)

    async def _convert(self, source: str, source_format: str, target: str, target_format: str) -> None:
        """Write what an image shows, with what it stands on, as another format, and read it back."""
        for argv in (
            convert_argv(source, source_format, target, target_format),
            compare_argv(source, source_format, target, target_format),
        ):
            (await self._children.run(argv, COPY_LIMIT_S)).check()

    async def _with_both(
        self, one: StorageSpec, other: StorageSpec, work: Callable[[Watched, Watched], Awaitable[T]]
    ) -> T:
        """Do something on two storages; all wait for them in the same order, so that none waits for ever."""
        first, second = sorted((one, other), key=lambda spec: spec.uuid)

        async def with_first(a: Watched) -> T:
            async def with_second(b: Watched) -> T:
                return await (work(a, b) if a.spec.uuid == one.uuid else work(b, a))

            return await self._keeper.use(second, with_second)

        return await self._keeper.use(first, with_first)

    async def progress(self, command: GetTransferProgress) -> int:
        """Return how many bytes of a file that is under way have arrived."""

        async def work(storage: Watched) -> int:
            return await storage.images.arrived(command.path)

        return await self._keeper.use(command.storage, work)

    async def _make(
        self, images: Images, wanted: Wanted, fill: Callable[[str], Awaitable[None]]
    ) -> DiskReply:
        """Have `fill` write an image; it gets its name when it is what it has to be, and is on disk."""
        async with self._making.of(images.path(wanted.name)):
            return await self._make_alone(images, wanted, fill)

    async def _make_alone(
        self, images: Images, wanted: Wanted, fill: Callable[[str], Awaitable[None]]
    ) -> DiskReply:
        name, backing = wanted.name, images.below(wanted.name, wanted.backing)
        if await images.exists(name):
            async with images.opened(name, shared=True):
                found = await _described(images, name, wanted.format)
            return check_disk(found, name, wanted.format, backing)
        await images.make_room(name, wanted.size, wanted.format, wanted.bytes)
        async with images.opened(name + PARTIAL):
            async with _explained(images, name):
                await fill(images.path(name + PARTIAL))
            found = await _described(images, name + PARTIAL, wanted.format)
            if found.backing != backing and same_image(found.backing, backing):
                # It comes from a storage of another kind, where what is below has another name.
                await images.readdress(name, backing)
                found = await _described(images, name + PARTIAL, wanted.format)
            check_disk(found, name, wanted.format, backing)
            if wanted.bytes is not None:
                await images.grow(name + PARTIAL, found.size, wanted.format)
        await images.publish(name)
        return found


@asynccontextmanager
async def _explained(images: Images, name: str) -> AsyncIterator[None]:
    """Have an error say that the storage is full, where that is what it comes from."""
    try:
        yield
    except HardpointError as error:
        raise await images.explained(name, error) from error


async def _described(images: Images, name: str, disk_format: str) -> DiskReply:
    check_format(disk_format)
    return await images.describe(name, disk_format)


def _smaller(command: ResizeDisk, found: DiskReply) -> HardpointError:
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"{command.path} has {found.size} bytes and cannot become smaller ({command.size})",
        remedy=f"give {found.size} or more",
        blame=Blame.CALLER,
    )
