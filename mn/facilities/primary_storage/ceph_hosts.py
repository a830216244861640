"""What VMs' hosts are told of a Ceph storage: its monitors and pools, and the client that they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row

from cephagent.protocol import GiveKey
from kvmagent.protocol_ceph import CephCluster, CephMon
from mn.facilities.ceph.tables import report_of, server_of
from mn.facilities.primary_storage.ceph_tables import CACHE, KIND, pools_of
from mn.facilities.primary_storage.refusals import illegal
from mn.facilities.tags.rules import register, tag_value

POOL_TAG = "ceph::pool::{name}"

register("Volume", POOL_TAG, "the pool of a Ceph primary storage that the volume is made in")


def user_of(storage_uuid: str) -> str:
    """Return the client that a storage's hosts are in its cluster."""
    return f"hardpoint-{storage_uuid}"


def wanted_key(connection: Connection, storage_uuid: str) -> GiveKey:
    """Return the command that gives that client what it needs, and no more."""
    pools = dict.fromkeys(pool.pool_name for pool in pools_of(connection, storage_uuid))
    return GiveKey(user=user_of(storage_uuid), pools=list(pools), readable=[])


def cluster_of(row: Row[Any], more_pools: Iterable[str] = ()) -> CephCluster:
    """Return a storage's cluster, without its monitors."""
    defaults = (row.root_volume_pool_name, row.data_volume_pool_name, row.image_cache_pool_name)
    more = dict.fromkeys(pool for pool in more_pools if pool not in defaults)
    return CephCluster(row.fsid or "", [], user_of(row.uuid), *defaults, list(more))


def load_mons(connection: Connection, row: Row[Any]) -> list[CephMon]:
    """Return all monitors of a storage's cluster as an agent has seen them last, by address."""
    rows = KIND.mon_rows(connection, row.uuid)
    for server in (server_of(connection, mon.server_uuid) for mon in rows):
        report = report_of(server) if server is not None else None
        if report is not None and report.fsid == row.fsid:
            found = sorted((mon.address, mon.port) for mon in report.mons)
            return [CephMon(address=address, port=port) for address, port in found]
    return [CephMon(address=mon.mon_addr or mon.hostname, port=mon.mon_port) for mon in rows]


def named_pools(path: str) -> list[str]:
    """Return the pool that is part of an image's path, if one is."""
    parts = path.split("/")
    return parts[1:2] if parts[0] == "pools" else []


def tagged_pool(connection: Connection, row: Row[Any], volume: Row[Any]) -> str | None:
    """Return the pool that a volume's tag names, None for the one that it gets into by itself.

    Raises HardpointError (SYS.1007) for a pool that the storage has not for volumes of its type.
    """
    wanted = tag_value(connection, "Volume", volume.uuid, POOL_TAG)
    default = row.root_volume_pool_name if volume.type == "Root" else row.data_volume_pool_name
    if wanted is None or wanted == default:
        return None
    known = {pool.pool_name for pool in pools_of(connection, row.uuid) if pool.type == volume.type}
    if wanted not in known - {CACHE}:
        raise illegal(
            f"system tag 'ceph::pool::{wanted}': Ceph primary storage {row.name} ({row.uuid}) has no such "
            f"pool of the type {volume.type}",
            f"name one of {', '.join(sorted(known)) or 'its pools'}, or add it by AddCephPrimaryStoragePool",
        )
    return wanted
