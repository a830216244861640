"""The programs `rbd` and `ceph` (ADR 19): their commands as argv lists, and what they say as JSON."""

from __future__ import annotations

import errno
import json
from typing import Any, TypeVar

import msgspec

from agentkit.errors import HardpointError
from agentkit.runner import Completed, Runner, last_lines

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
QUICK_LIMIT_S = 60.0
SLOW_LIMIT_S = 24 * 3600.0
_UNREACHABLE = ("timed out", "error connecting to the cluster", "couldn't connect to the cluster")


class Trashed(msgspec.Struct):
    """An image in a pool's trash; `deleted_at` is a time as `ctime` writes it, UTC."""

    id: str
    name: str
    status: str
    deleted_at: str = ""

    @property
    def is_due(self) -> bool:
        """Say whether its time in the trash is over."""
        return not self.status.startswith("protected")


class Snapshot(msgspec.Struct):
    """A snapshot of an image; `protected` is a word."""

    id: int
    name: str
    size: int
    protected: str

    @property
    def is_protected(self) -> bool:
        """Say whether clones may be made of it."""
        return self.protected == "true"


class Parent(msgspec.Struct):
    """What an image is a clone of."""

    pool: str
    image: str
    snapshot: str


class Image(msgspec.Struct):
    """An image: `size` in bytes."""

    name: str
    id: str
    size: int
    parent: Parent | None = None
    features: list[str] = msgspec.field(default_factory=list)


class PoolStats(msgspec.Struct):
    """What `df` says of a pool: bytes of its contents, and bytes that they may still have."""

    stored: int
    max_avail: int


class PoolUse(msgspec.Struct):
    """A pool in `df`."""

    name: str
    stats: PoolStats


class ClusterStats(msgspec.Struct):
    """What `df` says of all disks, in bytes."""

    total_bytes: int
    total_avail_bytes: int


class ClusterUse(msgspec.Struct):
    """What `df` says."""

    stats: ClusterStats
    pools: list[PoolUse]


class Pool(msgspec.Struct):
    """A pool in `osd pool ls detail`; `size` is the number of copies."""

    pool_name: str
    size: int
    flags_names: str = ""
    application_metadata: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Say whether writes to it wait until there is room again."""
        return not {"full", "full_quota"}.isdisjoint(self.flags_names.split(","))


class Rbd:
    """Runs `rbd` and `ceph` as a client of a cluster that a configuration file names.

    Errors are HardpointError (SYS.1006) that name what was asked for.
    """

    def __init__(self, runner: Runner, configuration: str, user: str) -> None:
        self._runner = runner
        self._configuration = configuration
        self._user = user

    def rbd_argv(self, *words: str) -> list[str]:
        """Return a command of `rbd`."""
        return ["rbd", "-c", self._configuration, "--id", self._user, *words]

    def address(self, pool: str, image: str) -> str:
        """Return what `qemu-img` opens an image by."""
        return f"rbd:{pool}/{image}:id={self._user}:conf={self._configuration}"

    def check(self, done: Completed) -> Completed:
        """Return a command that has succeeded; raise what it says otherwise."""
        return checked(done)

    async def rbd(self, *words: str, limit_s: float = QUICK_LIMIT_S) -> Completed:
        """Run `rbd`."""
        return self.check(await self.try_rbd(*words, limit_s=limit_s))

    async def try_rbd(self, *words: str, limit_s: float = QUICK_LIMIT_S) -> Completed:
        """Run `rbd` and return how it ended; its exit code is a number of errno."""
        return await self._runner.run(self.rbd_argv(*words), timeout_s=limit_s, env={"TZ": "UTC"})

    async def ceph(self, *words: str, **options: Any) -> Completed:
        """Run `ceph`, which says it as JSON."""
        argv = ["ceph", "-c", self._configuration, "--id", self._user]
        argv += ["--connect-timeout", str(CONNECT_TIMEOUT_S), "--format", "json", *words]
        return self.check(await self._runner.run(argv, timeout_s=QUICK_LIMIT_S, **options))

    async def names(self, pool: str) -> list[str]:
        """Return the names of a pool's images."""
        return await self._read(list[str], "ls", "-p", pool)

    async def image(self, pool: str, name: str) -> Image | None:
        """Return an image, None when there is none."""
        return await self.find(Image, "info", f"{pool}/{name}")

    async def trash(self, pool: str) -> list[Trashed]:
        """Return what is in a pool's trash."""
        return await self._read(list[Trashed], "trash", "ls", pool, "--long")

    async def snapshots(self, pool: str, image_id: str) -> list[Snapshot]:
        """Return the snapshots of an image, which may be in the trash."""
        return await self._read(list[Snapshot], "snap", "ls", "-p", pool, "--image-id", image_id)

    async def find(self, kind: type[T], *words: str) -> T | None:
        """Read, or return None when there is no such thing."""
        done = await self.try_rbd(*words, "--format", "json")
        if done.returncode == errno.ENOENT:
            return None
        return msgspec.json.decode(self.check(done).stdout or b"null", type=kind)

    async def remove_trashed(self, pool: str, image: Trashed) -> int | None:
        """Remove an image of the trash; return its size as its snapshots have it.

        None: it has to stay, as others are clones of it.
        """
        by_id = ("-p", pool, "--image-id", image.id)
        freed = 0
        for snapshot in await self.snapshots(pool, image.id):
            freed = snapshot.size
            if snapshot.is_protected:
                done = await self.try_rbd("snap", "unprotect", *by_id, "--snap", snapshot.name)
                if done.returncode == errno.EBUSY:
                    return None
                done.check()
        await self.rbd("snap", "purge", *by_id, "--no-progress", limit_s=SLOW_LIMIT_S)
        done = await self.try_rbd("trash", "rm", f"{pool}/{image.id}", "--no-progress", limit_s=SLOW_LIMIT_S)
        if done.returncode == errno.EBUSY:
            return None
        done.check()
        return freed

    async def _read(self, kind: type[T], *words: str) -> T:
        done = await self.rbd(*words, "--format", "json")
        return msgspec.json.decode(done.stdout or b"null", type=kind)


def documents(text: str) -> list[Any]:
    """Return the JSON documents that a text has one after the other. Raises ValueError."""
    decoder, at = json.JSONDecoder(), 0
    found: list[Any] = []
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return found
        document, at = decoder.raw_decode(text, at)
        found.append(document)


def checked(done: Completed) -> Completed:
    """Return a command that has succeeded; raise what a cluster's programs say otherwise."""
    if done.returncode == 0:
        return done
    said = last_lines(done)
    if any(words in said for words in _UNREACHABLE):
        raise refused(
            f"the Ceph cluster does not answer{said}",
            "see that most of its monitors run and can be reached (`ceph status` on a monitor)",
        )
    done.check()
    return done


def refused(details: str, remedy: str = "see `ceph status` on the monitor") -> HardpointError:
    """Return the error of what a cluster does not do."""
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)
