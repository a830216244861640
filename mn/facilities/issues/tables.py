"""The rows of issues: what the checks found when they last ran."""

from __future__ import annotations

from sqlalchemy import Column, String, Table, Text

from mn.db.schema import Instant, date_columns, identity_columns, metadata, uuid_column
from mn.query.resource import Resource

issue_table = Table(
    "issue",
    metadata,
    *identity_columns("issue"),
    Column("code", String(64), nullable=False, index=True, comment="what kind of issue it is"),
    Column("severity", String(16), nullable=False, index=True, comment="Critical or Warning"),
    Column("resource_type", String(64), nullable=False, index=True, comment="type of what is affected"),
    uuid_column("resource_uuid", nullable=False, index=True, comment="UUID of what is affected"),
    Column("resource_name", String(255), nullable=False, index=True, comment="name of what is affected"),
    Column("since", Instant, nullable=False, index=True, comment="time when it was first seen"),
    Column("evidence", Text, nullable=False, comment="how it shows"),
    Column("remedy", Text, nullable=False, comment="what helps"),
    Column("operation", String(64), nullable=False, index=True, comment="the operation that mends it"),
    *date_columns(),
)

ISSUE = Resource("Issue", issue_table)
