"""A host's IOMMU is wanted, and the kernel that runs has none."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.hosts.tables import host_table
from mn.facilities.issues.findings import WARNING, Finding, check
from mn.facilities.pci.iommu import ENABLED, host_iommu_table


@check(
    "IOMMU.INACTIVE",
    "Host",
    severity=WARNING,
    operation="UpdateHostIommuState",
    remedy="reboot the host; when it is still Inactive then, switch the IOMMU (VT-d, AMD-Vi) on in its "
    "firmware; to do without it, set the state to Disabled (UpdateHostIommuState)",
)
def find_inactive(connection: Connection) -> list[Finding]:
    """Find connected hosts whose IOMMU is wanted and was not there when they were last connected."""
    hosts, wanted = host_table.c, host_iommu_table.c
    query = (
        select(hosts.uuid, hosts.name, hosts.facts)
        .join(host_iommu_table, wanted.host_uuid == hosts.uuid)
        .where(wanted.state == ENABLED, hosts.status != "Disconnected")
        .order_by(hosts.seq)
    )
    return [
        Finding(
            row.uuid, row.name, "its IOMMU is wanted (Enabled), the running kernel has none in use (Inactive)"
        )
        for row in connection.execute(query)
        if row.facts is not None and not row.facts["iommu"]
    ]
