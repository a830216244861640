"""Disk images on a storage: each is made under another name and gets its own when it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from agentkit.errors import Blame, HardpointError
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
    create_argv,
    info_argv,
    parse_info,
    readdress_argv,
    rebase_argv,
    resize_argv,
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
        self._making: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
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

            async def fill(partial: str) -> None:
                backing = images.below(command.path, command.backing)
                argv = create_argv(partial, command.format, command.size, backing, command.backing_format)
                (await self._children.run(argv, QUICK_LIMIT_S)).check()

            async with images.opened(*below, chain=True, shared=True):
                return await self._make(images, wanted, fill)

        return await self._keeper.use(command.storage, work)

    async def get(self, command: GetDisk) -> DiskReply:
        """Return what an image is."""

        async def work(storage: Watched) -> DiskReply:
            async with storage.images.opened(command.path, shared=True):
                return await self._info(storage.images, command.path, command.format)

        return await self._keeper.use(command.storage, work)

    async def resize(self, command: ResizeDisk) -> DiskReply:
        """Make an image larger."""

        async def work(storage: Watched) -> DiskReply:
            images = storage.images
            path = images.path(command.path)
            async with images.opened(command.path, chain=True):
                found = await self._info(images, command.path, command.format)
                if found.size > command.size:
                    raise _smaller(command, found)
                if found.size < command.size:
                    await images.grow(command.path, command.size, command.format)
                    argv = resize_argv(path, command.format, command.size)
                    (await self._children.run(argv, QUICK_LIMIT_S)).check()
                return await self._info(images, command.path, command.format)

        return await self._keeper.use(command.storage, work)

    async def rebase(self, command: RebaseDisk) -> DiskReply:
        """Put an image onto another one; it shows the same content at every moment."""
        below = [command.backing] if command.backing is not None else []

        async def work(storage: Watched) -> DiskReply:
            images = storage.images
            path, backing = images.path(command.path), images.below(command.path, command.backing)
            async with images.opened(command.path, *below, chain=True):
                found = await self._info(images, command.path, "qcow2")
                if found.backing != backing:
                    await images.grow(command.path, found.size, "qcow2", full=True)
                    argv = rebase_argv(path, backing, command.backing_format)
                    (await self._children.run(argv, COPY_LIMIT_S)).check()
                found = await self._info(images, command.path, "qcow2")
                return check_disk(found, command.path, "qcow2", backing)

        return await self._keeper.use(command.storage, work)

    async def remove(self, command: RemoveFiles) -> None:
        """Remove files and folders, or move them to the trash.

        What is not whole is removed alone only when nobody makes a whole one of it.
        """

        async def work(storage: Watched) -> None:
            async with AsyncExitStack() as stack:
                for path in command.paths:
                    whole = path.removesuffix(PARTIAL)
                    if whole not in command.paths:
                        made = self._made(storage.images.path(whole))
                        await stack.enter_async_context(made)
                await storage.images.remove(command.paths, command.trash)

        await self._keeper.use(command.storage, work)

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

        async def fill(partial: str) -> None:
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
            return await self._make(storage.images, wanted, fill)

        return await self._keeper.use(command.storage, work)

    async def copy(self, command: CopyFile) -> DiskReply:
        """Copy an image between two storages of this host."""
        check_format(command.format)

        if command.source.uuid == command.storage.uuid:
            raise refused(f"{command.path} is on the storage that it is to be copied from", "report it")

        async def work(source: Watched, target: Watched) -> DiskReply:
            path = source.images.path(command.source_path)
            async with source.images.opened(command.source_path, chain=True, shared=True):
                length = await source.images.length(command.source_path)
                whole = length or await self._children.do("size", QUICK_LIMIT_S, path=path)
                wanted = Wanted(command.path, command.format, command.backing, None, int(whole))

                async def fill(partial: str) -> None:
                    await self._children.do("copy", COPY_LIMIT_S, source=path, partial=partial, length=length)

                return await self._make(target.images, wanted, fill)

        return await self._with_both(command.source, command.storage, work)

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
        async with self._made(images.path(wanted.name)):
            return await self._make_alone(images, wanted, fill)

    def _made(self, path: str) -> asyncio.Lock:
        return self._making.setdefault(path, asyncio.Lock())

    async def _make_alone(
        self, images: Images, wanted: Wanted, fill: Callable[[str], Awaitable[None]]
    ) -> DiskReply:
        name, backing = wanted.name, images.below(wanted.name, wanted.backing)
        if await images.exists(name):
            async with images.opened(name, shared=True):
                found = await self._info(images, name, wanted.format)
            return check_disk(found, name, wanted.format, backing)
        await images.make_room(name, wanted.size, wanted.format, wanted.bytes)
        partial = images.path(name + PARTIAL)
        async with images.opened(name + PARTIAL):
            await fill(partial)
            found = await self._info(images, name + PARTIAL, wanted.format)
            if found.backing != backing and same_image(found.backing, backing):
                # It comes from a storage of another kind, where what is below has another name.
                (await self._children.run(readdress_argv(partial, backing), QUICK_LIMIT_S)).check()
                found = await self._info(images, name + PARTIAL, wanted.format)
            check_disk(found, name, wanted.format, backing)
            if wanted.bytes is not None:
                await images.grow(name + PARTIAL, found.size, wanted.format)
        await images.publish(name)
        return found

    async def _info(self, images: Images, name: str, disk_format: str) -> DiskReply:
        check_format(disk_format)
        argv = info_argv(images.path(name), disk_format)
        found = parse_info((await self._children.run(argv, QUICK_LIMIT_S)).check().stdout)
        found.actual_size = await images.taken(name, found.actual_size)
        return found


def _smaller(command: ResizeDisk, found: DiskReply) -> HardpointError:
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"{command.path} has {found.size} bytes and cannot become smaller ({command.size})",
        remedy=f"give {found.size} or more",
        blame=Blame.CALLER,
    )
