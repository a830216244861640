"""Which logical volumes of a group are active here, and for whom: none stays so that nobody uses.

A volume is active for work of the agent (held here), or because a VM has it open. What neither has is given
back, also what an agent has left that was killed: so a volume is not kept from other hosts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from agentkit.errors import HardpointError
from kvmagent.shared_block.group import EXCLUSIVE, SHARED, VolumeGroup

log = logging.getLogger(__name__)


class Activations:
    """The volumes of one group."""

    def __init__(self, group: VolumeGroup) -> None:
        self._group = group
        self._held: Counter[str] = Counter()
        self._turn = asyncio.Lock()
        self._to_be_alone: set[str] = set()

    @asynccontextmanager
    async def held(self, lvs: Sequence[str], *, shared: bool) -> AsyncIterator[None]:
        """Have volumes active until this ends, or longer when a VM has opened them meanwhile.

        `shared` takes one as it is that is active here already.
        """
        taken: list[str] = []
        try:
            for lv in lvs:
                await self._take(lv, shared=shared)
                taken.append(lv)
            yield
        finally:
            await asyncio.shield(self._give(taken))

    async def _take(self, lv: str, *, shared: bool) -> None:
        async with self._turn:
            if not (shared and (self._held[lv] or lv in await self._group.active())):
                await self._group.activate(lv, SHARED if shared else EXCLUSIVE)
            self._held[lv] += 1

    async def _give(self, lvs: Sequence[str]) -> None:
        for lv in lvs:
            self._held[lv] -= 1
        await self.tidy()

    async def set_mode(self, lvs: Sequence[str], *, shared: bool) -> None:
        """Have other hosts be able to have volumes too that are active here, or no longer."""
        async with self._turn:
            active = await self._group.active()
            self._to_be_alone.difference_update(lvs)
            for lv in (each for each in lvs if each in active):
                try:
                    await self._group.activate(lv, SHARED if shared else EXCLUSIVE)
                except HardpointError:
                    if shared:
                        raise
                    self._to_be_alone.add(lv)  # another host has it still

    async def tidy(self) -> list[str]:
        """Give back what nobody uses; return what that was."""
        given = []
        await self.set_mode(list(self._to_be_alone), shared=False)
        async with self._turn:
            for lv, count in (await self._group.active()).items():
                if count or self._held[lv] > 0:
                    continue
                try:
                    await self._group.deactivate(lv)
                except HardpointError as error:
                    extra = {"group": self._group.uuid, "volume": lv, "reason": error.details}
                    log.warning("logical volume not given back", extra=extra)
                    continue
                given.append(lv)
        return given
