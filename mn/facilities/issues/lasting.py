"""What is Disconnected stays an issue while it is tried anew, so that `since` is when it was lost."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table, and_, or_, select

from mn.facilities.issues.tables import issue_table


def is_lost(table: Table, code: str) -> ColumnElement[bool]:
    """Return the condition for rows that are Disconnected, or Connecting with an issue of `code` already."""
    status: Any = table.c.status
    lost = select(issue_table.c.resource_uuid).where(issue_table.c.code == code)
    again = and_(status == "Connecting", table.c.uuid.in_(lost))
    return or_(status == "Disconnected", again)
