"""How a volume group is on this host, by name of the cause, and what brings it back; pure functions.

All times are multiples of sanlock's I/O timeout: a lease is renewed every 2, late after 4, lost after 8 of
them. Who has lost one has the watchdog's 60 s more until nobody can believe that the host still writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvmagent.protocol_shared_block import GroupStanding, GroupState, RecoveryStep
from kvmagent.shared_block.reports import Lockspace, Peer

RENEW_EVERY, LATE_AFTER, LOST_AFTER = 2, 4, 8
WATCHDOG_S = 60
JOIN_AFTER = 4
"""A host that joins waits so many timeouts, to see whether somebody else has its host id."""


@dataclass(frozen=True)
class Seen:
    """What was seen of a volume group. `now` is the monotonic clock that sanlock's times are of."""

    now: float
    host_id: int
    missing: list[str] = field(default_factory=list)
    sanlock_answers: bool = True
    lvmlockd_answers: bool = True
    lockspace: Lockspace | None = None
    holds_locks: bool = False
    """LVs of it are in use here."""


def judge(seen: Seen) -> GroupStanding:
    """Return how the group is."""
    space = seen.lockspace
    if space is not None and space.host_id != seen.host_id:
        return _is(
            GroupState.FOREIGN_LOCK,
            f"the host has joined as {space.host_id}, not as {seen.host_id}: its locks are another's",
        )
    if space is not None and (
        space.dead or space.killing or _age(seen, space) > LOST_AFTER * space.io_timeout_s
    ):
        return _is(
            GroupState.LEASE_LOST,
            f"the lease was last renewed {_age(seen, space):.0f} s ago, and is lost after "
            f"{LOST_AFTER * space.io_timeout_s} s",
        )
    if seen.missing:
        return _is(GroupState.DEVICE_MISSING, f"the host does not see {', '.join(sorted(seen.missing))}")
    if not seen.sanlock_answers or not seen.lvmlockd_answers:
        down = "sanlock" if not seen.sanlock_answers else "lvmlockd"
        return _is(GroupState.DAEMON_DOWN, f"{down} does not answer")
    return _joined(seen, space)


def _joined(seen: Seen, space: Lockspace | None) -> GroupStanding:
    if space is None:
        if seen.holds_locks:
            return _is(GroupState.LEASE_LOST, "the host has left the lockspace while volumes are in use")
        return _is(GroupState.NOT_JOINED, "the host has not joined the group's lockspace")
    if space.adding:
        return _is(
            GroupState.JOINING,
            f"the host joins as {space.host_id}, which takes some {JOIN_AFTER * space.io_timeout_s} s",
        )
    if space.removing:
        return _is(GroupState.NOT_JOINED, "the host is leaving the group's lockspace")
    age = _age(seen, space)
    if age > LATE_AFTER * space.io_timeout_s:
        left = LOST_AFTER * space.io_timeout_s - age
        return _is(
            GroupState.RENEWAL_LATE,
            f"the lease was last renewed {age:.0f} s ago; unless it is, it is lost in {left:.0f} s",
        )
    return GroupStanding(state=GroupState.HELD)


def is_usable(standing: GroupStanding) -> bool:
    """Say whether volumes can be worked on."""
    return standing.state in (GroupState.HELD, GroupState.RENEWAL_LATE)


REMEDIES = {
    GroupState.HELD: "",
    GroupState.JOINING: "wait until it has joined",
    GroupState.NOT_JOINED: "have RecoverSharedBlockGroup join it again, or ReconnectPrimaryStorage",
    GroupState.RENEWAL_LATE: "see to the paths of the LUNs and to what loads them",
    GroupState.LEASE_LOST: "see to the LUNs, then RecoverSharedBlockGroup, which ends its VMs",
    GroupState.DEVICE_MISSING: "bring the LUN back (session, cable, zoning), then RecoverSharedBlockGroup",
    GroupState.FOREIGN_LOCK: "stop what else uses the LUNs on this host, then RecoverSharedBlockGroup",
    GroupState.DAEMON_DOWN: "see the units sanlock, lvmlockd, wdmd; RecoverSharedBlockGroup starts them",
}


def recovery(seen: Seen) -> list[RecoveryStep]:
    """Return what brings the group back on this host, in order; nothing for what has to come back first."""
    state = judge(seen).state
    if state in (GroupState.HELD, GroupState.RENEWAL_LATE, GroupState.JOINING):
        return []
    if state is GroupState.DEVICE_MISSING and seen.lockspace is not None:
        return []
    steps = []
    if state is GroupState.LEASE_LOST or (state is GroupState.FOREIGN_LOCK and seen.holds_locks):
        steps += [RecoveryStep.FENCE_VMS]
    if state in (GroupState.LEASE_LOST, GroupState.FOREIGN_LOCK):
        steps += [RecoveryStep.DROP_LOCKS]
    if not seen.sanlock_answers or not seen.lvmlockd_answers or state is GroupState.NOT_JOINED:
        steps = [RecoveryStep.START_DAEMONS, *steps]
    if not seen.missing:
        steps += [RecoveryStep.JOIN]
        if not seen.lvmlockd_answers and seen.lockspace is not None:
            steps += [RecoveryStep.ADOPT_LOCKS]
    return steps


def dead_at(peer: Peer) -> int:
    """Return the moment after which a host that does not renew is believed dead, by the monotonic clock."""
    return peer.last_live + LOST_AFTER * peer.io_timeout_s + WATCHDOG_S


def held_by(volume: str, owner: int, peer: Peer | None, now: float) -> str:
    """Return who has a volume, and until when."""
    who = f"{volume} is held by host id {owner}" + (f" ({peer.owner})" if peer and peer.owner else "")
    if peer is None or not peer.last_live:
        return f"{who}, which has not been seen yet"
    silent = now - peer.last_live
    if silent <= (RENEW_EVERY + 1) * peer.io_timeout_s:
        return f"{who}, which is alive"
    return f"{who}, which was last seen {silent:.0f} s ago, for {max(0.0, dead_at(peer) - now):.0f} s at most"


def _is_lost(seen: Seen, space: Lockspace) -> bool:
    return space.dead or space.killing or _age(seen, space) > LOST_AFTER * space.io_timeout_s


def _age(seen: Seen, space: Lockspace) -> float:
    return max(0.0, seen.now - space.renewed_at) if space.renewed_at else 0.0


def _is(state: GroupState, reason: str) -> GroupStanding:
    return GroupStanding(state=state, reason=reason)
