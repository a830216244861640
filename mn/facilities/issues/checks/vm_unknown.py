"""Nobody knows whether a VM runs."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.hosts.tables import host_table
from mn.facilities.issues.findings import WARNING, Finding, check
from mn.facilities.vms.tables import State, vm_table


@check(
    "VM.UNKNOWN",
    "VmInstance",
    severity=WARNING,
    operation="ReconnectHost",
    remedy="bring its host back (ReconnectHost), which tells whether the VM runs",
)
def find_unknown_vms(connection: Connection) -> list[Finding]:
    """Find VMs whose state is Unknown."""
    vms, hosts, targets = vm_table.c, host_table.c, host_table.alias("target")
    query = (
        select(
            vms.uuid,
            vms.name,
            vms.host_uuid,
            hosts.name.label("host_name"),
            hosts.status,
            targets.c.uuid.label("target_uuid"),
            targets.c.name.label("target_name"),
            targets.c.status.label("target_status"),
        )
        .outerjoin(host_table, hosts.uuid == vms.host_uuid)
        .outerjoin(targets, targets.c.uuid == vms.destination_host_uuid)
        .where(vms.state == State.UNKNOWN)
        .order_by(vms.seq)
    )
    return [
        Finding(
            row.uuid,
            row.name,
            f"it was last on host {row.host_name} ({row.host_uuid}), which is {row.status}"
            f"{_on_its_way(row.target_uuid, row.target_name, row.target_status)}"
            if row.status
            else "the host that it was on is gone",
        )
        for row in connection.execute(query)
    ]


def _on_its_way(uuid: str | None, name: str, status: str) -> str:
    return f", on its way to host {name} ({uuid}), which is {status}" if uuid is not None else ""
