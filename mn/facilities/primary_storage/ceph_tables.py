"""The monitors and pools of Ceph primary storages, and what their clusters report."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    UniqueConstraint,
    select,
    update,
)

from cephagent.protocol import ClusterReport, PoolReport
from kvmagent.protocol_storage import Capacity
from mn.db.schema import DESCRIPTION_LENGTH, date_columns, identity_columns, metadata, private, uuid_column
from mn.facilities.cascade import part_of
from mn.facilities.ceph.clusters import capacity_of, pool_of
from mn.facilities.ceph.tables import Kind, kinds, mon_table
from mn.facilities.primary_storage.capacity import Place, save_capacity
from mn.facilities.primary_storage.tables import (
    CEPH,
    PRIMARY_STORAGE,
    change_storage,
    primary_storage_table,
)
from mn.query.resource import Relation, Resource

ROOT, DATA, CACHE = "Root", "Data", "ImageCache"
OWNER = "primary_storage_uuid"

mons_table = mon_table("ceph_primary_storage_mon", OWNER, "primary_storage", "primary storage")


def _bytes(name: str, comment: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, index=True, server_default="0", comment=comment)


pool_table = Table(
    "ceph_primary_storage_pool",
    metadata,
    *identity_columns("pool"),
    uuid_column(
        OWNER,
        ForeignKey("primary_storage.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the primary storage",
    ),
    Column("pool_name", String(128), nullable=False, index=True, comment="its name in the cluster"),
    Column("alias_name", String(255), index=True, comment="what people call it"),
    Column("description", String(DESCRIPTION_LENGTH), comment="description"),
    Column("type", String(16), nullable=False, index=True, comment="Root, Data or ImageCache"),
    _bytes("available_capacity", "bytes that contents may still have"),
    _bytes("used_capacity", "bytes of its contents"),
    _bytes("total_capacity", "both together"),
    Column(
        "replicated_size",
        Integer,
        nullable=False,
        index=True,
        comment="how many copies there are of each object",
    ),
    private("self_made", Boolean, nullable=False),
    *date_columns(),
    UniqueConstraint(OWNER, "pool_name", "type"),
)

CEPH_MON = Resource("CephPrimaryStorageMon", mons_table)
CEPH_POOL = Resource("CephPrimaryStoragePool", pool_table)
CEPH_STORAGE = Resource(
    "CephPrimaryStorage",
    primary_storage_table,
    {name: PRIMARY_STORAGE.relations[name] for name in ("zone", "clusterRef", "hostRef")},
    only={"type": CEPH},
    lists={
        "mons": Relation(lambda: CEPH_MON, "uuid", "primaryStorageUuid"),
        "pools": Relation(lambda: CEPH_POOL, "uuid", "primaryStorageUuid"),
    },
)
CEPH_STORAGE.relations.update(CEPH_STORAGE.lists)
part_of(PRIMARY_STORAGE, CEPH_MON, OWNER)
part_of(PRIMARY_STORAGE, CEPH_POOL, OWNER)


def pools_of(connection: Connection, storage_uuid: str) -> list[Row[Any]]:
    """Return a storage's pools, in the order they came."""
    mine = pool_table.c[OWNER] == storage_uuid
    return list(connection.execute(select(pool_table).where(mine).order_by(pool_table.c.seq)))


def columns_of(report: PoolReport) -> dict[str, int]:
    """Return what a cluster says of a pool, as columns."""
    return {
        "available_capacity": report.available_bytes,
        "used_capacity": report.used_bytes,
        "total_capacity": report.available_bytes + report.used_bytes,
        "replicated_size": report.replicated_size,
    }


def refresh(connection: Connection, row: Row[Any], report: ClusterReport | None) -> None:
    """Write what a cluster says of a storage; a storage without a monitor is Disconnected."""
    status = "Connected" if report is not None else "Disconnected"
    if row.status != status:
        change_storage(connection, row.uuid, status=status)
    if report is not None:
        save_pools(connection, row.uuid, report)


def save_pools(connection: Connection, storage_uuid: str, report: ClusterReport) -> None:
    """Write the capacities of a storage's pools, and its own, which is theirs together."""
    pools = pools_of(connection, storage_uuid)
    for pool in pools:
        found = pool_of(report, pool.pool_name)
        if found is not None:
            where = pool_table.c.uuid == pool.uuid
            connection.execute(update(pool_table).where(where).values(**columns_of(found)))
    total, available = capacity_of(report, [pool.pool_name for pool in pools])
    if total:
        save_capacity(connection, Place(storage_uuid), Capacity(total=total, available=available))


KIND = Kind("primary storage", CEPH_STORAGE, mons_table, OWNER, "image_cache_pool_name", refresh)
kinds.append(KIND)
