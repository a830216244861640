"""What a cluster's report says of a storage and its monitors, as pure functions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from agentkit.errors import Blame, HardpointError
from cephagent.protocol import ClusterReport, MonReport, PoolReport


class ClusterPool(msgspec.Struct, frozen=True):
    """A pool of a cluster."""

    fsid: str
    pool: str


def mon_at(report: ClusterReport, hostname: str, port: int) -> MonReport | None:
    """Return the monitor that a host has: by its own address, else by those that its agent sees.

    Of several on one host it is the one with the port.
    """
    for addresses in ([_plain(hostname)], [_plain(address) for address in report.addresses]):
        here = [mon for mon in report.mons if _plain(mon.address) in addresses]
        if here:
            return next((mon for mon in here if mon.port == port), here[0])
    return None


def check_mon(report: ClusterReport, hostname: str, port: int) -> MonReport:
    """Return the monitor that a host has. Raises HardpointError (SYS.1006) when it has none."""
    found = mon_at(report, hostname, port)
    if found is None:
        known = ", ".join(f"{mon.name} at {mon.address}" for mon in report.mons)
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"host {hostname} has no monitor of the Ceph cluster {report.fsid}, whose monitors are {known}",
            remedy="name a host that a monitor runs on",
            blame=Blame.CALLER,
        )
    return found


def check_one_cluster(found: Iterable[tuple[str, str]], fsid: str | None = None) -> str:
    """Return the fsid that all hosts (name, fsid) have, and that a storage has already.

    Raises HardpointError (SYS.1006) when they are of several clusters.
    """
    known = fsid
    for hostname, theirs in found:
        if known is not None and theirs != known:
            raise HardpointError(
                "SYS.1006",
                "Operation failed",
                f"the monitor on {hostname} is of the Ceph cluster {theirs}, the others are of {known}",
                remedy="name monitors of one cluster",
                blame=Blame.CALLER,
            )
        known = theirs
    if known is None:
        raise AssertionError("no monitor has been looked at")
    return known


def pool_of(report: ClusterReport, name: str | None) -> PoolReport | None:
    """Return what a report says of a pool, None when there is no such pool."""
    return next((pool for pool in report.pools if pool.name == name), None)


def capacity_of(report: ClusterReport, names: Iterable[str]) -> tuple[int, int]:
    """Return the bytes that the contents of some pools may have in all, and those that are free.

    Pools of a cluster share its disks: what is free is free once.
    """
    pools = [pool for pool in (pool_of(report, name) for name in set(names)) if pool is not None]
    available = max((pool.available_bytes for pool in pools), default=0)
    return available + sum(pool.used_bytes for pool in pools), available


def _plain(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        return address.lower()
