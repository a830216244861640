"""The audit log's table; the job journal writes to it too, in the transaction of a job's end."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, String, Table, Text

from mn.db.schema import Document, Instant, identity_columns, metadata, private, uuid_column

ACCEPTED = 202
"""Status of a line whose job has not ended."""

audit_table = Table(
    "audit",
    metadata,
    *identity_columns("line"),
    uuid_column("account_uuid", index=True, comment="UUID of the account that called"),
    Column("session_digest", String(12), comment="beginning of the SHA-256 of the session's UUID"),
    Column("client_address", String(64), nullable=False, index=True, comment="address that called"),
    Column("operation", String(255), nullable=False, index=True, comment="name of the operation"),
    uuid_column("resource_uuid", index=True, comment="UUID of the resource that was acted on or made"),
    Column("related_uuids", Text, comment="UUIDs among the parameters, joined by commas"),
    uuid_column("job_uuid", index=True, comment="UUID of the job"),
    Column("status", Integer, nullable=False, index=True, comment="HTTP status; 202 while the job runs"),
    Column("error_code", String(64), index=True, comment="code of the error that it ended with"),
    Column("duration_ms", BigInteger, comment="milliseconds from the call to its end"),
    Column("details", Document(none_as_null=True), comment="what else the operation puts on record"),
    private("begun_ms", BigInteger, nullable=False),
    Column("create_date", Instant, nullable=False, index=True, comment="time of the call"),
)
