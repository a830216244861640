"""The images of a Ceph storage: RBD images, and clones of protected snapshots of them.

What a volume is made on has a snapshot that is called as the image above it. An image of the cache has one
snapshot only, of its own name, which all volumes of it are clones of. It may be a clone itself, of an image
of a backup storage in the same cluster: that one's pool can be read only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from agentkit.errors import HardpointError
from agentkit.rbd import SLOW_LIMIT_S, ClusterUse, Image, Parent, Pool, Rbd, Trashed
from agentkit.rbd_removal import remove_image, remove_snapshot
from kvmagent.protocol_ceph import OWN_IMAGE, RAW, CephCluster, RbdPlace, backup_place, rbd_place
from kvmagent.protocol_storage import Capacity, DiskReply
from kvmagent.storage.backend import PARTIAL, check_name
from kvmagent.storage.children import refused
from kvmagent.storage.qemu_img import check_format

log = logging.getLogger(__name__)

_QUIET = "--no-progress"


class _Used(msgspec.Struct):
    """An image in `rbd du`; its snapshots are rows of their own."""

    name: str
    used_size: int
    snapshot: str | None = None


class _Usage(msgspec.Struct):
    images: list[_Used]


class RbdImages:
    """Images in the pools of a cluster; see `Images`."""

    def __init__(self, uuid: str, cluster: CephCluster, rbd: Rbd) -> None:
        self._uuid = uuid
        self._cluster = cluster
        self._rbd = rbd

    def place(self, name: str) -> RbdPlace:
        """Return where an image is. Raises HardpointError (SYS.1006) for a name that none can have."""
        found = rbd_place(self._cluster, check_name(self._uuid, name))
        if found is None:
            raise refused(f"'{name}' is no image of the Ceph storage {self._uuid}", "report it")
        return found

    def path(self, name: str) -> str:
        """Return what qemu-img and the workers open."""
        place = self.place(name)
        return self._rbd.address(place.pool, place.image)

    def below(self, name: str, backing: str | None) -> str | None:
        """Return the pool and the image."""
        return None if backing is None else self._standing(backing).named

    def _standing(self, name: str) -> RbdPlace:
        """Return where an image is that others may stand on: a backup storage's, too."""
        return backup_place(name) or self.place(name)

    @asynccontextmanager
    async def opened(self, *names: str, chain: bool = False, shared: bool = False) -> AsyncIterator[None]:
        """They can be opened whenever the cluster answers."""
        for name in names:
            self._standing(name)
        yield

    async def exists(self, name: str) -> bool:
        """Say whether there is an image."""
        return await self._find(self.place(name)) is not None

    async def make_room(self, name: str, size: int | None, disk_format: str, length: int | None) -> None:
        """Have nothing under the partial name: room comes as it is needed."""
        _check_raw(name, disk_format)
        place = self.place(name + PARTIAL)
        await self._drop(place.pool, [place.image])

    async def describe(self, name: str, disk_format: str) -> DiskReply:
        """Ask `rbd`."""
        _check_raw(name, disk_format)
        place = self.place(name)
        found = await self._find(place)
        if found is None:
            raise refused(f"there is no RBD image {place.named}", "see whether somebody has removed it")
        below = f"{found.parent.pool}/{found.parent.image}" if found.parent is not None else None
        used = await self._used(place, found)
        return DiskReply(size=found.size, actual_size=used, format=RAW, backing=below)

    async def _used(self, place: RbdPlace, image: Image) -> int:
        """Return what an image takes; one that would have to be read for that takes all of its size."""
        if "fast-diff" not in image.features:
            return image.size
        found = await self._rbd.find(_Usage, "du", place.named)
        own = [row.used_size for row in found.images if row.snapshot is None] if found is not None else []
        return sum(own)

    async def create(
        self, name: str, size: int | None, disk_format: str, backing: str | None, backing_format: str
    ) -> None:
        """Make an empty image, or a clone of a snapshot of the one below."""
        place = self.place(name + PARTIAL)
        if backing is None:
            await self._rbd.rbd("create", "--size", f"{size}B", place.named)
            return
        if backing_format != RAW:
            raise refused(f"{backing} cannot be {backing_format}: RBD images are raw", "report it")
        below = self._standing(backing)
        snapshot = below.image
        if backup_place(backing) is None:
            cached = below.pool == self._cluster.cache_pool
            snapshot = below.image if cached else self.place(name).image
            await self._protect(below, snapshot, alone=not cached)
        await self._rbd.rbd("clone", f"{below.named}@{snapshot}", place.named)
        made = await self._find(place)
        if size is not None and made is not None and made.size < size:
            await self._resize(place, size)

    async def _protect(self, below: RbdPlace, name: str, *, alone: bool) -> None:
        """Have a protected snapshot that an image can be a clone of; `alone`: with no others beside it."""
        found = await self._find(below)
        if found is None:
            raise refused(f"there is no RBD image {below.named} to make another one on", "report it")
        known = {each.name: each for each in await self._rbd.snapshots(below.pool, found.id)}
        if alone:  # others that nothing is a clone of are of attempts that came to nothing
            for other in known.keys() - {name}:
                await remove_snapshot(self._rbd, f"{below.named}@{other}", known[other])
        if name not in known:
            await self._rbd.rbd("snap", "create", f"{below.named}@{name}", _QUIET)
        if name not in known or not known[name].is_protected:
            await self._rbd.rbd("snap", "protect", f"{below.named}@{name}")

    async def resize(self, name: str, size: int, disk_format: str) -> None:
        """Write the size."""
        await self._resize(self.place(name), size)

    async def _resize(self, place: RbdPlace, size: int) -> None:
        await self._rbd.rbd("resize", "--size", f"{size}B", place.named, _QUIET)

    async def rebase(self, name: str, backing: str | None, backing_format: str) -> DiskReply:
        """Have an image stand on nothing, unless it stands on the other one: clones cannot be moved."""
        place = self.place(name)
        found = await self.describe(name, RAW)
        if found.backing is not None and found.backing != self.below(name, backing):
            image = await self._find(place)
            await self._rbd.rbd("flatten", place.named, _QUIET, limit_s=SLOW_LIMIT_S)
            if image is not None and image.parent is not None:
                await self._release(image.parent)
        return await self.describe(name, RAW)

    async def readdress(self, name: str, backing: str | None) -> None:
        """Images name no other ones."""

    async def grow(self, name: str, size: int, disk_format: str, *, full: bool = False) -> None:
        """Room comes as it is needed."""

    async def taken(self, name: str, told: int) -> int:
        """`describe` has said it."""
        return told

    async def length(self, name: str) -> int | None:
        """Return the size."""
        found = await self._find(self.place(name))
        return found.size if found is not None else 0

    async def arrived(self, name: str) -> int:
        """Return how large the image is that `rbd import` makes larger as it goes."""
        found = await self._find(self.place(name + PARTIAL))
        return found.size if found is not None else 0

    async def publish(self, name: str) -> None:
        """Rename it; an image of the cache gets the snapshot that volumes will be clones of."""
        partial, place = self.place(name + PARTIAL), self.place(name)
        if place.pool == self._cluster.cache_pool and name.startswith("imagecache/"):
            await self._protect(partial, place.image, alone=False)
        await self._rbd.rbd("rename", partial.named, place.named)

    async def explained(self, name: str, error: HardpointError) -> HardpointError:
        """Ask whether the pool is full: what waits for room ends after a while, and says nothing of it."""
        pool = self.place(name).pool
        with contextlib.suppress(HardpointError):
            said = (await self._rbd.ceph("osd", "pool", "ls", "detail")).stdout
            pools = msgspec.json.decode(said, type=list[Pool])
            if any(each.pool_name == pool and each.is_full for each in pools):
                return HardpointError(
                    "PS.1000",
                    "Not enough room on the primary storage",
                    f"the Ceph cluster is full: pool {pool} takes no more data ({error.details})",
                    remedy="add OSDs, or delete what is not needed; see `ceph health detail`",
                )
        return error

    async def remove(self, names: list[str], trash: str | None) -> list[str]:
        """Remove images and folders of them, or put them into the trash of their pool.

        What others are clones of goes into the trash, too, and is removed after them. Returned are the cached
        images that are there still, as clones of them are in the trash.
        """
        going: dict[str, set[str]] = {}
        for name in names:
            place = self.place(name)
            found = [place.image]
            if place.is_folder:
                found += [image for image in await self._rbd.names(place.pool) if place.has(image)]
            going.setdefault(place.pool, set()).update(found)
        for pool, images in going.items():
            left = sorted(images) if trash is not None else await self._drop(pool, images)
            for image in left:
                done = await self._rbd.try_rbd("trash", "mv", f"{pool}/{image}", "--expires-at", "now")
                if done.returncode != errno.ENOENT:
                    done.check()
        pool = self._cluster.cache_pool
        trashed = {each.name for each in await self._rbd.trash(pool)} if pool in going else set()
        return sorted(f"{pool}/{image}" for image in trashed & going.get(pool, set()))

    async def purge(self, older_than_s: int) -> int:
        """Remove what was put into the trash before, and is below nothing."""
        removed = set[str]()
        for pool in self._cluster.pools:
            due = [each for each in await self._rbd.trash(pool) if _is_old(each, older_than_s)]
            while due:
                left = []
                for image in due:
                    parent = await self._rbd.find(Image, "info", "-p", pool, "--image-id", image.id)
                    if await self._rbd.remove_trashed(pool, image) is None:
                        left.append(image)
                        continue
                    removed.add(image.name.partition(".")[0])
                    if parent is not None and parent.parent is not None:
                        await self._release(parent.parent)
                due = left if len(left) < len(due) else []
        return len(removed)

    async def capacity(self) -> Capacity:
        """Ask the cluster what its pools have and may still get; they share its disks."""
        use = msgspec.json.decode((await self._rbd.ceph("df")).stdout, type=ClusterUse)
        mine = [pool.stats for pool in use.pools if pool.name in self._cluster.pools]
        available = max((stats.max_avail for stats in mine), default=0)
        return Capacity(total=available + sum(stats.stored for stats in mine), available=available)

    async def _find(self, place: RbdPlace) -> Image | None:
        return await self._rbd.image(place.pool, place.image)

    async def _drop(self, pool: str, images: Iterable[str]) -> list[str]:
        """Remove images, clones before what they are clones of; return those that others are clones of."""
        left = sorted(images)
        while left:
            stay = [image for image in left if not await self._drop_one(pool, image)]
            if len(stay) == len(left):
                log.info("images stay while others are clones of them", extra={"pool": pool, "images": stay})
                return stay
            left = stay
        return []

    async def _drop_one(self, pool: str, name: str) -> bool:
        image = await self._rbd.image(pool, name)
        if not await remove_image(self._rbd, pool, name):
            return False
        if image is not None and image.parent is not None:
            await self._release(image.parent)
        return True

    async def _release(self, parent: Parent) -> None:
        """Remove the snapshot that an image was a clone of, unless the cache or a backup storage keeps it."""
        if parent.pool in self._cluster.pools and parent.snapshot != parent.image:
            await remove_snapshot(self._rbd, f"{parent.pool}/{parent.image}@{parent.snapshot}")


def _check_raw(name: str, disk_format: str) -> None:
    check_format(disk_format)
    if disk_format != RAW:
        raise refused(f"{name} cannot be {disk_format}: images of a Ceph storage are raw", "report it")


def _is_old(image: Trashed, older_than_s: int) -> bool:
    """Say whether an image of this project was put into the trash before that many seconds."""
    if not image.is_due or OWN_IMAGE.fullmatch(image.name) is None:
        return False
    deleted = datetime.strptime(image.deleted_at, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    return time.time() - deleted.timestamp() > older_than_s
