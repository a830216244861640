"""The audit log as the API shows it."""

from __future__ import annotations

from mn.db.audit import audit_table
from mn.query.resource import Resource
from mn.rest.operation import Query

AUDIT = Resource("Audit", audit_table)


class QueryAudit(Query, path=("/audits", "/audits/{uuid}"), reply=AUDIT):
    """Query the audit log: all calls that change something, logins, logouts and refusals."""
