"""What the checks of devices have in common: one that a VM has is not on its host."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select

from mn.db.schema import date_shown
from mn.facilities.devices import address_table
from mn.facilities.hosts.tables import host_table
from mn.facilities.issues.findings import Finding
from mn.facilities.vms.tables import vm_table


def find_missing(connection: Connection, table: Table) -> list[Finding]:
    """Find rows of a table of devices that VMs have and that are nowhere, and where they were last."""
    columns, hosts, vms = table.c, host_table.c, vm_table.c
    query = (
        select(
            columns.uuid,
            columns.name,
            columns.host_uuid,
            columns.vm_instance_uuid,
            hosts.name.label("host_name"),
            vms.name.label("vm_name"),
        )
        .join(host_table, hosts.uuid == columns.host_uuid)
        .outerjoin(vm_table, vms.uuid == columns.vm_instance_uuid)
        .where(columns.vm_instance_uuid.is_not(None), columns.address.is_(None))
        .order_by(columns.seq)
    )
    rows = connection.execute(query).all()
    places = _last_places(connection, [row.uuid for row in rows])
    return [
        Finding(
            row.uuid,
            row.name,
            f"VM {row.vm_name or '?'} ({row.vm_instance_uuid}) has it, host {row.host_name} "
            f"({row.host_uuid}) does not show it{places.get(row.uuid, '')}",
        )
        for row in rows
    ]


def _last_places(connection: Connection, uuids: list[str]) -> dict[str, str]:
    """Return in words where devices were last seen, by uuid."""
    table = address_table.c
    last = select(func.max(table.id)).where(table.device_uuid.in_(uuids)).group_by(table.device_uuid)
    query = select(table.device_uuid, table.address, table.until).where(table.id.in_(last))
    return {
        row.device_uuid: f"; it was at {row.address} until {date_shown(row.until)}"
        for row in connection.execute(query)
        if row.until is not None
    }
