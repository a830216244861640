"""What has to leave a host before its maintenance: other facilities say what and how (`drained_by`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mn.rest.services import Job

Drain = Callable[[Job, str], Awaitable[None]]
"""Takes something off the host with a uuid, in steps that are undone when the maintenance fails.

Raises HardpointError when it cannot leave: then the host keeps its state.
"""

_drains: list[Drain] = []


def drained_by(drain: Drain) -> None:
    """Have `drain` run when a host goes into maintenance, after those that are known already."""
    _drains.append(drain)


async def drain_host(job: Job, uuid: str) -> None:
    """Take everything off a host. Raises HardpointError when something cannot leave."""
    for drain in _drains:
        await drain(job, uuid)
