"""What hosts may have of other facilities: sessions, mounts, bridges.

A holding is written before a host is asked to have something, and goes once the host says that it has given
it back. So a host that was away when something ended gives it back when it is connected again, even when the
thing itself is deleted by then.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Row,
    String,
    Table,
    UniqueConstraint,
    delete,
    insert,
    select,
    update,
)

from mn.db.schema import UUID_LENGTH, Document, metadata, sequence_column, uuid_column
from mn.facilities.hosts.tables import load_host

KIND_LENGTH = 32

holding_table = Table(
    "host_holding",
    metadata,
    sequence_column(),
    uuid_column("host_uuid", ForeignKey("host.uuid", ondelete="CASCADE"), nullable=False),
    Column("kind", String(KIND_LENGTH), nullable=False),
    Column("subject", String(UUID_LENGTH), nullable=False),
    Column("spec", Document, nullable=False),
    UniqueConstraint("host_uuid", "kind", "subject"),
)
"""`subject` is the uuid of what it has of the kind, `ALL` where it is told of all at once; `spec` is what the
host has to be told to give it back.
"""
ALL = "all"


def hold(
    connection: Connection, host_uuid: str, kind: str, subject: str = ALL, spec: msgspec.Struct | None = None
) -> None:
    """Note that a host may have something from now on; what is known already is not written again.

    Nothing happens when the host is gone.
    """
    told: dict[str, Any] = {} if spec is None else msgspec.to_builtins(spec)
    mine = _of(host_uuid, kind) & (holding_table.c.subject == subject)
    known = connection.execute(select(holding_table.c.spec).where(mine)).first()
    if known is not None:
        if known.spec != told:
            connection.execute(update(holding_table).where(mine).values(spec=told))
    elif load_host(connection, host_uuid) is not None:
        key = {"host_uuid": host_uuid, "kind": kind, "subject": subject}
        connection.execute(insert(holding_table), {**key, "spec": told})


def given_back(connection: Connection, host_uuid: str, kind: str, subject: str = ALL) -> None:
    """Note that a host has said that it has something no longer."""
    mine = _of(host_uuid, kind) & (holding_table.c.subject == subject)
    connection.execute(delete(holding_table).where(mine))


def holdings_of(connection: Connection, host_uuid: str, kind: str) -> list[Row[Any]]:
    """Return what a host may have of a kind, the oldest first."""
    rows = holding_table.c
    query = select(rows.subject, rows.spec).where(_of(host_uuid, kind)).order_by(rows.seq)
    return list(connection.execute(query))


def _of(host_uuid: str, kind: str) -> Any:
    return (holding_table.c.host_uuid == host_uuid) & (holding_table.c.kind == kind)
