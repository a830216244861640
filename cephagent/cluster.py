"""The cluster as its programs show it: `ceph` and `rbd` with the administrator's key of this server."""

from __future__ import annotations

import errno
import json
import logging
import shlex
from typing import Any, TypeVar

import msgspec

from agentkit.errors import HardpointError
from agentkit.runner import CommandError, Completed, Runner, last_lines
from cephagent import parsing
from cephagent.parsing import Image, Snapshot, Trashed
from cephagent.protocol import ClusterReport, KeyReply

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
QUICK_LIMIT_S = 60.0
SLOW_LIMIT_S = 24 * 3600.0


class Ceph:
    """Runs the programs; errors are HardpointError (SYS.1006) that name what was asked for."""

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

    async def report(self) -> ClusterReport:
        """Look at the cluster. Raises HardpointError when it does not answer."""
        done = await self._batch(*parsing.QUESTIONS)
        try:
            return parsing.parse_report(done.stdout.decode(), await self._addresses())
        except (ValueError, msgspec.ValidationError) as error:
            reason = f"{error}{last_lines(done)}"
            raise _refused(f"the Ceph cluster answers what is not understood: {reason}") from error

    async def add_pool(self, pool: str, owner: str, *, create: bool) -> None:
        """Make a pool, or find it."""
        found = await self._owner(pool)
        if found is None and not create:
            raise _refused(
                f"there is no pool {pool} on the Ceph cluster",
                "name one of `ceph osd pool ls`, or leave the name out to have one made",
            )
        if found is not None and not create:
            return
        if found is None:
            await self._batch(
                f"osd pool create {pool}",  # with as many placement groups as the cluster says
                f"osd pool application enable {pool} rbd",
                f"osd pool application set {pool} rbd hardpoint {owner}",
            )
            found = await self._owner(pool)
        if found != owner:
            raise _refused(f"there is a pool {pool} on the Ceph cluster already", "choose another name")
        await self.rbd("pool", "init", pool)

    async def remove_pool(self, pool: str, owner: str) -> bool:
        """Remove a pool that `owner` made; say whether it was."""
        if await self._owner(pool) != owner:
            return False
        await self._ceph("osd", "pool", "delete", pool, pool, "--yes-i-really-really-mean-it")
        return True

    async def give_key(self, user: str, pools: list[str], readable: list[str]) -> KeyReply:
        """Make a client, or change what it may do; its key comes on standard output only."""
        entity = f"client.{user}"
        wanted = shlex.join(parsing.capabilities(pools, readable))
        done = await self._batch(
            f"auth get-or-create {entity}",
            f"auth caps {entity} {wanted}",
            f"auth get-key {entity}",
            "mon dump",
        )
        try:
            found = parsing.documents(done.stdout.decode())
            key, dump = found[-2]["key"], found[-1]
            mons = parsing.mon_hosts(dump)
        except (ValueError, LookupError, TypeError, msgspec.ValidationError):
            raise _refused(f"the Ceph cluster gives no key for {entity}{last_lines(done)}") from None
        return KeyReply(user=user, key=key, fsid=dump["fsid"], mons=mons)

    async def take_key(self, user: str) -> None:
        """Remove a client."""
        await self._ceph("auth", "rm", f"client.{user}")

    async def rbd(self, *words: str, limit_s: float = QUICK_LIMIT_S) -> Completed:
        """Run `rbd`."""
        return _checked(await self.try_rbd(*words, limit_s=limit_s))

    async def try_rbd(self, *words: str, limit_s: float = QUICK_LIMIT_S) -> Completed:
        """Run `rbd` and return how it ended; its exit code is a number of errno."""
        return await self._runner.run(self.rbd_argv(*words), timeout_s=limit_s)

    async def names(self, pool: str) -> list[str]:
        """Return the names of a pool's images."""
        return await self._read(list[str], "ls", "-p", pool)

    async def image(self, pool: str, name: str) -> Image | None:
        """Return an image, None when there is none."""
        return await self._find(Image, "info", f"{pool}/{name}")

    async def note(self, pool: str, name: str, key: str) -> str | None:
        """Return a note of an image, None when there is none."""
        found = await self._find(dict[str, str], "image-meta", "ls", f"{pool}/{name}")
        return found.get(key) if found else None

    async def trash(self, pool: str) -> list[Trashed]:
        """Return what is in a pool's trash."""
        return await self._read(list[Trashed], "trash", "ls", pool, "--long")

    async def snapshots(self, pool: str, image_id: str) -> list[Snapshot]:
        """Return the snapshots of an image, which may be in the trash."""
        return await self._read(list[Snapshot], "snap", "ls", "-p", pool, "--image-id", image_id)

    async def run_qemu_img(self, *words: str, limit_s: float) -> None:
        """Run `qemu-img`."""
        argv = ["setpriv", "--pdeathsig", "KILL", "qemu-img", *words]
        _checked(await self._runner.run(argv, timeout_s=limit_s))

    async def _owner(self, pool: str) -> str | None:
        done = await self._ceph("osd", "pool", "ls", "detail")
        return parsing.pool_owner(done.stdout.decode(), pool)

    async def _read(self, kind: type[T], *words: str) -> T:
        done = await self.rbd(*words, "--format", "json")
        return msgspec.json.decode(done.stdout or b"null", type=kind)

    async def _find(self, kind: type[T], *words: str) -> T | None:
        """Read, or return None when there is no such thing."""
        done = await self.try_rbd(*words, "--format", "json")
        if done.returncode == errno.ENOENT:
            return None
        return msgspec.json.decode(_checked(done).stdout or b"null", type=kind)

    async def _batch(self, *lines: str) -> Completed:
        """Run several commands in one process, which takes a second to start; none says that it failed."""
        return await self._ceph(input="".join(f"{line}\n" for line in lines).encode())

    async def _ceph(self, *words: str, **options: Any) -> Completed:
        argv = ["ceph", "-c", self._configuration, "--id", self._user]
        argv += ["--connect-timeout", str(CONNECT_TIMEOUT_S), "--format", "json", *words]
        return _checked(await self._runner.run(argv, timeout_s=QUICK_LIMIT_S, **options))

    async def _addresses(self) -> list[str]:
        """Return the addresses of this server."""
        try:
            done = (await self._runner.run(["ip", "-j", "addr"], timeout_s=QUICK_LIMIT_S)).check()
        except CommandError:
            return []
        links = json.loads(done.stdout or b"[]")
        return sorted({each["local"] for link in links for each in link.get("addr_info", [])})


def _checked(done: Completed) -> Completed:
    if done.returncode == 0:
        return done
    said = last_lines(done)
    if "timed out" in said or "error connecting to the cluster" in said:
        raise _refused(
            f"the Ceph cluster does not answer{said}",
            "see that most of its monitors run and can be reached (`ceph status` on a monitor)",
        )
    if done.returncode == errno.ENOSPC:
        raise full(f"the Ceph cluster says so{said}")
    done.check()
    return done


def full(reason: str) -> HardpointError:
    """Return the error of a cluster that has no room."""
    return HardpointError(
        "BS.1003",
        "Not enough capacity",
        f"the Ceph cluster is full: {reason}",
        remedy="add OSDs, or delete what is not needed; see `ceph health detail`",
    )


def _refused(details: str, remedy: str = "see `ceph status` on the monitor") -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)
