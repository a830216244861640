"""Keeps a host's iSCSI sessions as the ledger says, and tells what there is.

One change at a time: open-iscsi's database and multipath's configuration are of the whole host. The ledger is
written before a session is begun and after nothing of it is left, so that an agent that was killed in between
finds what there is to do.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from agentkit.errors import HardpointError
from agentkit.runner import Runner
from agentkit.threads import in_thread
from kvmagent.iscsi.ledger import Ledger, load, save
from kvmagent.iscsi.observed import Observed
from kvmagent.iscsi.plan import empty_maps, missing, removal, report
from kvmagent.iscsi.portals import SessionKey, Target, portal_text, through
from kvmagent.iscsi.records import check_chap
from kvmagent.iscsi.removing import in_use
from kvmagent.iscsi.tools import unreachable
from kvmagent.iscsi.working import Worker
from kvmagent.protocol_iscsi import (
    IscsiEvent,
    IscsiReport,
    IscsiServer,
    IscsiServerReport,
    clashes_of,
    shown,
)

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
TRY_AGAIN_FIRST_S, TRY_AGAIN_MOST_S = 4.0, 60.0
"""Between two logins of sessions that are missing: twice as long after each failure."""
ORPHAN_GRACE_S = 60.0
"""So long an orphan is only told of."""
RESOLVE_LIMIT_S = 10.0


class Iscsi(Protocol):
    """What a host can do with iSCSI servers."""

    async def login(self, server: IscsiServer) -> IscsiServerReport:
        """Need a server."""

    async def change(self, server: IscsiServer) -> None:
        """Log in otherwise from now on."""

    async def logout(self, server_uuid: str) -> None:
        """Need a server no longer."""

    async def sync(self, servers: Sequence[IscsiServer]) -> IscsiReport:
        """Need these servers and no others."""


class IscsiKeeper:
    """The sessions of the machine below `root`, their ledger in `state_dir`."""

    def __init__(
        self,
        root: Path,
        state_dir: Path,
        runner: Runner,
        publish: Callable[[IscsiEvent], object],
        *,
        look_every_s: float = LOOK_EVERY_S,
        orphan_grace_s: float = ORPHAN_GRACE_S,
    ) -> None:
        self._state_dir = state_dir
        self._publish = publish
        self._look_every_s = look_every_s
        self._orphan_grace_s = orphan_grace_s
        self._worker = Worker(root, runner, self._save)
        self._turn = asyncio.Lock()
        self._ledger: Ledger | None = None
        self._errors: dict[str, HardpointError] = {}
        self._orphans_since: dict[SessionKey, float] = {}
        self._told: IscsiReport | None = None
        self._again_at = 0.0
        self._pause_s = TRY_AGAIN_FIRST_S

    async def login(self, server: IscsiServer) -> IscsiServerReport:
        """Log in to a server's targets and find their LUNs anew; return what there is.

        Raises HardpointError: ISCSI.1001 when no target can be logged in to, ISCSI.1002 for LUNs that cannot
        be told apart. A server that was not needed before is not then.
        """
        async with self._turn:
            ledger = await self._load()
            new = ledger.find(server.uuid) is None
            try:
                return await self._login(ledger, server)
            except BaseException:
                if new:
                    await asyncio.shield(self._take_back(ledger, server.uuid))
                raise

    async def change(self, server: IscsiServer) -> None:
        """Write another name and secret into the records; sessions stay. Raises HardpointError."""
        async with self._turn:
            ledger = await self._load()
            known = ledger.find(server.uuid)
            if known is None:
                return
            for chap in (server.chap, server.mutual):
                if chap is not None:
                    check_chap(chap)
            ledger.need(server, known.targets)
            await self._save(ledger)
            records = await self._worker.recorded()
            for target in known.targets:
                if target.key in records:
                    await self._worker.configure(target.key, server)
            self._again_at = 0.0

    async def logout(self, server_uuid: str) -> None:
        """End what only this server needs. Raises HardpointError (SYS.1006) while a disk of it is used."""
        async with self._turn:
            ledger = await self._load()
            known = ledger.find(server_uuid)
            others = ledger.needs(but=server_uuid)
            going = {target.key for target in known.targets} - set(others) if known else set[SessionKey]()
            going |= set(ledger.orphans())
            plan = removal(await self._worker.observe(), going)
            if plan.uses:
                raise in_use(plan.uses)
            await self._worker.remover.free(plan)
            ledger.forget(server_uuid)
            await self._save(ledger)
            await self._worker.end(ledger, going)

    async def sync(self, servers: Sequence[IscsiServer]) -> IscsiReport:
        """Need these servers and no others, as far as that goes; return what there is."""
        async with self._turn:
            ledger = await self._load()
            wanted, before = {server.uuid for server in servers}, set(ledger.orphans())
            for uuid in [one.server.uuid for one in ledger.needed if one.server.uuid not in wanted]:
                ledger.forget(uuid)
            await self._save(ledger)
            for server in servers:
                await self._try_login(ledger, server)
            await self._sweep(ledger, at_once=set(ledger.orphans()) - before)
            return await self._report(ledger)

    async def run(self) -> None:
        """Look at sessions, log in again, sweep orphans, until cancelled."""
        while True:
            try:
                async with self._turn:
                    await self._look()
            except HardpointError as error:
                log.warning("iSCSI is not looked after", extra={"reason": error.details})
            except Exception:
                log.exception("iSCSI is not looked after, trying again")
            await asyncio.sleep(self._look_every_s)

    async def _look(self) -> None:
        ledger = await self._load()
        if not ledger.needed and not ledger.ours:
            self._tell(IscsiReport(servers=[]))
            return
        observed = await self._worker.observe()
        await self._mend(ledger, observed)
        await self._sweep(ledger)
        self._tell(await self._report(ledger))

    def _tell(self, found: IscsiReport) -> None:
        if found != self._told and (self._told is not None or found.orphans):
            self._publish(IscsiEvent(report=found))
        self._told = found

    async def _mend(self, ledger: Ledger, observed: Observed) -> None:
        """Log in again what is missing, now and then."""
        lost = missing(ledger, observed)
        # Whose targets were never heard of has no session that could be missing.
        unheard = [one.server for one in ledger.needed if not one.targets and one.server.uuid in self._errors]
        for session in observed.sessions:
            self._worker.reasons.pop(session.key, None)
        if not lost and not unheard:
            self._pause_s, self._again_at = TRY_AGAIN_FIRST_S, 0.0
            return
        if time.monotonic() < self._again_at:
            return
        for server in unheard:
            await self._try_login(ledger, server)
        for uuid, target in lost:
            needed = ledger.find(uuid)
            if needed is not None:
                await self._worker.log_in_to(needed.server, [target])
        await self._worker.find_luns(ledger, [target.key for _, target in lost])
        self._again_at = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, TRY_AGAIN_MOST_S)

    async def _sweep(self, ledger: Ledger, at_once: Collection[SessionKey] = ()) -> None:
        """End orphans that have been told of for long enough, and maps that nothing brings back."""
        observed, now = await self._worker.observe(), time.monotonic()
        orphans = ledger.orphans()
        self._orphans_since = {key: self._orphans_since.get(key, now) for key in orphans}
        for key in orphans:
            plan = removal(observed, [key])
            told_s = now - self._orphans_since[key]
            if observed.session(key) is not None and told_s < self._orphan_grace_s and key not in at_once:
                continue
            if plan.uses:
                log.warning("orphan stays", extra={"session": str(key), "reason": "; ".join(plan.uses)})
                continue
            log.warning("orphan is swept", extra={"session": str(key)})
            try:
                await self._worker.remover.free(plan)
                await self._worker.end(ledger, [key])
            except HardpointError as error:
                log.warning("orphan stays", extra={"session": str(key), "reason": error.details})
        for one in empty_maps(ledger, observed):
            if not observed.uses.get(one.name):
                await self._worker.remover.drop_map(one)
        await self._worker.tell_multipath(ledger)

    async def _login(self, ledger: Ledger, server: IscsiServer) -> IscsiServerReport:
        await self._worker.tools.start("iscsid")
        targets = await self._discover(server)
        former = ledger.find(server.uuid)
        ledger.need(server, targets)
        await self._save(ledger)
        failures = await self._worker.log_in_to(server, targets)
        if targets and len(failures) == len(targets):
            raise failures[0]
        keys = [target.key for target in targets]
        await self._worker.find_luns(ledger, keys)
        if former is not None:
            await self._sweep(ledger)
        self._errors.pop(server.uuid, None)
        found = await self._report(ledger)
        (mine,) = (one for one in found.servers if one.server_uuid == server.uuid)
        every = [lun for one in found.servers for lun in one.luns]
        for one, other in clashes_of(every):
            raise _clash(shown(one), shown(other), one.wwid)
        mine.error = failures[0].to_body() if failures else None
        return mine

    async def _report(self, ledger: Ledger) -> IscsiReport:
        found = report(ledger, await self._worker.observe(), self._worker.reasons)
        for one in found.servers:
            error = self._errors.get(one.server_uuid)
            one.error = error.to_body() if error and not one.sessions else None
        return found

    async def _try_login(self, ledger: Ledger, server: IscsiServer) -> None:
        """Log in as far as that goes; what fails is tried again, and told of."""
        try:
            await self._login(ledger, server)
        except HardpointError as error:
            log.warning("not logged in", extra={"server": server.uuid, "reason": error.details})
            if ledger.find(server.uuid) is None:
                ledger.need(server, [])
                await self._save(ledger)
            self._errors[server.uuid] = error

    async def _discover(self, server: IscsiServer) -> list[Target]:
        """Return the targets that a server has for itself."""
        addresses = await _resolve(server.address, server.port)
        return through(await self._worker.tools.discover(server.address, server.port), addresses, server.port)

    async def _take_back(self, ledger: Ledger, server_uuid: str) -> None:
        """End what was begun for a server that cannot be had after all."""
        ledger.forget(server_uuid)
        going = list(ledger.orphans())
        try:
            await self._save(ledger)
            plan = removal(await self._worker.observe(), going)
            if not plan.uses:
                await self._worker.remover.free(plan)
                await self._worker.end(ledger, going)
        except HardpointError as error:
            log.warning("sessions are left", extra={"server": server_uuid, "reason": error.details})

    async def _load(self) -> Ledger:
        if self._ledger is None:
            self._ledger = await in_thread(lambda: load(self._state_dir), "iscsi")
        return self._ledger

    async def _save(self, ledger: Ledger) -> None:
        await in_thread(lambda: save(self._state_dir, ledger), "iscsi")


async def _resolve(address: str, port: int) -> list[str]:
    """Return what a name stands for. Raises HardpointError (ISCSI.1001)."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_LIMIT_S):
            found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        reason = str(error) or "the name servers did not answer"
        raise unreachable(portal_text(address, port), f"{address} cannot be resolved: {reason}") from error
    return [str(entry[4][0]) for entry in found]


def _clash(one: str, other: str, wwid: str) -> HardpointError:
    return HardpointError(
        "ISCSI.1002",
        "Two LUNs have one WWID",
        f"{one} and {other} both report the WWID {wwid}: hosts would take them for one disk",
        remedy="give each unit a serial number of its own on the iSCSI server (of which 25 hex digits count)",
    )
