"""The servers of monitors with their agents, and how the monitors of any kind of storage are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, ForeignKey, Integer, Row, String, Table, Text, select, update

from cephagent.protocol import ClusterReport
from mn.db.schema import (
    Document,
    date_columns,
    metadata,
    new_uuid,
    now_s,
    private,
    sequence_column,
    uuid_column,
)
from mn.fleet.agents import CEPH_AGENT
from mn.fleet.client import Endpoint
from mn.query.resource import Resource

SEALED_FOR = "password of a Ceph monitor's host"
HIDDEN = "*****"

server_table = Table(
    "ceph_server",
    metadata,
    sequence_column(),
    Column("uuid", String(32), nullable=False, unique=True),
    Column("hostname", String(255), nullable=False, unique=True),
    Column("status", String(32), nullable=False),
    Column("ssh_host_key", Text),
    Column("agent_address", String(255)),
    Column("agent_port", Integer),
    Column("inventory_hash", String(64), nullable=False, server_default=""),
    Column("report", Document),
    *date_columns(),
)
"""One for each host of monitors, whatever storages have it. `report` is what its agent said last."""


def mon_table(name: str, owner: str, owner_table: str, what: str) -> Table:
    """Return a table of the monitors of a kind of storage, whose uuid is in the column `owner`."""
    return Table(
        name,
        metadata,
        sequence_column(),
        private("uuid", String(32), nullable=False, unique=True),
        Column("hostname", String(255), nullable=False, index=True, comment="address or name of its host"),
        uuid_column("mon_uuid", nullable=False, index=True, comment="UUID of the monitor"),
        Column("mon_addr", String(255), index=True, comment="its address in the cluster"),
        Column("mon_port", Integer, nullable=False, index=True, comment="its port"),
        uuid_column(
            owner,
            ForeignKey(f"{owner_table}.uuid", ondelete="CASCADE"),
            nullable=False,
            index=True,
            comment=f"UUID of the {what}",
        ),
        Column(
            "status", String(32), nullable=False, index=True, comment="Connecting, Connected or Disconnected"
        ),
        Column("ssh_username", String(255), nullable=False, index=True, comment="SSH user"),
        Column("ssh_password", String(8), nullable=False, index=True, comment="stars: it is not shown"),
        Column("ssh_port", Integer, nullable=False, index=True, comment="SSH port"),
        private("sealed_password", Text, nullable=False),
        private("server_uuid", String(32), ForeignKey("ceph_server.uuid"), nullable=False, index=True),
        private("reason", Text),
        *date_columns(),
    )


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of storage that has monitors; its table has the columns `fsid` and `status`.

    The column `image_pool` has the pool whose RBD images are called by the uuids of images. `refresh` writes
    what a report says of a storage; it is given None when nobody reports.
    """

    what: str
    resource: Resource
    mons: Table
    owner: str
    image_pool: str
    refresh: Callable[[Connection, Row[Any], ClusterReport | None], None]

    def mon_rows(self, connection: Connection, uuid: str) -> list[Row[Any]]:
        """Return a storage's monitors, in the order they came."""
        mine = self.mons.c[self.owner] == uuid
        return list(connection.execute(select(self.mons).where(mine).order_by(self.mons.c.seq)))


kinds: list[Kind] = []
"""All kinds; each storage's room adds its own."""


def server_of(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a server's row, None when there is none."""
    return connection.execute(select(server_table).where(server_table.c.uuid == uuid)).first()


def server_named(connection: Connection, hostname: str) -> str:
    """Return the uuid of a host's server, made when there is none."""
    table = server_table
    known = connection.execute(select(table.c.uuid).where(table.c.hostname == hostname)).scalar()
    if known is not None:
        return str(known)
    now = now_s()
    values = {"uuid": new_uuid(), "hostname": hostname, "status": "Connecting"}
    connection.execute(table.insert(), {**values, "create_date": now, "last_op_date": now})
    return values["uuid"]


def change_server(connection: Connection, uuid: str, **values: Any) -> None:
    """Write columns of a server; nothing happens when it is gone."""
    where = server_table.c.uuid == uuid
    connection.execute(update(server_table).where(where).values(**values, last_op_date=now_s()))


def report_of(row: Row[Any]) -> ClusterReport | None:
    """Return what a server's agent said last."""
    return msgspec.convert(row.report, ClusterReport) if row.report else None


def endpoint_of(row: Row[Any]) -> Endpoint:
    """Return where a server's agent listens."""
    return Endpoint(row.uuid, row.agent_address or row.hostname, row.agent_port or 0, CEPH_AGENT.name)
