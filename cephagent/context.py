"""What the agent's handlers and routes work with: the cluster, its images, grants."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from agentkit.errors import HardpointError
from agentkit.grants import Grants
from agentkit.standing import Standing
from cephagent.cluster import Ceph
from cephagent.images import Images
from cephagent.parsing import hashed
from cephagent.protocol import ClusterReport

log = logging.getLogger(__name__)

REST = 3
"""So many times as long as looking takes, it is not looked."""


@dataclass(kw_only=True)
class Context(Standing):
    """The agent's parts; `tell` is given what the cluster is like whenever that has changed."""

    ceph: Ceph
    images: Images
    grants: Grants
    tell: Callable[[ClusterReport], None]
    look_every_s: float
    _last: ClusterReport | None = None

    async def inventory_hash(self) -> str:
        """Return what tells whether the cluster is as the management node knows it."""
        return self._last.hash if self._last is not None else ""

    async def look(self) -> ClusterReport:
        """Look at the cluster; a change is told. Raises HardpointError when it has never answered."""
        try:
            report = await self.ceph.report()
        except HardpointError as error:
            if self._last is None:
                raise
            report = _silent(self._last, error.details)
        if self._last is None or report.hash != self._last.hash:
            self._last = report
            self.tell(report)
        return report

    async def watch(self) -> None:
        """Look now and then while somebody has this server, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            if self.ownership.host_uuid is not None:
                try:
                    await self.look()
                except HardpointError as error:
                    log.warning("cluster does not answer", extra={"reason": error.details})
            await asyncio.sleep(pause_s(self.look_every_s, loop.time() - begun))


def pause_s(every_s: float, took_s: float) -> float:
    """Return how long not to look after a look: on a server that is so busy that it takes long, longer."""
    return max(every_s, REST * took_s)


def _silent(report: ClusterReport, reason: str) -> ClusterReport:
    """Return the report of a cluster that has ceased to answer."""
    mons = [msgspec.structs.replace(mon, in_quorum=False) for mon in report.mons]
    return hashed(msgspec.structs.replace(report, mons=mons, reason=reason, health="HEALTH_ERR"))
