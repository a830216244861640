"""The monitors of Ceph backup storages, and what their clusters report."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from cephagent.protocol import ClusterReport
from mn.facilities.backup_storage.tables import (
    BACKUP_STORAGE,
    CEPH_TYPE,
    Store,
    backup_storage_table,
    change_storage,
    locate_by,
)
from mn.facilities.cascade import part_of
from mn.facilities.ceph.asking import agent_of
from mn.facilities.ceph.clusters import pool_of
from mn.facilities.ceph.tables import Kind, kinds, mon_table
from mn.query.resource import Relation, Resource

OWNER = "backup_storage_uuid"

mons_table = mon_table("ceph_backup_storage_mon", OWNER, "backup_storage", "backup storage")
CEPH_MON = Resource("CephBackupStorageMon", mons_table)
CEPH_STORAGE = Resource(
    "CephBackupStorage",
    backup_storage_table,
    dict(BACKUP_STORAGE.relations),
    only={"type": CEPH_TYPE},
    lists={"mons": Relation(lambda: CEPH_MON, "uuid", "backupStorageUuid")},
)
CEPH_STORAGE.relations.update(CEPH_STORAGE.lists)
part_of(BACKUP_STORAGE, CEPH_MON, OWNER)


def refresh(connection: Connection, row: Row[Any], report: ClusterReport | None) -> None:
    """Write what a cluster says of a storage; a storage without a monitor is Disconnected."""
    status = "Connected" if report is not None else "Disconnected"
    if row.status != status:
        change_storage(connection, row.uuid, status=status)
    found = pool_of(report, row.pool_name) if report is not None else None
    if found is not None:
        change_storage(
            connection,
            row.uuid,
            total_capacity=found.available_bytes + found.used_bytes,
            available_capacity=0 if found.is_full else found.available_bytes,
            pool_available_capacity=found.available_bytes,
            pool_used_capacity=found.used_bytes,
            pool_replicated_size=found.replicated_size,
        )


def locate(connection: Connection, row: Row[Any]) -> Store:
    """Return a storage as drivers know it. Raises HardpointError (SYS.1006) when no agent can be asked."""
    at = agent_of(connection, KIND, row.uuid)
    return Store(row.uuid, row.name, row.type, at.address, at.port, at.agent, at.server_uuid, row.pool_name)


KIND = Kind("backup storage", CEPH_STORAGE, mons_table, OWNER, "pool_name", refresh)
kinds.append(KIND)
locate_by(CEPH_TYPE, locate)
