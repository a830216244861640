"""What has to leave a host that is maintained or deleted; other facilities say what (`drained_by`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import Connection

from mn.rest.services import Job

Drain = Callable[[Job, str], Awaitable[None]]
"""Takes something off the host with a uuid, in steps that are undone when the maintenance fails.

Raises HardpointError when it cannot leave: then the host keeps its state.
"""

_drains: list[Drain] = []


def drained_by(drain: Drain) -> None:
    """Have `drain` run when a host goes into maintenance, after those that are known already."""
    _drains.append(drain)


Leave = Callable[[Job, str], Awaitable[None]]
"""Has a host that is deleted give back what it has of something, while its agent still is there."""

_leaves: list[Leave] = []


def left_by(leave: Leave) -> None:
    """Have `leave` run when a host is deleted, after all has left it and before its agent goes."""
    _leaves.append(leave)


async def leave_host(job: Job, uuid: str) -> None:
    """Have a host give back what it has. Raises HardpointError when it cannot."""
    for leave in _leaves:
        await leave(job, uuid)


Forget = Callable[[Connection, str], None]
"""Writes that something is no longer on the host with a uuid, which goes."""

_forgets: list[Forget] = []


def forgotten_by(forget: Forget) -> None:
    """Have `forget` run when a host is deleted, whether all could leave it or not."""
    _forgets.append(forget)


def forget_host(connection: Connection, uuid: str) -> None:
    """Write that nothing is on a host any more."""
    for forget in _forgets:
        forget(connection, uuid)


async def drain_host(job: Job, uuid: str) -> None:
    """Take everything off a host. Raises HardpointError when something cannot leave."""
    for drain in _drains:
        await drain(job, uuid)
