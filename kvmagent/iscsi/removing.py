"""Takes disks from a host: flush, maps first, then the disks themselves."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agentkit.errors import HardpointError
from kvmagent.iscsi.multipath import Multipath
from kvmagent.iscsi.plan import Removal
from kvmagent.iscsi.tools import Tools
from kvmagent.machine.luns import MultipathMap

log = logging.getLogger(__name__)


class Remover:
    """Does what `plan.removal` says, in two halves: the first may fail and changes nothing then."""

    def __init__(self, tools: Tools, multipath: Multipath) -> None:
        self._tools = tools
        self._multipath = multipath

    async def free(self, plan: Removal) -> None:
        """Take away the maps that lose all their paths.

        Raises HardpointError (SYS.1006) when one is open; those that went before are there again.
        """
        try:
            for one in plan.maps:
                await self._multipath.flush(one)
        except HardpointError:
            await self._multipath.restore()
            raise

    async def remove(self, plan: Removal) -> None:
        """Flush disks and take them from the kernel. Raises HardpointError (SYS.1006)."""
        for disk in plan.disks:
            await self._tools.flush(disk.name)
        for disk in plan.disks:
            await self._tools.delete_disk(disk.name)

    async def drop(self, plan: Removal) -> None:
        """Take disks away whose LUNs are gone; what has one open keeps it, which is logged."""
        try:
            await self.free(plan)
            await self.remove(plan)
        except HardpointError as error:
            log.warning("LUNs are gone that are in use", extra={"reason": error.details})

    async def drop_map(self, one: MultipathMap) -> None:
        """Take a map without paths away; one that is open stays, which is logged."""
        try:
            await self._multipath.flush(one)
        except HardpointError as error:
            log.warning("map stays", extra={"map": one.alias, "reason": error.details})


def in_use(uses: Sequence[str]) -> HardpointError:
    """Return the error of disks that something uses."""
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"disks of the iSCSI server are in use on this host: {'; '.join(uses)}",
        remedy="stop what uses them first",
    )
