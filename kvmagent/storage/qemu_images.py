"""What images that `qemu-img` reads by their path have in common: files, and logical volumes."""

from __future__ import annotations

from abc import ABC, abstractmethod

from agentkit.errors import HardpointError
from kvmagent.protocol_storage import DiskReply
from kvmagent.storage.backend import PARTIAL
from kvmagent.storage.children import COPY_LIMIT_S, QUICK_LIMIT_S, Children
from kvmagent.storage.qemu_img import (
    check_disk,
    create_argv,
    info_argv,
    parse_info,
    readdress_argv,
    rebase_argv,
    resize_argv,
)


class QemuImages(ABC):
    """Makes, describes and changes images; see `Images`."""

    _children: Children

    @abstractmethod
    def path(self, name: str) -> str:
        """See `Images`."""

    @abstractmethod
    def below(self, name: str, backing: str | None) -> str | None:
        """See `Images`."""

    @abstractmethod
    async def grow(self, name: str, size: int, disk_format: str, *, full: bool = False) -> None:
        """See `Images`."""

    @abstractmethod
    async def taken(self, name: str, told: int) -> int:
        """See `Images`."""

    async def describe(self, name: str, disk_format: str) -> DiskReply:
        """Ask qemu-img; the chain below is not opened."""
        argv = info_argv(self.path(name), disk_format)
        found = parse_info((await self._children.run(argv, QUICK_LIMIT_S)).check().stdout)
        found.actual_size = await self.taken(name, found.actual_size)
        return found

    async def create(
        self, name: str, size: int | None, disk_format: str, backing: str | None, backing_format: str
    ) -> None:
        """Have qemu-img write a header."""
        below = self.below(name, backing)
        argv = create_argv(self.path(name + PARTIAL), disk_format, size, below, backing_format)
        (await self._children.run(argv, QUICK_LIMIT_S)).check()

    async def resize(self, name: str, size: int, disk_format: str) -> None:
        """Have room, then have qemu-img write the size."""
        await self.grow(name, size, disk_format)
        (await self._children.run(resize_argv(self.path(name), disk_format, size), QUICK_LIMIT_S)).check()

    async def rebase(self, name: str, backing: str | None, backing_format: str) -> DiskReply:
        """Have qemu-img copy what the other one lacks."""
        below, found = self.below(name, backing), await self.describe(name, "qcow2")
        if found.backing != below:
            await self.grow(name, found.size, "qcow2", full=True)
            argv = rebase_argv(self.path(name), below, backing_format)
            (await self._children.run(argv, COPY_LIMIT_S)).check()
        return check_disk(await self.describe(name, "qcow2"), name, "qcow2", below)

    async def readdress(self, name: str, backing: str | None) -> None:
        """Write another name of the same image below into the partial image's header."""
        argv = readdress_argv(self.path(name + PARTIAL), backing)
        (await self._children.run(argv, QUICK_LIMIT_S)).check()

    async def explained(self, name: str, error: HardpointError) -> HardpointError:
        """The operating system has said it."""
        return error
