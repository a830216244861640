"""The images of a shared-block storage: logical volumes, active while they are worked on."""

from __future__ import annotations

import posixpath
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from kvmagent.protocol_storage import Capacity
from kvmagent.shared_block.activations import Activations
from kvmagent.shared_block.group import EXCLUSIVE, VolumeGroup
from kvmagent.shared_block.names import (
    PARTIAL_TAG,
    Volume,
    first_size,
    full_size,
    lv_name,
    path_tag,
    rounded,
    trash_tag,
    trashed_lv,
    under,
)
from kvmagent.storage.backend import PARTIAL, check_name
from kvmagent.storage.children import COPY_LIMIT_S, QUICK_LIMIT_S, Children, refused
from kvmagent.storage.qemu_images import QemuImages
from kvmagent.storage.qemu_img import end_argv, info_argv, parse_end, parse_info

CACHE = "imagecache/"
CHAIN_MOST = 512


class LvImages(QemuImages):
    """Images that are logical volumes below `/dev/<storage>/`."""

    def __init__(
        self, group: VolumeGroup, activations: Activations, children: Children, dev: Path = Path("/dev")
    ) -> None:
        self._group = group
        self.activations = activations
        self._children = children
        self._dev = dev / group.uuid
        self.folder = str(self._dev)

    def path(self, name: str) -> str:
        """Return the device of an image, whole or partial."""
        return str(self._dev / lv_name(self._group.uuid, name))

    def below(self, name: str, backing: str | None) -> str | None:
        """Return the device: it is called the same on all hosts."""
        return None if backing is None else self.path(backing)

    @asynccontextmanager
    async def opened(self, *names: str, chain: bool = False, shared: bool = False) -> AsyncIterator[None]:
        """Activate the first image alone, unless `shared`, and what else there is as shared."""
        wanted = list(dict.fromkeys(lv_name(self._group.uuid, name) for name in names))
        there = {volume.lv for volume in await self._group.volumes()}
        tops = [lv for lv in wanted if lv in there]
        async with AsyncExitStack() as stack:
            for number, lv in enumerate(tops):
                await stack.enter_async_context(self.activations.held([lv], shared=shared or number > 0))
                if chain:
                    await self._open_chain(stack, lv)
            yield

    async def _open_chain(self, stack: AsyncExitStack, top: str) -> None:
        lv: str | None = top
        for _ in range(CHAIN_MOST):
            lv = await self._below(lv) if lv is not None else None
            if lv is None:
                return
            await stack.enter_async_context(self.activations.held([lv], shared=True))
        raise refused(f"{top} stands on more than {CHAIN_MOST} images", "delete snapshots of it")

    async def chain(self, lv: str) -> list[str]:
        """Return what an image stands on, which has to be active for that."""
        found: list[str] = []
        async with AsyncExitStack() as stack:
            below = await self._below(lv)
            while below is not None and len(found) < CHAIN_MOST:
                found.append(below)
                await stack.enter_async_context(self.activations.held([below], shared=True))
                below = await self._below(below)
        return found

    async def _below(self, lv: str) -> str | None:
        volume = next((each for each in await self._group.volumes() if each.lv == lv), None)
        if volume is None or volume.name.endswith(".raw"):
            return None
        argv = info_argv(str(self._dev / lv), "qcow2")
        completed = await self._children.run(argv, QUICK_LIMIT_S)
        if completed.returncode != 0:  # one that was made and not written yet
            return None
        backing = parse_info(completed.stdout).backing
        if backing is None:
            return None
        if posixpath.dirname(backing) != str(self._dev):
            raise refused(f"{lv} stands on {backing}, which is outside of its storage", "report it")
        return posixpath.basename(backing)

    async def exists(self, name: str) -> bool:
        """Say whether there is a whole image."""
        found = await self._find(name)
        return found is not None and not found.partial

    async def make_room(self, name: str, size: int | None, disk_format: str, length: int | None) -> None:
        """Make a logical volume that is marked as not whole."""
        lv, wanted = lv_name(self._group.uuid, name), self._group.wanted
        least = first_size(size, length, disk_format, thin=wanted.thin, step=wanted.step_bytes)
        taken = next((each for each in await self._group.volumes() if each.lv == lv), None)
        if taken is not None and taken.trash is not None:
            await self._group.change("lvrename", self._group.uuid, lv, trashed_lv(lv, taken.trash))
            taken = None
        if taken is None:
            tags = ("--addtag", path_tag(name), "--addtag", PARTIAL_TAG)
            size_args = ("-L", f"{least}b", "-n", lv)
            how = ("-q", "-y", "-W", "y", "-a", EXCLUSIVE)
            await self._group.change("lvcreate", *how, *tags, *size_args, self._group.uuid)
        elif taken.size < least:
            await self._extend(lv, least)

    async def publish(self, name: str) -> None:
        """Take the mark away."""
        lv = f"{self._group.uuid}/{lv_name(self._group.uuid, name)}"
        await self._group.change("lvchange", "--deltag", PARTIAL_TAG, lv)

    async def grow(self, name: str, size: int, disk_format: str, *, full: bool = False) -> None:
        """Extend the logical volume where room does not come as it is needed."""
        thin = self._group.wanted.thin and not full and disk_format != "raw"
        if thin or name.startswith(CACHE):
            return
        found = await self._find(name)
        if found is not None and found.size < full_size(size, disk_format):
            await self._extend(found.lv, full_size(size, disk_format))

    async def extend_to(self, lv: str, size: int) -> None:
        """Extend a volume that a VM writes to."""
        await self._extend(lv, rounded(size))

    async def _extend(self, lv: str, size: int) -> None:
        await self._group.change("lvextend", "-q", "-L", f"{size}b", f"{self._group.uuid}/{lv}")

    async def taken(self, name: str, told: int) -> int:
        """Return how large the logical volume is."""
        return int(await self._children.do("size", QUICK_LIMIT_S, path=self.path(name)))

    async def length(self, name: str) -> int | None:
        """Return where a qcow2 image ends: what is behind is of nobody."""
        if name.endswith(".raw"):
            return None
        completed = await self._children.run(end_argv(self.path(name)), COPY_LIMIT_S)
        return parse_end(completed.stdout)

    async def arrived(self, name: str) -> int:
        """Ask up to where the process has got that writes it."""
        return int(await self._children.do("written", QUICK_LIMIT_S, path=self.path(name)))

    async def remove(self, names: list[str], trash: str | None) -> list[str]:
        """Remove logical volumes, or mark and rename them: a volume that is open anywhere is not removed."""
        for name in names:
            check_name(self._group.uuid, name)
        there = await self._group.volumes()
        going = list({each.lv: each for name in names for each in under(there, name)}.values())
        if trash is None:
            await self._drop(going)
            return []
        for volume in going:
            lv = f"{self._group.uuid}/{volume.lv}"
            await self._group.change("lvchange", "--addtag", trash_tag(trash, int(time.time())), lv)
            await self._group.change("lvrename", self._group.uuid, volume.lv, trashed_lv(volume.lv, trash))
        return []

    async def purge(self, older_than_s: int) -> int:
        """Remove what is in the trash for longer."""
        now = time.time()
        old = [
            volume
            for volume in await self._group.volumes()
            if volume.trash is not None and now - volume.trashed_at > older_than_s
        ]
        await self._drop(old)
        return len({volume.trash for volume in old})

    async def _drop(self, volumes: Sequence[Volume]) -> None:
        for volume in volumes:
            await self._group.change("lvremove", "-q", "-f", f"{self._group.uuid}/{volume.lv}")

    async def capacity(self) -> Capacity:
        """Ask the volume group."""
        found = await self._group.report()
        if found is None:
            raise refused(f"the LUNs of the storage {self._group.uuid} hold no such group", "reconnect it")
        return Capacity(total=found.size, available=found.free)

    async def _find(self, name: str) -> Volume | None:
        lv = lv_name(self._group.uuid, name)
        wanted = name.removesuffix(PARTIAL)
        found = (each for each in await self._group.volumes() if each.lv == lv and each.trash is None)
        return next((each for each in found if each.name == wanted), None)
