"""The cluster as its programs show it: `ceph` and `rbd` with the administrator's key of this server."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import shlex

import msgspec

from agentkit.errors import HardpointError
from agentkit.rbd import QUICK_LIMIT_S, Rbd, checked, documents, refused
from agentkit.runner import CommandError, Completed, last_lines
from cephagent import parsing
from cephagent.protocol import ClusterReport, KeyReply

SESSION_MOVES_S = 10.0
"""A client that has lost its monitor has found another one by then."""

log = logging.getLogger(__name__)


class Ceph(Rbd):
    """Administers the cluster; errors are HardpointError (SYS.1006) that name what was asked for."""

    def check(self, done: Completed) -> Completed:
        """Tell a full cluster from what else may be (BS.1003)."""
        if done.returncode == errno.ENOSPC:
            raise full(f"the Ceph cluster says so{last_lines(done)}")
        return checked(done)

    async def report(self) -> ClusterReport:
        """Look at the cluster. Raises HardpointError when it does not answer."""
        done = await self._batch(*parsing.QUESTIONS)
        try:
            return parsing.parse_report(done.stdout.decode(), await self._addresses())
        except (ValueError, msgspec.ValidationError) as error:
            reason = f"{error}{last_lines(done)}"
            raise refused(f"the Ceph cluster answers what is not understood: {reason}") from error

    async def add_pool(self, pool: str, owner: str, *, create: bool) -> None:
        """Make a pool, or find it."""
        found = await self._owner(pool)
        if found is None and not create:
            raise refused(
                f"there is no pool {pool} on the Ceph cluster",
                "name one of `ceph osd pool ls`, or leave the name out to have one made",
            )
        if found is not None and not create:
            return
        if found is None:
            done = await self._batch(
                f"osd pool create {pool}",  # with as many placement groups as the cluster says
                f"osd pool application enable {pool} rbd",
                f"osd pool application set {pool} rbd hardpoint {owner}",
                parsing.POOLS,
            )
            found = parsing.pool_owner(done.stdout.decode(), pool)
        if found != owner:
            raise refused(f"there is a pool {pool} on the Ceph cluster already", "choose another name")
        await self.rbd("pool", "init", pool)

    async def remove_pool(self, pool: str, owner: str) -> bool:
        """Remove a pool that `owner` made; say whether it was."""
        if await self._owner(pool) != owner:
            return False
        await self.ceph("osd", "pool", "delete", pool, pool, "--yes-i-really-really-mean-it")
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
            found = documents(done.stdout.decode())
            key, dump = found[-2]["key"], found[-1]
            mons = parsing.mon_hosts(dump)
        except (ValueError, LookupError, TypeError, msgspec.ValidationError):
            raise refused(f"the Ceph cluster gives no key for {entity}{last_lines(done)}") from None
        return KeyReply(user=user, key=key, fsid=dump["fsid"], mons=mons)

    async def take_key(self, user: str) -> None:
        """Remove a client."""
        await self.ceph("auth", "rm", f"client.{user}")

    async def retire_key(self, user: str) -> bool:
        """Remove a client that no monitor has a session of; say whether it was removed."""
        for pause_s in (0.0, SESSION_MOVES_S):
            await asyncio.sleep(pause_s)
            if await self._is_connected(user):
                return False
        await self.take_key(user)
        return True

    async def _is_connected(self, user: str) -> bool:
        """Say whether a client has a session, or may have one as a monitor cannot be asked."""
        dump = await self.ceph("mon", "dump")
        try:
            for name in parsing.mon_names(dump.stdout):
                sessions = await self.ceph("tell", f"mon.{name}", "sessions")
                if f"client.{user}" in parsing.session_owners(sessions.stdout):
                    return True
        except (HardpointError, CommandError, msgspec.DecodeError) as error:
            log.info("not known whether a client is connected", extra={"client": user, "reason": str(error)})
            return True
        return False

    async def note(self, pool: str, name: str, key: str) -> str | None:
        """Return a note of an image, None when there is none."""
        found = await self.find(dict[str, str], "image-meta", "ls", f"{pool}/{name}")
        return found.get(key) if found else None

    async def run_qemu_img(self, *words: str, limit_s: float) -> None:
        """Run `qemu-img`."""
        argv = ["setpriv", "--pdeathsig", "KILL", "qemu-img", *words]
        self.check(await self._runner.run(argv, timeout_s=limit_s))

    async def _owner(self, pool: str) -> str | None:
        done = await self.ceph(*parsing.POOLS.split())
        return parsing.pool_owner(done.stdout.decode(), pool)

    async def _batch(self, *lines: str) -> Completed:
        """Run several commands in one process, which takes a second to start; none says that it failed."""
        return await self.ceph(input="".join(f"{line}\n" for line in lines).encode())

    async def _addresses(self) -> list[str]:
        """Return the addresses of this server."""
        try:
            done = (await self._runner.run(["ip", "-j", "addr"], timeout_s=QUICK_LIMIT_S)).check()
        except CommandError:
            return []
        links = json.loads(done.stdout or b"[]")
        return sorted({each["local"] for link in links for each in link.get("addr_info", [])})


def full(reason: str) -> HardpointError:
    """Return the error of a cluster that has no room."""
    return HardpointError(
        "BS.1003",
        "Not enough capacity",
        f"the Ceph cluster is full: {reason}",
        remedy="add OSDs, or delete what is not needed; see `ceph health detail`",
    )
