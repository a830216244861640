"""Tags of resources: a table that the query language joins to every resource."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, String, Table

from mn.db.schema import date_columns, identity_columns, metadata, uuid_column

TAG_LENGTH = 2048
SYSTEM, USER = "System", "User"
"""Kinds of tags."""

tag_table = Table(
    "tag",
    metadata,
    *identity_columns("tag"),
    uuid_column("resource_uuid", nullable=False, index=True, comment="UUID of the resource that has it"),
    Column("resource_type", String(64), nullable=False, index=True, comment="ZoneVO, ClusterVO, HostVO..."),
    Column("tag", String(TAG_LENGTH), nullable=False, comment="the tag"),
    Column("type", String(16), nullable=False, comment="System or User"),
    Column("inherent", Boolean, nullable=False, comment="whether only the system may delete it"),
    *date_columns(),
)
Index("ix_tag_tag", tag_table.c.tag, postgresql_using="hash")
"""By hash on PostgreSQL, whose trees take no text of 2,048 characters."""
