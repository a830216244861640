"""The daemons that locks are of.

Sanlock, with its watchdog, and lvmlockd; started the way a group needs them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentkit.runner import Completed
from kvmagent.protocol_shared_block import SharedBlockGroup
from kvmagent.services import not_started
from kvmagent.shared_block.config import DROP_IN, lvmlockd_drop_in, sanlock_drop_in, watchdog_drop_in
from kvmagent.shared_block.reports import sanlock_status
from kvmagent.storage.children import Children

START_LIMIT_S = 90.0
SANLOCK, LVMLOCKD, WATCHDOG = "sanlock.service", "lvmlockd.service", "wdmd.service"


class Daemons:
    """Starts them; what they are to do otherwise waits until no group is joined."""

    def __init__(self, children: Children, units: Path) -> None:
        self._children = children
        self._units = units
        self._turn = asyncio.Lock()

    async def ensure(self, wanted: SharedBlockGroup) -> None:
        """Have them run. Raises HardpointError (SYS.1006) that names the one which does not."""
        async with self._turn:
            changed = await asyncio.to_thread(self._write, wanted)
            if changed:
                (await self._systemctl("daemon-reload")).check()
            if wanted.watchdog:
                await self._start(
                    WATCHDOG,
                    "nothing else stops this host when it has lost its lease: load a driver for one (softdog "
                    "where there is none), or switch the watchdog of shared blocks off",
                )
            if changed and not await self._joined():
                for unit in (LVMLOCKD, SANLOCK):
                    await self._systemctl("stop", unit)
            for unit in (SANLOCK, LVMLOCKD):
                await self._start(unit, "install the packages sanlock and lvm2-lockd (lvm2-lockd on Debian)")

    async def _start(self, unit: str, remedy: str) -> None:
        completed = await self._systemctl("start", unit)
        if completed.returncode != 0:
            raise not_started(unit, completed, remedy)

    async def _joined(self) -> bool:
        completed = await self._children.run(["sanlock", "client", "status", "-D"], START_LIMIT_S)
        return bool(sanlock_status(completed.stdout.decode(errors="replace")).lockspaces)

    async def _systemctl(self, *argv: str) -> Completed:
        return await self._children.run(["systemctl", *argv], START_LIMIT_S)

    def _write(self, wanted: SharedBlockGroup) -> bool:
        texts = {
            WATCHDOG: watchdog_drop_in(),
            SANLOCK: sanlock_drop_in(wanted),
            LVMLOCKD: lvmlockd_drop_in(wanted),
        }
        changed = False
        for unit, text in texts.items():
            file = self._units / f"{unit}.d" / DROP_IN
            if not file.exists() or file.read_text() != text:
                file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                file.write_text(text)
                file.chmod(0o644)
                file.parent.chmod(0o755)
                changed = True
        return changed
