"""A host has lost paths to LUNs of an iSCSI server; multipath goes on with those that are left."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.hosts.tables import host_table
from mn.facilities.iscsi.tables import CONNECTED, DISCONNECTED, host_ref_table, iscsi_server_table
from mn.facilities.issues.findings import CRITICAL, WARNING, Finding, check

_REMEDY = (
    "see to the iSCSI server, its portal and the network between it and the host; the session comes back by "
    "itself, or at once by RefreshIscsiServer"
)


@check(
    "ISCSI.DEGRADED",
    "IscsiServer",
    severity=WARNING,
    operation="RefreshIscsiServer",
    remedy=_REMEDY,
)
def find_degraded(connection: Connection) -> list[Finding]:
    """Find connected hosts that have some of a server's sessions and paths, not all."""
    return _find(connection, degraded=True)


@check(
    "ISCSI.DISCONNECTED",
    "IscsiServer",
    severity=CRITICAL,
    operation="RefreshIscsiServer",
    remedy=_REMEDY,
)
def find_disconnected(connection: Connection) -> list[Finding]:
    """Find connected hosts that have no session to a server any more."""
    return _find(connection, degraded=False)


def _find(connection: Connection, *, degraded: bool) -> list[Finding]:
    refs, hosts, servers = host_ref_table.c, host_table.c, iscsi_server_table.c
    lost = refs.status == DISCONNECTED
    query = (
        select(
            servers.uuid,
            servers.name,
            refs.host_uuid,
            hosts.name.label("host_name"),
            refs.reason,
            refs.paths,
            refs.failed_paths,
        )
        .join(iscsi_server_table, servers.uuid == refs.iscsi_server_uuid)
        .join(host_table, hosts.uuid == refs.host_uuid)
        .where(refs.status != CONNECTED, ~lost if degraded else lost, hosts.status != "Disconnected")
        .order_by(refs.seq)
    )
    return [
        Finding(
            row.uuid,
            row.name,
            f"host {row.host_name} ({row.host_uuid}) has lost {row.failed_paths} of {row.paths} paths: "
            f"{row.reason}",
            part=row.host_uuid,
        )
        for row in connection.execute(query)
    ]
