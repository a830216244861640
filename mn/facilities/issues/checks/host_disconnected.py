"""A host does not answer."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from agentkit.errors import ErrorBody
from mn.facilities.hosts.tables import Login, host_table
from mn.facilities.issues.findings import CRITICAL, Finding, check
from mn.facilities.issues.lasting import is_lost

IN_MAINTENANCE = ("PreMaintenance", "Maintenance")

CODE = "HOST.DISCONNECTED"


@check(
    CODE,
    "Host",
    severity=CRITICAL,
    operation="ReconnectHost",
    remedy="see to the host's power, network and SSH server, then reconnect it (ReconnectHost); "
    "one that is gone for good is deleted with deleteMode=Enforcing",
)
def find_lost_hosts(connection: Connection) -> list[Finding]:
    """Find Disconnected hosts; one in maintenance may be off."""
    hosts = host_table.c
    query = (
        select(hosts.uuid, hosts.name, hosts.management_ip, hosts.login, hosts.reconnect_error)
        .where(is_lost(host_table, CODE), hosts.state.not_in(IN_MAINTENANCE))
        .order_by(hosts.seq)
    )
    return [
        Finding(row.uuid, row.name, _evidence(row.management_ip, row.login, row.reconnect_error))
        for row in connection.execute(query)
    ]


def _evidence(address: str, login: str, error: str | None) -> str:
    failed = msgspec.json.decode(error, type=ErrorBody).details if error else None
    said = f"its agent does not answer at {address}"
    if login == Login.REFUSED:
        said += "; the host refuses the user name or the password (UpdateKVMHost)"
    return f"{said}; the last reconnect failed: {failed}" if failed else said
