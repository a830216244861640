"""The journal: every record that waits goes to the database in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from mn.db.audit import ACCEPTED, audit_table
from mn.db.engine import Database
from mn.db.schema import now_s
from mn.jobs.hooks import Hook
from mn.jobs.tables import (
    FINAL,
    HookState,
    JobState,
    LongJobState,
    hook_table,
    job_table,
    lock_table,
    long_job_table,
    step_table,
)


@dataclass(slots=True)
class NewJob:
    """A job is accepted; with `locked` it starts at once and holds its locks. `audit` is its audit line."""

    uuid: str
    operation: str
    request: str
    digest: str
    locks: str
    deadline: int
    locked: Sequence[str] | None
    hook: Hook | None = None
    audit: Mapping[str, Any] | None = None
    is_long: bool = False


@dataclass(slots=True)
class Started:
    """A queued job has got its locks."""

    uuid: str
    locked: Sequence[str]


@dataclass(slots=True)
class StepDone:
    """A step has ended, with a result or with an error (both JSON)."""

    job_uuid: str
    position: int
    name: str
    result: str | None
    error: str | None


@dataclass(slots=True)
class StepUndone:
    """What a step did has been given back."""

    job_uuid: str
    position: int
    name: str


@dataclass(slots=True)
class Cancelling:
    """Somebody wants the job to end; should it be resumed, that still holds."""

    uuid: str
    is_long: bool


@dataclass(slots=True)
class Failing:
    """The job has failed; from here on it only undoes."""

    uuid: str
    error: str


@dataclass(slots=True)
class Finished:
    """The job has ended; its locks are free, its web hook is due. `made` is the uuid of what it acted on."""

    uuid: str
    result: str | None
    error: str | None
    hook: Hook | None = None
    error_code: str | None = None
    made: str | None = None
    is_long: bool = False


Record = NewJob | Started | StepDone | StepUndone | Cancelling | Failing | Finished


class Journal:
    """Appends records durably, and reads them back after a crash.

    A job waits for each of its records before it writes the next, so the records of one group are
    independent; a Cancelling, which comes from elsewhere, is written before a job's end in the same group.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def append(self, record: Record) -> None:
        """Return when the record is on disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        await future

    async def transact(
        self, step: StepDone | StepUndone, fn: Callable[[Connection], str | None]
    ) -> str | None:
        """Run `fn` and record the step it makes up in one transaction; `fn` returns the step's result
        as JSON.
        """

        def unit(connection: Connection) -> str | None:
            result = fn(connection)
            if isinstance(step, StepDone):
                step.result = result
            apply_records(connection, [step])
            return result

        return await self._db.write(unit)

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await self._write(group)
        self._flusher = None

    async def _write(self, group: list[tuple[Record, asyncio.Future[None]]]) -> None:
        """Write records in one transaction; one that cannot be written is not to fail the others."""
        error: Exception | None = None
        try:
            await self._db.write(apply_records, [record for record, _ in group])
        except IntegrityError as refusal:
            if len(group) > 1:
                for each in group:
                    await self._write([each])
                return
            error = refusal
        except Exception as failure:  # noqa: BLE001 - each caller gets it
            error = failure
        for _, future in group:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def apply_records(connection: Connection, records: Sequence[Record]) -> None:
    """Write records with one statement a kind."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        for statement, row in _rows(record):
            rows.setdefault(statement, []).append(row)
    for name, statement in _STATEMENTS.items():
        if name in rows:
            connection.execute(statement, rows[name])


_STATEMENTS: dict[str, Any] = {
    "job": insert(job_table),
    "unlock": delete(lock_table).where(lock_table.c.job_uuid == bindparam("b_uuid")),
    "lock": insert(lock_table),
    "step": insert(step_table),
    "undone": update(step_table)
    .where(step_table.c.job_uuid == bindparam("b_uuid"), step_table.c.position == bindparam("b_position"))
    .values(undone=True),
    "state": update(job_table)
    .where(job_table.c.uuid == bindparam("b_uuid"))
    .values(state=bindparam("b_state")),
    "cancelling": update(job_table).where(job_table.c.uuid == bindparam("b_uuid")).values(cancelled=True),
    "long cancelling": update(long_job_table)
    .where(long_job_table.c.api_id == bindparam("b_uuid"), long_job_table.c.state == LongJobState.RUNNING)
    .values(state=LongJobState.CANCELING, last_op_date=bindparam("b_date")),
    "failing": update(job_table)
    .where(job_table.c.uuid == bindparam("b_uuid"))
    .values(state=JobState.UNDOING, error=bindparam("b_error")),
    "finish": update(job_table)
    .where(job_table.c.uuid == bindparam("b_uuid"))
    .values(
        state=bindparam("b_state"),
        result=bindparam("b_result"),
        error=bindparam("b_error"),
        finish_date=bindparam("b_date"),
    ),
    "hook": insert(hook_table),
    "long end": update(long_job_table)
    .where(long_job_table.c.api_id == bindparam("b_uuid"))
    .values(state=bindparam("b_state"), job_result=bindparam("b_result"), last_op_date=bindparam("b_date")),
    "audit": insert(audit_table),
    "audit end": update(audit_table)
    .where(audit_table.c.job_uuid == bindparam("b_uuid"), audit_table.c.status == ACCEPTED)
    .values(
        status=bindparam("b_status"),
        error_code=bindparam("b_code"),
        resource_uuid=func.coalesce(audit_table.c.resource_uuid, bindparam("b_made")),
        duration_ms=bindparam("b_now_ms") - audit_table.c.begun_ms,
    ),
}


def _rows(record: Record) -> list[tuple[str, dict[str, Any]]]:
    match record:
        case NewJob():
            state = JobState.QUEUED if record.locked is None else JobState.RUNNING
            job = {
                "uuid": record.uuid,
                "operation": record.operation,
                "request": record.request,
                "digest": record.digest,
                "locks": record.locks,
                "state": state,
                "hook": msgspec.json.encode(record.hook).decode() if record.hook else None,
                "is_long": record.is_long,
                "cancelled": False,
                "deadline": record.deadline,
                "create_date": now_s(),
            }
            audit = [("audit", dict(record.audit))] if record.audit else []
            return [("job", job), *_locks(record.uuid, record.locked or ()), *audit]
        case Started():
            running = {"b_uuid": record.uuid, "b_state": JobState.RUNNING}
            # It may have been written before, though nobody was told so
            former = ("unlock", {"b_uuid": record.uuid})
            return [("state", running), former, *_locks(record.uuid, record.locked)]
        case StepDone():
            step = {
                "job_uuid": record.job_uuid,
                "position": record.position,
                "name": record.name,
                "result": record.result,
                "error": record.error,
                "undone": False,
            }
            return [("step", step)]
        case StepUndone():
            return [("undone", {"b_uuid": record.job_uuid, "b_position": record.position})]
        case Cancelling():
            long = {"b_uuid": record.uuid, "b_date": now_s()}
            return [("cancelling", {"b_uuid": record.uuid}), *([("long cancelling", long)] * record.is_long)]
        case Failing():
            return [("failing", {"b_uuid": record.uuid, "b_error": record.error})]
        case Finished():
            return _end_rows(record)


def _end_rows(record: Finished) -> list[tuple[str, dict[str, Any]]]:
    now = time.time()
    failed = record.error is not None
    end = {
        "b_uuid": record.uuid,
        "b_state": JobState.FAILED if failed else JobState.SUCCEEDED,
        "b_result": record.result,
        "b_error": record.error,
        "b_date": int(now),
    }
    audit = {
        "b_uuid": record.uuid,
        "b_status": 503 if failed else 200,
        "b_code": record.error_code,
        "b_made": record.made,
        "b_now_ms": int(now * 1000),
    }
    rows: list[tuple[str, dict[str, Any]]] = [
        ("finish", end),
        ("unlock", {"b_uuid": record.uuid}),
        ("audit end", audit),
    ]
    if record.is_long:
        rows.append(("long end", _long_end(record, int(now))))
    if record.hook:
        hook = {
            "job_uuid": record.uuid,
            "url": record.hook.url,
            "receiver": record.hook.receiver,
            "from_loopback": record.hook.from_loopback,
            "state": HookState.PENDING,
            "attempts": 0,
            "due": now,
            "create_date": int(now),
        }
        rows.append(("hook", hook))
    return rows


def _long_end(record: Finished, now: int) -> dict[str, Any]:
    state = LongJobState.SUCCEEDED
    if record.error is not None:
        state = LongJobState.CANCELED if record.error_code == "SYS.1017" else LongJobState.FAILED
    return {
        "b_uuid": record.uuid,
        "b_state": state,
        "b_result": record.result or record.error,
        "b_date": now,
    }


def _locks(uuid: str, resources: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    return [("lock", {"resource": resource, "job_uuid": uuid}) for resource in resources]


def read_job(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return the row of a job, None when there is none (or no more)."""
    return connection.execute(_READ_JOB, {"uuid": uuid}).first()


_READ_JOB = select(job_table).where(job_table.c.uuid == bindparam("uuid"))


def read_unfinished(connection: Connection) -> Sequence[Row[Any]]:
    """Return the jobs to resume: those that hold locks first, then in the order they came."""
    queued_last = job_table.c.state == JobState.QUEUED
    query = select(job_table).where(job_table.c.finish_date.is_(None)).order_by(queued_last, job_table.c.seq)
    return connection.execute(query).all()


def read_steps(connection: Connection, uuid: str) -> Sequence[Row[Any]]:
    """Return the journalled steps of a job in their order."""
    query = select(step_table).where(step_table.c.job_uuid == uuid).order_by(step_table.c.position)
    return connection.execute(query).all()


def forget_locks(connection: Connection) -> None:
    """Drop all held locks: they belonged to a process that is gone, and resumed jobs take theirs again."""
    connection.execute(delete(lock_table))


def purge_finished(connection: Connection, before_s: int) -> int:
    """Delete the jobs that ended before a moment; return how many."""
    query = delete(job_table).where(job_table.c.finish_date < before_s, job_table.c.state.in_(FINAL))
    return connection.execute(query).rowcount


def job_number(connection: Connection, uuid: str) -> int:
    """Return a job's place in the order in which jobs were submitted."""
    return int(connection.execute(select(job_table.c.seq).where(job_table.c.uuid == uuid)).scalar_one())


def last_job_number(connection: Connection) -> int:
    """Return the place of the job that was submitted last."""
    return int(connection.execute(select(func.max(job_table.c.seq))).scalar() or 0)
