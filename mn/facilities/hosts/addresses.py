"""Addresses of hosts: each belongs to one host, however it is written."""

from __future__ import annotations

import asyncio
import socket

from sqlalchemy import Connection, delete, insert, select

from agentkit.errors import Blame, HardpointError
from mn.facilities.hosts.tables import address_table, host_table

RESOLVE_TIMEOUT_S = 10.0


async def resolve_address(address: str) -> list[str]:
    """Return an address and, of a name, what it resolves to now; a name that does not resolve is itself."""
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return [address]
    return sorted({address, *(str(where[0]) for *_, where in found)})


def check_free(connection: Connection, addresses: list[str], host_uuid: str) -> None:
    """Raise HardpointError (SYS.1007) when one of the addresses belongs to another host."""
    query = (
        select(host_table.c.uuid, host_table.c.name, host_table.c.management_ip, address_table.c.address)
        .join(address_table, address_table.c.host_uuid == host_table.c.uuid)
        .where(address_table.c.address.in_(addresses), host_table.c.uuid != host_uuid)
    )
    other = connection.execute(query).first()
    if other is None:
        return
    written = "" if other.management_ip == other.address else f", as {other.management_ip}"
    raise HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"managementIp {other.address} belongs to host {other.name} ({other.uuid}) already{written}",
        remedy="use that host, or delete it before you add the address again",
        blame=Blame.CALLER,
    )


def claim(connection: Connection, addresses: list[str], host_uuid: str) -> None:
    """Give a host its addresses, instead of those it had. Raises HardpointError like `check_free`."""
    check_free(connection, addresses, host_uuid)
    connection.execute(delete(address_table).where(address_table.c.host_uuid == host_uuid))
    connection.execute(insert(address_table), [{"address": a, "host_uuid": host_uuid} for a in addresses])
