"""What has to be done for sessions and disks to be as the ledger says; pure functions on plain data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kvmagent.iscsi.ledger import Ledger
from kvmagent.iscsi.observed import Observed
from kvmagent.iscsi.portals import SessionKey, Target
from kvmagent.machine.luns import MultipathMap, ScsiDisk
from kvmagent.protocol_iscsi import (
    IscsiReport,
    IscsiServerReport,
    IscsiSession,
    SessionState,
)


@dataclass(frozen=True)
class Removal:
    """What goes with some sessions: maps that lose all their paths, then disks, then the sessions.

    `uses` says in words what is against it.
    """

    maps: tuple[MultipathMap, ...]
    disks: tuple[ScsiDisk, ...]
    sessions: tuple[SessionKey, ...]
    uses: tuple[str, ...]


def missing(ledger: Ledger, observed: Observed) -> list[tuple[str, Target]]:
    """Return the targets that have no session, each with a server that needs it."""
    have = {session.key for session in observed.sessions}
    wanted = [(one.server.uuid, target) for one in ledger.needed for target in one.targets]
    found: dict[SessionKey, tuple[str, Target]] = {}
    for server, target in wanted:
        if target.key not in have:
            found.setdefault(target.key, (server, target))
    return list(found.values())


def removal(observed: Observed, keys: Collection[SessionKey]) -> Removal:
    """Return what ending these sessions takes: a map goes when no path of it is left."""
    disks = observed.disks_of(keys)
    return Removal(*_of_disks(observed, disks), tuple(sorted(keys)), _uses(observed, disks))


def removal_of_disks(observed: Observed, disks: Collection[ScsiDisk]) -> Removal:
    """Return what taking disks away takes whose LUNs are gone; their sessions stay."""
    return Removal(*_of_disks(observed, disks), (), _uses(observed, disks))


def _of_disks(
    observed: Observed, disks: Collection[ScsiDisk]
) -> tuple[tuple[MultipathMap, ...], tuple[ScsiDisk, ...]]:
    names = {disk.name for disk in disks}
    maps = [one for one in observed.maps if one.paths and set(one.paths) <= names]
    return tuple(maps), tuple(disks)


def _uses(observed: Observed, disks: Collection[ScsiDisk]) -> tuple[str, ...]:
    maps, _ = _of_disks(observed, disks)
    names = [*(one.name for one in maps), *(disk.name for disk in disks)]
    return tuple(use for name in names for use in observed.uses.get(name, ()))


def wanted_wwids(ledger: Ledger, observed: Observed) -> list[str]:
    """Return the WWIDs that multipath is to know: those of LUNs that needed sessions show.

    While one of these sessions is lost, those that were known stay: it may bring them back.
    """
    needs = ledger.needs()
    found = [observed.session(key) for key in needs]
    whole = all(session is not None and session.state is SessionState.LOGGED_IN for session in found)
    shown = {disk.wwid for disk in observed.disks_of(needs) if disk.wwid}
    return sorted(shown if whole else shown | set(ledger.wwids))


def empty_maps(ledger: Ledger, observed: Observed) -> list[MultipathMap]:
    """Return the maps of ours that have no path and that nothing brings back."""
    gone = set(ledger.wwids) - set(wanted_wwids(ledger, observed))
    return [one for one in observed.maps if one.wwid in gone and not one.paths]


def report(ledger: Ledger, observed: Observed, reasons: Mapping[SessionKey, str]) -> IscsiReport:
    """Return what the management node is told; `reasons` say why sessions are missing."""
    servers = []
    for one in ledger.needed:
        sessions, luns = [], []
        for target in one.targets:
            sessions.append(_session(target, observed, reasons))
            luns += observed.luns_of(target.key)
        servers.append(IscsiServerReport(server_uuid=one.server.uuid, sessions=sessions, luns=luns))
    orphans = [
        _session(target, observed, {})
        for key, target in ledger.orphans().items()
        if observed.session(key) is not None
    ]
    return IscsiReport(servers=servers, orphans=orphans)


def _session(target: Target, observed: Observed, reasons: Mapping[SessionKey, str]) -> IscsiSession:
    session = observed.session(target.key)
    state = session.state if session is not None else SessionState.MISSING
    reason = reasons.get(target.key) if session is None else None
    return IscsiSession(iqn=target.iqn, address=target.address, port=target.port, state=state, reason=reason)
