"""What VMs' hosts are told of a Ceph storage: its monitors and pools, and the client that they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row

from cephagent.protocol import GiveKey
from kvmagent.protocol_ceph import CephCluster, CephMon
from mn.facilities.ceph.tables import report_of, server_of
from mn.facilities.common import find
from mn.facilities.primary_storage.ceph_tables import CEPH_STORAGE, KIND, pools_of
from mn.facilities.primary_storage.image_cache import origins_of
from mn.facilities.primary_storage.refusals import illegal
from mn.facilities.tags.rules import register, tag_value

POOL_TAG, ROOT_POOL_TAG = "ceph::pool::{name}", "ceph::rootPoolName::{name}"

register("Volume", POOL_TAG, "the pool of a Ceph primary storage that the volume is made in")
register(
    "Volume",
    ROOT_POOL_TAG,
    "the same for a root volume; given with CreateVmInstance it is that of the VM's",
    whole="VmInstance",
)


def client_of(row: Row[Any]) -> str:
    """Return the client that a storage's hosts are in its cluster."""
    return row.ceph_client or f"hardpoint-{row.uuid}"


def clients_of(row: Row[Any]) -> list[str]:
    """Return all clients of a storage: the one that its hosts are, and those that some may be still."""
    return [client_of(row), *(row.former_ceph_clients or [])]


def next_client(client: str) -> str:
    """Return what a storage's client is called after a rotation of its key: one client has one key."""
    *stem, number = client.split("-")
    return f"{client}-2" if len(stem) < 2 else "-".join([*stem, str(int(number) + 1)])


def load_clients(connection: Connection, storage_uuid: str) -> list[str]:
    """Return all clients of a storage. Raises HardpointError (SYS.1003) for no such storage."""
    return clients_of(find(connection, CEPH_STORAGE, storage_uuid))


def wanted_key(connection: Connection, storage_uuid: str, client: str) -> GiveKey:
    """Return the command that gives a client of a storage what it needs, and no more.

    Images of backup storages can be read in pools that something in the cache is a clone of.
    """
    pools, readable = pool_names(connection, storage_uuid), origins_of(connection, storage_uuid)
    return GiveKey(user=client, pools=pools, readable=readable)


def pool_names(connection: Connection, storage_uuid: str) -> list[str]:
    """Return the names of a storage's pools, each once."""
    return list(dict.fromkeys(pool.pool_name for pool in pools_of(connection, storage_uuid)))


def cluster_of(row: Row[Any], more_pools: Iterable[str] = ()) -> CephCluster:
    """Return a storage's cluster, without its monitors."""
    defaults = (row.root_volume_pool_name, row.data_volume_pool_name, row.image_cache_pool_name)
    more = dict.fromkeys(pool for pool in more_pools if pool not in defaults)
    return CephCluster(row.fsid or "", [], client_of(row), *defaults, list(more))


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

    Raises HardpointError (SYS.1007) for a pool that the storage has not for volumes of its type, for two tags
    that do not say the same, and for a data volume with a root volume's tag.
    """
    given = {
        text: value
        for text in (POOL_TAG, ROOT_POOL_TAG)
        if (value := tag_value(connection, "Volume", volume.uuid, text)) is not None
    }
    tags = " and ".join(f"'{text.replace('{name}', value)}'" for text, value in given.items())
    if ROOT_POOL_TAG in given and volume.type != "Root":
        raise illegal(f"system tag {tags}: volume {volume.uuid} is no root volume", f"give {POOL_TAG}")
    if len(set(given.values())) > 1:
        raise illegal(f"system tags {tags} name two pools for volume {volume.uuid}", "give one of them")
    wanted = next(iter(given.values()), None)
    default = row.root_volume_pool_name if volume.type == "Root" else row.data_volume_pool_name
    if wanted is None or wanted == default:
        return None
    known = {pool.pool_name for pool in pools_of(connection, row.uuid) if pool.type == volume.type}
    if wanted not in known:
        raise illegal(
            f"system tag {tags}: Ceph primary storage {row.name} ({row.uuid}) has no such "
            f"pool of the type {volume.type}",
            f"name one of {', '.join(sorted(known)) or 'its pools'}, or add it by AddCephPrimaryStoragePool",
        )
    return wanted
