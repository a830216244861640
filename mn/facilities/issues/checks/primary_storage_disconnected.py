"""No host can use a primary storage."""

from __future__ import annotations

from sqlalchemy import Connection, exists, select

from mn.facilities.issues.findings import CRITICAL, Finding, check
from mn.facilities.issues.lasting import is_lost
from mn.facilities.primary_storage.tables import (
    cluster_ref_table,
    host_ref_table,
    primary_storage_table,
)

AT_REST = ("Maintenance", "Deleting")

CODE = "PS.DISCONNECTED"


@check(
    CODE,
    "PrimaryStorage",
    severity=CRITICAL,
    operation="ReconnectPrimaryStorage",
    remedy="mend what the evidence says of the server, the disk or the hosts; the storage comes back by "
    "itself, or at once by ReconnectPrimaryStorage",
)
def find_lost_storages(connection: Connection) -> list[Finding]:
    """Find Disconnected primary storages; one that is attached to no cluster, or at rest, need not be."""
    storages, clusters = primary_storage_table.c, cluster_ref_table.c
    query = (
        select(storages.uuid, storages.name, storages.url)
        .where(
            is_lost(primary_storage_table, CODE),
            storages.state.not_in(AT_REST),
            exists().where(clusters.primary_storage_uuid == storages.uuid),
        )
        .order_by(storages.seq)
    )
    return [
        Finding(row.uuid, row.name, f"no host can use {row.url}{_reason(connection, row.uuid)}")
        for row in connection.execute(query).all()
    ]


def _reason(connection: Connection, storage_uuid: str) -> str:
    """Return what one of the hosts said of a storage."""
    refs = host_ref_table.c
    mine = (refs.primary_storage_uuid == storage_uuid) & refs.reason.is_not(None)
    said = connection.execute(select(refs.reason).where(mine).order_by(refs.seq).limit(1)).scalar()
    return f": {said}" if said else ""
