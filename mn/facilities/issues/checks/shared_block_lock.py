"""The lease of a host on a shared-block storage is in danger, or lost."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.hosts.tables import host_table
from mn.facilities.issues.findings import CRITICAL, Finding, check
from mn.facilities.primary_storage.shared_block.tables import host_table as group_host_table
from mn.facilities.primary_storage.tables import primary_storage_table

PASSING = ("Held", "Joining")


@check(
    "PS.SHARED_BLOCK_LOCK",
    "SharedBlockGroupPrimaryStorage",
    severity=CRITICAL,
    operation="RecoverSharedBlockGroup",
    remedy="see to the LUN and its paths, then have RecoverSharedBlockGroup say what brings it back there",
)
def find_endangered_leases(connection: Connection) -> list[Finding]:
    """Find connected hosts whose lease on a group is not as it should be, by the name of the cause."""
    refs, hosts, storages = group_host_table.c, host_table.c, primary_storage_table.c
    query = (
        select(
            storages.uuid,
            storages.name,
            refs.host_uuid,
            hosts.name.label("host_name"),
            refs.lock_state,
            refs.reason,
        )
        .join(primary_storage_table, storages.uuid == refs.primary_storage_uuid)
        .join(host_table, hosts.uuid == refs.host_uuid)
        .where(
            refs.lock_state.not_in(PASSING), hosts.status != "Disconnected", storages.status != "Disconnected"
        )
        .order_by(refs.seq)
    )
    return [
        Finding(
            row.uuid,
            row.name,
            f"host {row.host_name} ({row.host_uuid}): {row.lock_state}, {row.reason or 'no reason is known'}",
            part=row.host_uuid,
        )
        for row in connection.execute(query)
    ]
