"""A backup storage does not answer."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.backup_storage.tables import backup_storage_table
from mn.facilities.issues.findings import CRITICAL, Finding, check
from mn.facilities.issues.lasting import is_lost

CODE = "BS.DISCONNECTED"


@check(
    CODE,
    "BackupStorage",
    severity=CRITICAL,
    operation="ReconnectBackupStorage",
    remedy="see to the server's power, network and file system, then reconnect it (ReconnectBackupStorage)",
)
def find_lost_stores(connection: Connection) -> list[Finding]:
    """Find Disconnected backup storages."""
    table = backup_storage_table.c
    columns = (table.uuid, table.name, table.hostname, table.url)
    query = select(*columns).where(is_lost(backup_storage_table, CODE)).order_by(table.seq)
    return [
        Finding(row.uuid, row.name, _evidence(row.hostname, row.url)) for row in connection.execute(query)
    ]


def _evidence(hostname: str | None, url: str) -> str:
    if hostname is None:
        return "none of its monitors can be asked"
    return f"{hostname} does not answer, or has not got the folder {url}"
