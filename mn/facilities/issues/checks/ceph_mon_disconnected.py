"""A monitor of a Ceph storage does not answer, or its agent does not."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.backup_storage.ceph_tables import KIND as BACKUP
from mn.facilities.ceph.tables import Kind
from mn.facilities.issues.findings import WARNING, Finding, check
from mn.facilities.primary_storage.ceph_tables import KIND as PRIMARY

REMEDY = (
    "see that the monitor and hardpoint-cephagent run on its host; it is Connected again by itself, or after "
    "{}, which installs the agent anew"
)


@check(
    "PS.CEPH.MON.DISCONNECTED",
    "PrimaryStorage",
    severity=WARNING,
    operation="ReconnectPrimaryStorage",
    remedy=REMEDY.format("ReconnectPrimaryStorage"),
)
def find_lost_mons_of_primary_storages(connection: Connection) -> list[Finding]:
    """Find monitors that are lost while their storage goes on with others."""
    return _lost(connection, PRIMARY)


@check(
    "BS.CEPH.MON.DISCONNECTED",
    "BackupStorage",
    severity=WARNING,
    operation="ReconnectBackupStorage",
    remedy=REMEDY.format("ReconnectBackupStorage"),
)
def find_lost_mons_of_backup_storages(connection: Connection) -> list[Finding]:
    """Find monitors that are lost while their storage goes on with others."""
    return _lost(connection, BACKUP)


def _lost(connection: Connection, kind: Kind) -> list[Finding]:
    mons, table = kind.mons, kind.resource.table
    joined = mons.join(table, table.c.uuid == mons.c[kind.owner])
    query = select(mons.c.hostname, mons.c.reason, table.c.uuid, table.c.name).select_from(joined)
    return [
        Finding(row.uuid, row.name, f"monitor {row.hostname}: {row.reason or 'lost'}", part=row.hostname)
        for row in connection.execute(query.where(mons.c.status == "Disconnected").order_by(mons.c.seq))
    ]
