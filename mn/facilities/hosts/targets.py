"""Where a host is and how to log in to it, from its row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from agentkit.errors import Blame, HardpointError
from mn.db.vault import Vault
from mn.facilities.common import find
from mn.facilities.hosts.tables import HOST, SEALED_FOR, host_table
from mn.fleet.deploy import Target
from mn.fleet.ssh import SshTarget


def login_of(row: Row[Any], vault: Vault) -> SshTarget:
    """Return how to log in to the host of a row."""
    password = vault.open(row.password, SEALED_FOR)
    return SshTarget(row.management_ip, row.ssh_port, row.username, password, row.ssh_host_key)


def target_of(row: Row[Any], vault: Vault) -> Target:
    """Return the host of a row as deployment knows it."""
    return Target(row.uuid, row.management_ip, login_of(row, vault))


def load_logins(connection: Connection, vault: Vault, uuids: list[str]) -> dict[str, SshTarget]:
    """Return how to log in, by host uuid.

    Raises HardpointError: SYS.1003 when one does not exist, SYS.1006 for a simulated host.
    """
    return {uuid: login_of(_real(find(connection, HOST, uuid)), vault) for uuid in uuids}


def _real(row: Row[Any]) -> Row[Any]:
    """Return the row of a host that one can log in to: at a simulated one's address answers this machine."""
    if row.hypervisor_type == "KVM":
        return row
    raise HardpointError(
        "SYS.1006",
        "Operation failed",
        f"host {row.name} ({row.uuid}) is of hypervisorType {row.hypervisor_type}: nobody can log in to it",
        remedy="name hosts whose hypervisorType is KVM",
        blame=Blame.CALLER,
    )


def load_target(connection: Connection, vault: Vault, uuid: str) -> Target | None:
    """Return a host as deployment knows it, None when there is no such host."""
    row = connection.execute(select(host_table).where(host_table.c.uuid == uuid)).first()
    return None if row is None else target_of(row, vault)
