"""What `ceph` and `rbd` say as JSON, and what follows from it: pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from agentkit.errors import HardpointError
from agentkit.rbd import ClusterUse, Pool, PoolStats, documents, refused
from cephagent.protocol import ClusterReport, MonReport, PoolReport

POOLS = "osd pool ls detail"
QUESTIONS = ("status", "mon dump", "df", POOLS)
"""What is asked of a cluster at once, one line each on standard input."""


class _Health(msgspec.Struct):
    status: str


class _Status(msgspec.Struct):
    fsid: str
    health: _Health
    quorum_names: list[str]


class _Address(msgspec.Struct):
    type: str
    addr: str


class _Addresses(msgspec.Struct):
    addrvec: list[_Address]


class _Mon(msgspec.Struct):
    name: str
    public_addrs: _Addresses


class _Session(msgspec.Struct):
    entity_name: str = ""


class _MonMap(msgspec.Struct):
    mons: list[_Mon]


def parse_report(text: str, addresses: list[str]) -> ClusterReport:
    """Return the report that the answers to QUESTIONS make.

    Raises ValueError for answers that are not all there or not understood.
    """
    found = documents(text)
    if len(found) != len(QUESTIONS):
        raise ValueError(f"{len(found)} of {len(QUESTIONS)} questions were answered")
    status, mons = msgspec.convert(found[0], _Status), msgspec.convert(found[1], _MonMap)
    use, pools = msgspec.convert(found[2], ClusterUse), msgspec.convert(found[3], list[Pool])
    used = {pool.name: pool.stats for pool in use.pools}
    report = ClusterReport(
        fsid=status.fsid,
        health=status.health.status,
        mons=[_mon(mon, status.quorum_names) for mon in mons.mons],
        pools=[_pool(pool, used) for pool in pools],
        addresses=addresses,
        total_bytes=use.stats.total_bytes,
        available_bytes=use.stats.total_avail_bytes,
        reason=None,
        hash="",
    )
    return hashed(report)


def hashed(report: ClusterReport) -> ClusterReport:
    """Return a report with its hash."""
    plain = msgspec.json.encode(msgspec.structs.replace(report, hash=""))
    return msgspec.structs.replace(report, hash=hashlib.sha256(plain).hexdigest()[:32])


def pool_owner(text: str, pool: str) -> str | None:
    """Return who has made a pool, an empty text for others. None: there is no such pool.

    `text` is the answer to `osd pool ls detail`, which may come after other ones. Raises HardpointError when
    there is none.
    """
    try:
        pools = msgspec.convert(documents(text)[-1], type=list[Pool])
    except (ValueError, LookupError, msgspec.ValidationError) as error:
        raise refused(f"the Ceph cluster does not say whether there is a pool {pool}") from error
    found = next((each for each in pools if each.pool_name == pool), None)
    if found is None:
        return None
    return found.application_metadata.get("rbd", {}).get("hardpoint", "")


def _mon(mon: _Mon, quorum: list[str]) -> MonReport:
    known = {address.type: address.addr for address in mon.public_addrs.addrvec}
    where = known.get("v1") or known.get("v2") or next(iter(known.values()))
    host, _, port = where.rpartition(":")
    return MonReport(name=mon.name, address=host.strip("[]"), port=int(port), in_quorum=mon.name in quorum)


def pool_named(report: ClusterReport, name: str) -> PoolReport:
    """Return a pool of a report. Raises HardpointError (SYS.1006) when there is none."""
    found = next((pool for pool in report.pools if pool.name == name), None)
    if found is None:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"there is no pool {name} on the Ceph cluster",
            remedy="name one of `ceph osd pool ls`",
        )
    return found


def mon_names(text: bytes) -> list[str]:
    """Return the names of the monitors of `mon dump`, those outside of the quorum, too."""
    return [mon.name for mon in msgspec.json.decode(text, type=_MonMap).mons]


def session_owners(text: bytes) -> set[str]:
    """Return who has sessions with a monitor, by its answer to `sessions`."""
    return {each.entity_name for each in msgspec.json.decode(text, type=list[_Session])}


def mon_hosts(dump: object) -> list[str]:
    """Return the monitors of `mon dump` as `mon_host` takes them."""
    monmap = msgspec.convert(dump, _MonMap)
    vectors = (mon.public_addrs.addrvec for mon in monmap.mons)
    return ["[" + ",".join(f"{each.type}:{each.addr}" for each in vector) + "]" for vector in vectors]


def _pool(pool: Pool, used: Mapping[str, PoolStats]) -> PoolReport:
    stats = used.get(pool.pool_name, PoolStats(0, 0))
    return PoolReport(
        name=pool.pool_name,
        replicated_size=pool.size,
        used_bytes=stats.stored,
        available_bytes=stats.max_avail,
        is_full=pool.is_full,
    )


def capabilities(pools: list[str], readable: list[str]) -> list[str]:
    """Return the capabilities of a client of VMs' hosts, as words of `ceph auth`."""
    osd = [f"profile rbd pool={pool}" for pool in pools]
    osd += [f"profile rbd-read-only pool={pool}" for pool in readable if pool not in pools]
    return ["mon", "profile rbd", "osd", ", ".join(osd)]
