"""The outbox of web hooks: a row is written in the transaction that ends its job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, select, update

from mn.jobs.tables import HookState, hook_table, job_table


class Hook(msgspec.Struct, frozen=True):
    """Where a job's end is told: `url` is sealed, `receiver` is its scheme, host and port.

    `from_loopback` says that the request came from this machine, so the receiver may be on it too.
    """

    url: str
    receiver: str
    from_loopback: bool


def load_due(
    connection: Connection, now: float, limit: int, each: int, busy: Sequence[str], full: Sequence[str]
) -> Sequence[Row[Any]]:
    """Return hooks to send now, with the ends of their jobs: the oldest first, receivers taking turns.

    At most `limit`, and `each` of a receiver. Left out are the jobs in `busy` and the receivers in `full`.
    """
    turn = func.row_number().over(partition_by=hook_table.c.receiver, order_by=hook_table.c.due).label("turn")
    due = (
        select(hook_table, turn)
        .where(
            hook_table.c.state == HookState.PENDING,
            hook_table.c.due <= now,
            hook_table.c.job_uuid.not_in(busy),
            hook_table.c.receiver.not_in(full),
        )
        .subquery()
    )
    query = (
        select(due, job_table.c.result, job_table.c.error)
        .join(job_table, job_table.c.uuid == due.c.job_uuid)
        .where(due.c.turn <= each)
        .order_by(due.c.turn, due.c.due)
        .limit(limit)
    )
    return connection.execute(query).all()


def next_due(connection: Connection, busy: Sequence[str], full: Sequence[str]) -> float | None:
    """Return when the next hook that `load_due` may return is due, None when there is none."""
    query = select(func.min(hook_table.c.due)).where(
        hook_table.c.state == HookState.PENDING,
        hook_table.c.job_uuid.not_in(busy),
        hook_table.c.receiver.not_in(full),
    )
    due: float | None = connection.execute(query).scalar_one()
    return due


_SETTLE = (
    update(hook_table)
    .where(hook_table.c.job_uuid == bindparam("b_uuid"))
    .values(state=bindparam("b_state"), attempts=hook_table.c.attempts + 1, due=bindparam("b_due"))
)


def settle(connection: Connection, job_uuid: str, state: HookState, due: float) -> None:
    """Write down how an attempt ended; `due` is when the next one begins."""
    connection.execute(_SETTLE, {"b_uuid": job_uuid, "b_state": state, "b_due": due})


def count_hooks(connection: Connection) -> dict[str, int]:
    """Return the number of hooks by state."""
    query = select(hook_table.c.state, func.count()).group_by(hook_table.c.state)
    return dict(row._tuple() for row in connection.execute(query))
