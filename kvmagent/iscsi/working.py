"""Works on sessions and disks as plans say: logs in, finds LUNs, tells multipath, ends sessions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.runner import Runner
from agentkit.threads import in_thread
from kvmagent.iscsi.ledger import Ledger
from kvmagent.iscsi.multipath import Multipath
from kvmagent.iscsi.observed import Observed, observe
from kvmagent.iscsi.plan import removal, removal_of_disks, wanted_wwids
from kvmagent.iscsi.portals import SessionKey, Target
from kvmagent.iscsi.records import NodeRecords
from kvmagent.iscsi.removing import Remover
from kvmagent.iscsi.tools import Tools
from kvmagent.machine.tree import Tree
from kvmagent.protocol_iscsi import IscsiServer, SessionState, clashes_of

log = logging.getLogger(__name__)

MAPS_WITHIN_S = 30.0


class Worker:
    """Changes the machine below `root`; `reasons` say why sessions are missing.

    `save` writes the ledger, which is changed here with what it says.
    """

    def __init__(self, root: Path, runner: Runner, save: Callable[[Ledger], Awaitable[None]]) -> None:
        self._root = root
        self._save = save
        self._records = NodeRecords(root)
        self.tools = Tools(root, runner)
        self._multipath = Multipath(root, self.tools)
        self.remover = Remover(self.tools, self._multipath)
        self.reasons: dict[SessionKey, str] = {}

    async def log_in_to(self, server: IscsiServer, targets: Sequence[Target]) -> list[HardpointError]:
        """Log in to targets that have no session; return why that failed with some."""
        have = {session.key for session in (await self.observe()).sessions}
        records = await self.recorded()

        async def one(target: Target) -> HardpointError | None:
            key = target.key
            try:
                if key not in records:
                    await self.tools.make_record(target)
                await self.configure(key, server)
                if key not in have:
                    await self.tools.login(key)
                self.reasons.pop(key, None)
            except HardpointError as error:
                self.reasons[key] = error.details
                return error
            return None

        outcomes = await asyncio.gather(*(one(target) for target in targets))
        return [error for error in outcomes if error is not None]

    async def find_luns(self, ledger: Ledger, keys: Collection[SessionKey]) -> None:
        """Have the kernel show the LUNs that there are now, with their sizes, and multipath know them."""
        observed = await self.observe()
        # All paths to a target: a map grows when all of them have.
        iqns = {key.iqn for key in keys}
        keys = [key for key in ledger.needs() if key.iqn in iqns]
        sessions = [one for one in observed.sessions if one.key in keys]
        up = [one for one in sessions if one.state is SessionState.LOGGED_IN]
        await asyncio.gather(*(self.tools.rescan(session.number) for session in up))
        await self.tools.settle()
        observed = await self.observe()
        disks = observed.disks_of(session.key for session in up)
        gone = await asyncio.gather(*(self.tools.is_gone(disk.name) for disk in disks))
        lost = [disk for disk, is_gone in zip(disks, gone, strict=True) if is_gone]
        plan = removal_of_disks(observed, lost)
        if plan.uses:
            log.warning("LUNs are gone that are in use", extra={"uses": "; ".join(plan.uses)})
        elif lost:
            await self.remover.drop(plan)
        await self.tell_multipath(ledger)
        await self._await_maps(keys)

    async def tell_multipath(self, ledger: Ledger) -> None:
        """Have multipath know the LUNs of needed sessions, none that clash: it would make one of two."""
        observed = await self.observe()
        luns = [lun for key in ledger.needs() for lun in observed.luns_of(key)]
        unclear = {lun.wwid for lun, _ in clashes_of(luns)}
        wanted = [wwid for wwid in wanted_wwids(ledger, observed) if wwid not in unclear]
        new = set(wanted) - set(ledger.wwids)
        disks = {disk.wwid: disk.name for disk in observed.disks_of(ledger.needs()) if disk.wwid in new}
        if wanted or ledger.wwids:
            await self._multipath.know(wanted, list(disks.values()))
        if wanted != ledger.wwids:
            ledger.wwids = wanted
            await self._save(ledger)

    async def _await_maps(self, keys: Collection[SessionKey]) -> None:
        """Wait until multipath has put its maps over the disks, and have them as large as those."""
        if not self._multipath.there():
            return
        deadline = time.monotonic() + MAPS_WITHIN_S
        while True:
            observed = await self.observe()
            disks = observed.disks_of(keys)
            if all(disk.map for disk in disks) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        sizes = {disk.map: disk.size_bytes for disk in disks}
        for one in observed.maps:
            if sizes.get(one.name, one.size_bytes) != one.size_bytes:
                await self._multipath.resize(one)

    async def end(self, ledger: Ledger, keys: Collection[SessionKey]) -> None:
        """Remove disks that are free, end sessions and delete their records. Raises HardpointError."""
        await self.remover.remove(removal(await self.observe(), keys))
        observed, records = await self.observe(), await self.recorded()
        for key in keys:
            session = observed.session(key)
            if session is not None:
                await self.tools.logout(session.number)
            if key in records:
                await self.tools.delete_record(key)
            ledger.ended(key)
            self.reasons.pop(key, None)
        await self._save(ledger)
        await self.tell_multipath(ledger)

    async def configure(self, key: SessionKey, server: IscsiServer) -> None:
        """Write a server's name and secret into the record of a session. Raises HardpointError."""
        await in_thread(lambda: self._records.configure(key, server), "iscsi")

    async def recorded(self) -> set[SessionKey]:
        """Return what there are records of."""
        return await in_thread(self._records.keys, "iscsi")

    async def observe(self) -> Observed:
        """Return what there is now."""
        return await in_thread(lambda: observe(Tree(self._root)), "iscsi")
