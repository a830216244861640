"""Tables of the job journal."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from mn.db.schema import Instant, metadata, sequence_column, uuid_column


class JobState(StrEnum):
    """State of a job. Undoing: it has failed and gives back what its steps did."""

    QUEUED = "Queued"
    RUNNING = "Running"
    UNDOING = "Undoing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


FINAL = (JobState.SUCCEEDED, JobState.FAILED)

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
    Column("deadline", Instant, nullable=False),
    Column("create_date", Instant, nullable=False),
    Column("finish_date", Instant),
)
_unfinished = job_table.c.finish_date.is_(None)
Index("ix_job_unfinished", job_table.c.seq, sqlite_where=_unfinished, postgresql_where=_unfinished)
Index("ix_job_finish_date", job_table.c.finish_date)

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
