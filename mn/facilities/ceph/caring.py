"""Reconnecting a storage of a Ceph cluster, and taking its agents away, whatever kind it is."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from mn.facilities.ceph.mons import all_logins, follow_all, forget_mons, join_all, leave_all, recheck
from mn.facilities.ceph.tables import Kind
from mn.facilities.common import find
from mn.rest.services import Job


class Known(msgspec.Struct, frozen=True):
    """The fsid of a storage's cluster, and the ports of its monitors by host."""

    fsid: str | None
    ports: dict[str, int]


async def reconnect(job: Job, kind: Kind, uuid: str) -> None:
    """Bring the agents to the monitors' hosts again; those that cannot be joined are Disconnected.

    Raises HardpointError when none can be.
    """
    logins = await job.transact(all_logins, kind, uuid)
    known = await job.transact(known_cluster, kind, uuid)
    await join_all(job, logins, known.fsid, known.ports, keep=True)
    await job.step(follow_all, job.services, logins)
    await job.transact(recheck, kind, uuid)


async def leave(job: Job, kind: Kind, uuid: str) -> None:
    """Forget a storage's monitors; agents that nothing else needs leave their hosts."""
    logins = await job.transact(all_logins, kind, uuid)
    await job.transact(forget_mons, kind, uuid, [login.hostname for login in logins])
    await leave_all(job, logins)


def known_cluster(connection: Connection, kind: Kind, uuid: str) -> Known:
    """Return what is known of a storage's cluster."""
    row = find(connection, kind.resource, uuid)
    return Known(row.fsid, {mon.hostname: mon.mon_port for mon in kind.mon_rows(connection, uuid)})
