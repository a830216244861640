"""Tables of the job journal."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from mn.db.schema import Instant, date_columns, metadata, named_columns, sequence_column, uuid_column


class JobState(StrEnum):
    """State of a job. Undoing: it has failed and gives back what its steps did."""

    QUEUED = "Queued"
    RUNNING = "Running"
    UNDOING = "Undoing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


FINAL = (JobState.SUCCEEDED, JobState.FAILED)


class HookState(StrEnum):
    """State of a web hook."""

    PENDING = "Pending"
    DELIVERED = "Delivered"
    GIVEN_UP = "GivenUp"


job_table = Table(
    "job",
    metadata,
    sequence_column(),
    uuid_column(nullable=False, unique=True),
    Column("operation", String(255), nullable=False),
    Column("request", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("locks", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("result", Text),
    Column("error", Text),
    Column("hook", Text),
    Column("is_long", Boolean, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("deadline", Instant, nullable=False),
    Column("create_date", Instant, nullable=False),
    Column("finish_date", Instant),
)
_unfinished = job_table.c.finish_date.is_(None)
Index("ix_job_unfinished", job_table.c.seq, sqlite_where=_unfinished, postgresql_where=_unfinished)
Index("ix_job_finish_date", job_table.c.finish_date)


class LongJobState(StrEnum):
    """State of a long job, as the API has it."""

    RUNNING = "Running"
    CANCELING = "Canceling"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"


LONG_GOING_ON = (LongJobState.RUNNING, LongJobState.CANCELING)


long_job_table = Table(
    "long_job",
    metadata,
    *named_columns("long job"),
    uuid_column("api_id", nullable=False, unique=True, comment="UUID of the job that does it"),
    Column("job_name", String(255), nullable=False, index=True, comment="the operation, APIAddKVMHostMsg"),
    Column("job_data", Text, nullable=False, comment="its parameters as JSON, secrets as stars"),
    Column("job_result", Text, comment="its reply or error as JSON"),
    Column(
        "state",
        String(16),
        nullable=False,
        index=True,
        comment="Running, Canceling (until it has ended), Succeeded, Failed or Canceled",
    ),
    uuid_column("target_resource_uuid", index=True, comment="UUID of what it acts on"),
    uuid_column("management_node_uuid", comment="UUID of the management node that runs it"),
    *date_columns(),
)

step_table = Table(
    "job_step",
    metadata,
    uuid_column("job_uuid", ForeignKey("job.uuid", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("result", Text),
    Column("error", Text),
    Column("undone", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

lock_table = Table(
    "job_lock",
    metadata,
    Column("resource", String(255), primary_key=True),
    uuid_column("job_uuid", ForeignKey("job.uuid", ondelete="CASCADE"), nullable=False),
    sqlite_with_rowid=False,
)

hook_table = Table(
    "job_hook",
    metadata,
    uuid_column("job_uuid", ForeignKey("job.uuid", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, nullable=False),
    Column("receiver", String(320), nullable=False),
    Column("from_loopback", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", Float, nullable=False),
    Column("create_date", Instant, nullable=False),
)
Index(
    "ix_job_hook_due",
    hook_table.c.due,
    sqlite_where=hook_table.c.state == HookState.PENDING,
    postgresql_where=hook_table.c.state == HookState.PENDING,
)
