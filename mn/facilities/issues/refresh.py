"""The issues follow the fleet: the checks run when somebody asks, and now and then by themselves."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from mn.db.schema import now_s
from mn.facilities.issues.findings import known_checks
from mn.facilities.issues.tables import issue_table
from mn.facilities.tags.rules import drop_tags
from mn.rest.services import Services

log = logging.getLogger(__name__)

REFRESH_EVERY_S = 30.0
FRESH_FOR_S = 1.0
"""For so long what the checks found is answered again."""

_refreshed: dict[str, float] = {}
"""When each process that runs here last ran the checks, by its incarnation (monotonic seconds)."""


async def refresh_issues(services: Services) -> None:
    """Run the checks unless they have just been; write only when something differs."""
    before, now = _refreshed.get(services.incarnation, float("-inf")), time.monotonic()
    if now - before < FRESH_FOR_S:
        return
    _refreshed[services.incarnation] = now
    try:
        if await services.db.read(differs):
            await services.db.write(write_issues)
    except BaseException:
        _refreshed[services.incarnation] = before
        raise


async def watch_issues(services: Services) -> None:
    """Run the checks every now and then, so that it is known since when something is wrong; never returns."""
    while True:
        try:
            await refresh_issues(services)
        except Exception:
            log.exception("the checks of the fleet failed, they run again later")
        await asyncio.sleep(REFRESH_EVERY_S)


def differs(connection: Connection) -> bool:
    """Say whether the rows are not what the checks find."""
    found = find_issues(connection)
    return {row.uuid: _said(row._mapping) for row in connection.execute(select(issue_table))} != {
        uuid: _said(issue) for uuid, issue in found.items()
    }


def write_issues(connection: Connection) -> None:
    """Bring the rows in line with what the checks find: those that go on keep `since`, those over go."""
    table, found, now = issue_table, find_issues(connection), now_s()
    known = {row.uuid: _said(row._mapping) for row in connection.execute(select(table))}
    over = [{"over": uuid} for uuid in known.keys() - found.keys()]
    if over:
        connection.execute(delete(table).where(table.c.uuid == bindparam("over")), over)
        drop_tags(connection, *(issue["over"] for issue in over))
    fresh = [
        {"uuid": uuid, **issue, "since": now, "create_date": now, "last_op_date": now}
        for uuid, issue in found.items()
        if uuid not in known
    ]
    if fresh:
        connection.execute(insert(table), fresh)
    for uuid, issue in found.items():
        if uuid in known and known[uuid] != issue:
            connection.execute(update(table).where(table.c.uuid == uuid).values(**issue, last_op_date=now))


def find_issues(connection: Connection) -> dict[str, dict[str, Any]]:
    """Run all checks; return what they find, as columns by the issue's uuid."""
    return {
        check.uuid(finding): {
            "code": check.code,
            "severity": check.severity,
            "resource_type": check.resource_type,
            "resource_uuid": finding.resource_uuid,
            "resource_name": finding.resource_name,
            "evidence": finding.evidence,
            "remedy": check.remedy,
            "operation": check.operation,
        }
        for check in known_checks().values()
        for finding in check.find(connection)
    }


_SAID = (
    "code",
    "severity",
    "resource_type",
    "resource_uuid",
    "resource_name",
    "evidence",
    "remedy",
    "operation",
)


def _said(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in _SAID}
