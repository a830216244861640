"""One of several hosts cannot use a primary storage."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.hosts.tables import host_table
from mn.facilities.issues.findings import WARNING, Finding, check
from mn.facilities.primary_storage.tables import SHARED_BLOCK, host_ref_table, primary_storage_table


@check(
    "PS.HOST_DISCONNECTED",
    "PrimaryStorage",
    severity=WARNING,
    operation="ReconnectPrimaryStorage",
    remedy="mend the mount, the directory or the network on that host; it comes back by itself, or at once "
    "by ReconnectPrimaryStorage",
)
def find_lost_places(connection: Connection) -> list[Finding]:
    """Find connected hosts that cannot use a storage which is Connected itself: elsewhere it is that, or the
    host, that is lost.
    """
    refs, hosts, storages = host_ref_table.c, host_table.c, primary_storage_table.c
    query = (
        select(storages.uuid, storages.name, refs.host_uuid, hosts.name.label("host_name"), refs.reason)
        .join(primary_storage_table, storages.uuid == refs.primary_storage_uuid)
        .join(host_table, hosts.uuid == refs.host_uuid)
        .where(
            refs.status == "Disconnected",
            storages.status != "Disconnected",
            hosts.status != "Disconnected",
            storages.type != SHARED_BLOCK,  # its leases have a check of their own
        )
        .order_by(refs.seq)
    )
    return [
        Finding(
            row.uuid,
            row.name,
            f"host {row.host_name} ({row.host_uuid}) cannot use it: {row.reason or 'it does not answer'}",
            part=row.host_uuid,
        )
        for row in connection.execute(query)
    ]
