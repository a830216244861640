"""The audit log: who called what from where, on what, and how it ended. Secrets are never in it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert

from mn.db.audit import audit_table
from mn.db.engine import Database
from mn.db.schema import new_uuid, now_s
from mn.query.resource import Resource
from mn.rest.operation import Operation, Query

AUDIT = Resource("Audit", audit_table)

DAY_S = 24 * 3600
STRANGER_LINES_A_MINUTE = 60
"""Lines that an address without a session may cause a minute; more would let anybody fill the disk."""
STRANGERS_MAX = 10_000
RELATED_MAX = 100

_UUID = re.compile(r"[0-9a-f]{32}")


class QueryAudit(Query, path=("/audits", "/audits/{uuid}"), reply=AUDIT):
    """Query the audit log: all calls that change something, logins, logouts and refusals."""


class Line:
    """A line that is being written: what a request turned out to be, as it is handled."""

    def __init__(self, address: str, operation: type[Operation]) -> None:
        self.uuid = new_uuid()
        self.address = address
        self.operation = operation
        self.account_uuid: str | None = None
        self.session_digest: str | None = None
        self.call: Operation | None = None
        self._begun = time.time()

    def by(self, session_uuid: str | None, account_uuid: str | None) -> None:
        """Say who called."""
        if session_uuid:
            self.session_digest = hashlib.sha256(session_uuid.encode()).hexdigest()[:12]
        self.account_uuid = account_uuid

    def row(self, status: int, error_code: str | None = None, job_uuid: str | None = None) -> dict[str, Any]:
        """Return the row of the table."""
        subject, related = _uuids(self.call) if self.call else (None, [])
        return {
            "uuid": self.uuid,
            "account_uuid": self.account_uuid,
            "session_digest": self.session_digest,
            "client_address": self.address[:64],
            "operation": self.operation.__name__,
            "resource_uuid": subject,
            "related_uuids": ",".join(related[:RELATED_MAX]) or None,
            "job_uuid": job_uuid,
            "status": status,
            "error_code": error_code,
            "duration_ms": None if job_uuid else int((time.time() - self._begun) * 1000),
            "details": (self.call.audit_details() or None) if self.call else None,
            "begun_ms": int(self._begun * 1000),
            "create_date": int(self._begun),
        }


class AuditLog:
    """Writes lines of calls that are no jobs; those of jobs are written with the job."""

    def __init__(self, db: Database, keep_days: int) -> None:
        self._db = db
        self._keep_s = keep_days * DAY_S
        self._strangers: dict[str, int] = {}
        self._minute = 0
        self.left_out = 0
        """Lines of strangers that were too many."""

    async def write(self, line: Line, status: int, error_code: str | None) -> None:
        """Write a line; it is on disk when this returns."""
        if line.account_uuid is None and not self._has_room(line.address):
            self.left_out += 1
            return
        await self._db.write(add_line, line.row(status, error_code))

    async def purge(self) -> None:
        """Forget lines that are older than the settings say."""
        await self._db.write(purge_lines, now_s() - self._keep_s)

    def _has_room(self, address: str) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute or len(self._strangers) >= STRANGERS_MAX:
            self._minute, self._strangers = minute, {}
        self._strangers[address] = self._strangers.get(address, 0) + 1
        return self._strangers[address] <= STRANGER_LINES_A_MINUTE


def add_line(connection: Connection, row: dict[str, Any]) -> None:
    """Insert a line."""
    connection.execute(insert(audit_table), row)


def purge_lines(connection: Connection, before_s: int) -> int:
    """Delete the lines of calls before a moment; return how many."""
    return connection.execute(delete(audit_table).where(audit_table.c.create_date < before_s)).rowcount


def _uuids(call: Operation) -> tuple[str | None, list[str]]:
    """Return the uuid that an operation acts on, and those that its other parameters name."""
    subject: str | None = None
    related: list[str] = []
    for name, uuid in _named_uuids(call):
        if name in ("uuid", "resource_uuid"):
            subject = uuid
        elif uuid not in related:
            related.append(uuid)
    return subject, related


def _named_uuids(call: Operation) -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(call):
        if field.name == "session_uuid":  # the bearer's secret
            continue
        value = getattr(call, field.name)
        if field.name.endswith("uuid"):
            value = [value]
        elif not field.name.endswith("uuids") or not isinstance(value, list):
            continue
        yield from ((field.name, v) for v in value if isinstance(v, str) and _UUID.fullmatch(v))
