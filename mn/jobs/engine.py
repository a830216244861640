"""The job engine: accepts jobs, runs them under their locks, resumes them after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Row

from agentkit.errors import Blame, HardpointError
from agentkit.turns import Turns
from mn.db.engine import Database, DatabaseAwayError
from mn.db.schema import now_s
from mn.jobs.hooks import Hook
from mn.jobs.job import (
    Boundary,
    Job,
    JournalledStep,
    NotJournalled,
    Progress,
    ReplayEnd,
    decode_error,
    encode_error,
)
from mn.jobs.journal import (
    Cancelling,
    Failing,
    Finished,
    Journal,
    NewJob,
    Started,
    forget_locks,
    purge_finished,
    read_job,
    read_steps,
    read_unfinished,
)
from mn.jobs.live import JobRequest, Live
from mn.jobs.locks import Locks
from mn.jobs.tables import FINAL, JobState

log = logging.getLogger(__name__)

S = TypeVar("S")

PURGE_EVERY_S = 3600
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 30.0
"""Between attempts to go on with a job whose record could not be written; the pause doubles."""
UNDO_ATTEMPTS = 3
UNDO_TIMEOUT_S = 300

Run = Callable[[Job[S]], Coroutine[Any, Any, Any]]
"""What a job does: returns its reply, which msgspec can encode."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as a poller sees it. `result` is JSON."""

    uuid: str
    operation: str
    state: JobState
    result: str | None
    error: HardpointError | None
    progress: Progress


def _two_days() -> float:
    """How long finished jobs are kept, in seconds."""
    return 2 * 24 * 3600


def _no_boundary(_name: str) -> None:
    """Go on."""


class _Inventory(msgspec.Struct):
    uuid: str | None = None


class _Made(msgspec.Struct):
    """What is read of a reply: the uuid of its resource."""

    inventory: _Inventory | None = None


class Engine(Generic[S]):
    """Runs jobs. `resolve(operation, request)` gives the coroutine function of a journalled request."""

    def __init__(
        self,
        db: Database,
        services: S,
        resolve: Callable[[str, str], Run[S]],
        *,
        boundary: Boundary = _no_boundary,
        keep_s: Callable[[], float] = _two_days,
    ) -> None:
        self._db = db
        self._services = services
        self._resolve = resolve
        self._boundary = boundary
        self._keep_s = keep_s
        self._journal = Journal(db)
        self._locks = Locks()
        self._live: dict[str, Live] = {}
        self._submitting = Turns()
        self._tasks: set[asyncio.Task[None]] = set()
        self._purger: asyncio.Task[None] | None = None
        self._stopping = False
        self.on_end: Callable[[JobRequest, HardpointError | None], None] = lambda _request, _error: None
        """Called when a job's end is on disk."""

    @property
    def is_running(self) -> bool:
        """Whether jobs are run: between `start` and `stop`."""
        return self._purger is not None and not self._stopping

    def counts(self) -> Mapping[tuple[str, JobState], int]:
        """Return how many jobs have not ended, by operation and state."""
        return Counter((live.request.operation, live.state) for live in self._live.values())

    async def start(self) -> int:
        """Resume what an earlier process left unfinished; return how many jobs that were."""
        await self._db.write(forget_locks)
        rows = await self._db.read(read_unfinished)
        for row in rows:
            request = JobRequest(
                row.uuid,
                row.operation,
                row.request,
                row.digest,
                tuple(msgspec.json.decode(row.locks)),
                hook=msgspec.json.decode(row.hook, type=Hook) if row.hook else None,
                is_long=row.is_long,
            )
            live = Live(request, JobState(row.state), float(row.deadline))
            live.read(row)
            live.accepted.set()
            self._live[row.uuid] = live
            log.info("job resumed", extra={"job": row.uuid, "operation": row.operation, "state": row.state})
            live.locked = self._locks.try_acquire(request.locks)
            self._spawn(live, resumed=True)
        self._purger = asyncio.create_task(self._purge())
        return len(rows)

    async def stop(self) -> None:
        """Leave running jobs where they are; the next `start` resumes them."""
        self._stopping = True
        tasks = [*self._tasks, *([self._purger] if self._purger else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(self, request: JobRequest) -> None:
        """Accept a job: it is on disk when this returns.

        The same uuid again with the same digest is the same job. Raises HardpointError (SYS.1007) when the
        uuid belongs to another request.
        """
        if request.fresh:
            await self._accept(request)
            return
        # What a read of the journal has not seen may have begun and ended before its answer is here.
        one_at_a_time = self._submitting.of(request.uuid)
        async with one_at_a_time:
            if not await self._is_known(request):
                await self._accept(request)

    async def _accept(self, request: JobRequest) -> None:
        locked = self._locks.try_acquire(request.locks)
        state = JobState.RUNNING if locked else JobState.QUEUED
        deadline = time.time() + request.timeout_s
        live = self._live[request.uuid] = Live(request, state, deadline, locked=locked)
        record = NewJob(
            request.uuid,
            request.operation,
            request.request,
            request.digest,
            msgspec.json.encode(request.locks).decode(),
            int(deadline),
            request.locks if locked else None,
            request.hook,
            request.audit,
            request.is_long,
        )
        writing = asyncio.ensure_future(self._journal.append(record))

        def written(writing: asyncio.Future[None]) -> None:
            error = None if writing.cancelled() else writing.exception()
            if self._stopping:  # the next start resumes it
                live.accepted.set()
            elif isinstance(error, DatabaseAwayError):
                self._begin(self._find_out(live))
            else:
                self._settle(live, accepted=error is None, resumed=False)

        # Who submits may be cancelled meanwhile: the record is written all the same, and the job is one.
        writing.add_done_callback(written)
        await asyncio.shield(writing)

    async def _find_out(self, live: Live) -> None:
        """Run a job that may have been written, when the database can be asked and has it."""
        row = await self._row_of(live, RETRY_FIRST_S)
        self._settle(live, accepted=row is not None, resumed=True)

    def _settle(self, live: Live, *, accepted: bool, resumed: bool) -> None:
        if accepted:
            self._spawn(live, resumed=resumed)
        else:
            live.refused = True
            del self._live[live.request.uuid]
            if live.locked:
                self._locks.release(live.request.locks)
        live.accepted.set()

    async def status(self, uuid: str) -> JobStatus | None:
        """Return a job's status, None when there is no such job (any more)."""
        live = self._live.get(uuid)
        if live:
            request = live.request
            return JobStatus(uuid, request.operation, live.state, None, None, live.progress)
        row = await self._db.read(read_job, uuid)
        if row is None:
            return None
        error = decode_error(row.error) if row.error is not None else None
        return JobStatus(uuid, row.operation, JobState(row.state), row.result, error, Progress("", 100))

    async def wait(self, uuid: str) -> None:
        """Return when a job has ended; at once when there is none."""
        live = self._live.get(uuid)
        if live:
            await live.done.wait()

    async def cancel(self, uuid: str) -> bool:
        """End a job that has not ended and is not undoing: it fails with SYS.1017 and is undone.

        Returns whether there was such a job, when it has ended. That it is to end survives a crash.
        """
        live = self._live.get(uuid)
        if live is None or live.state is JobState.UNDOING:
            return False
        if not live.cancelled:
            await live.accepted.wait()
            if live.refused:
                return False
            await self._journal.append(Cancelling(uuid, live.request.is_long))
            if not live.cancelled:
                live.cancelled = True
                live.interrupt()
        await live.done.wait()
        return True

    async def replay(self, uuid: str) -> Any:
        """Run a finished job's operation over its journal and return the result; nothing is done.

        Raises ReplayEnd when the operation wants a step that it did not take the first time.
        """
        row = await self._db.read(read_job, uuid)
        if row is None:
            raise LookupError(uuid)
        job = Job(
            uuid, self._services, self._journal, self._boundary, await self._steps(uuid), replay_only=True
        )
        return await self._resolve(row.operation, row.request)(job)

    async def _is_known(self, request: JobRequest) -> bool:
        """Say whether the job exists; when it does it is on disk."""
        while True:
            live = self._live.get(request.uuid)
            row: Row[Any] | None = None if live else await self._db.read(read_job, request.uuid)
            live = live or self._live.get(request.uuid)  # the same request may have come during the read
            if live is None and row is None:
                return False
            known: str = live.request.digest if live else row.digest if row else ""
            if known != request.digest:
                raise _uuid_taken(request)
            if live is None:
                return True
            await live.accepted.wait()
            if not live.refused:
                return True

    def _spawn(self, live: Live, *, resumed: bool) -> None:
        self._begin(self._see_through(live, resumed=resumed))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _see_through(self, live: Live, *, resumed: bool) -> None:
        """Run a job to its end. What its journal refuses, as the database is away, is gone on with later."""
        pause = RETRY_FIRST_S
        while True:
            try:
                await self._run(live, resumed=resumed)
                return
            except Exception:
                log.exception(
                    "the journal refused a job's record; the job goes on later",
                    extra={"job": live.request.uuid, "pause_s": pause},
                )
            resumed, row = True, await self._row_of(live, pause)
            pause = min(pause * 2, RETRY_MOST_S)
            if row is None or row.state in FINAL:  # the last record was written all the same
                self._leave(live, JobState(row.state) if row else JobState.FAILED, _error_of(row))
                return
            live.read(row)

    async def _row_of(self, live: Live, pause: float) -> Row[Any] | None:
        """Return a job's row once the database can be asked, after a pause of some seconds."""
        while True:
            await asyncio.sleep(pause)
            try:
                return await self._db.read(read_job, live.request.uuid)
            except Exception as error:  # noqa: BLE001 - tried again
                log.warning("job not read", extra={"job": live.request.uuid, "reason": str(error)})
            pause = min(pause * 2, RETRY_MOST_S)

    async def _steps(self, uuid: str) -> dict[int, JournalledStep]:
        rows = await self._db.read(read_steps, uuid)
        return {r.position: JournalledStep(r.name, r.result, r.error, r.undone) for r in rows}

    async def _run(self, live: Live, *, resumed: bool) -> None:
        request, waits = live.request, not live.locked
        if waits and not await self._cancellable(live, self._locks.acquire(request.locks)):
            await self._finish(live, None, _cancelled(live))
            return
        live.locked = True
        if (waits or resumed) and live.state in (JobState.QUEUED, JobState.RUNNING):
            await self._journal.append(Started(request.uuid, request.locks))
            live.state = JobState.RUNNING
        known = await self._steps(request.uuid) if resumed else {}
        job = Job(
            request.uuid,
            self._services,
            self._journal,
            self._boundary,
            known,
            progress=live.progress,
            cancel_wanted=lambda: live.cancelled,
            replayed=live.replayed,
        )
        result, error = await self._attempt(live, job)
        if error is not None:
            error = await self._undo(live, job, error)
        await self._finish(live, result, error)

    async def _finish(self, live: Live, result: Any, error: HardpointError | None) -> None:
        request = live.request
        if error is None:
            live.progress.percent = 100
        await self._journal.append(_end(request, result, error))
        self._leave(live, JobState.SUCCEEDED if error is None else JobState.FAILED, error)

    def _leave(self, live: Live, state: JobState, error: HardpointError | None) -> None:
        live.state = state
        del self._live[live.request.uuid]
        if live.locked:
            self._locks.release(live.request.locks)
        live.done.set()
        self.on_end(live.request, error)

    async def _cancellable(self, live: Live, work: Coroutine[Any, Any, Any]) -> bool:
        """Do `work` and keep its result in `live`; False when `cancel` ended it."""
        if live.cancelled and not live.replaying:
            work.close()
            return False
        live.work = asyncio.ensure_future(work)
        try:
            live.result = await live.work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not live.cancelled or (task is not None and task.cancelling()):
                raise
            return False
        return True

    async def _attempt(self, live: Live, job: Job[S]) -> tuple[Any, HardpointError | None]:
        """Run the operation, or only its journalled part when the job is undoing."""
        job.replay_only = live.failure is not None
        try:
            async with asyncio.timeout(
                max(live.deadline - time.time(), 0.001) if live.failure is None else None
            ):
                work = self._resolve(live.request.operation, live.request.request)(job)
                if not await self._cancellable(live, work):
                    return None, live.failure or _cancelled(live)
        except HardpointError as error:
            return None, live.failure or error
        except ReplayEnd:
            return None, live.failure
        except NotJournalled:
            raise
        except TimeoutError:
            return None, live.failure or _timed_out(live, job)
        except Exception:
            log.exception("job failed unexpectedly", extra={"job": job.uuid, "step": job.progress.step})
            return None, live.failure or _internal(job)
        return live.result, live.failure

    async def _undo(self, live: Live, job: Job[S], error: HardpointError) -> HardpointError:
        if live.failure is None:
            live.failure = error
            await self._journal.append(Failing(job.uuid, encode_error(error)))
        live.state = JobState.UNDOING
        self._boundary("job:failing")
        for attempt in range(UNDO_ATTEMPTS):
            job.known = await self._steps(job.uuid)
            failures = await job.undo_all(UNDO_TIMEOUT_S)
            if not failures:
                return error
            await asyncio.sleep(2**attempt)
        left = "; ".join(failure.details for failure in failures)
        log.error("job left something behind", extra={"job": job.uuid, "left": left})
        return HardpointError(
            error.code,
            error.summary,
            f"{error.details}. What it had done could not all be undone: {left}",
            remedy=error.remedy,
            blame=error.blame,
            cause=error.cause,
        )

    async def _purge(self) -> None:
        while True:
            try:
                await self._db.write(purge_finished, now_s() - int(self._keep_s()))
            except Exception:
                log.exception("finished jobs not forgotten, tried again later")
            await asyncio.sleep(PURGE_EVERY_S)


def _end(request: JobRequest, result: Any, error: HardpointError | None) -> Finished:
    if error is not None:
        failed = encode_error(error)
        return Finished(request.uuid, None, failed, request.hook, error.code, is_long=request.is_long)
    encoded = msgspec.json.encode(result)
    made = None
    with contextlib.suppress(msgspec.ValidationError):
        inventory = msgspec.json.decode(encoded, type=_Made).inventory
        made = inventory.uuid if inventory else None
    return Finished(request.uuid, encoded.decode(), None, request.hook, made=made, is_long=request.is_long)


def journalled_locks(locks: Sequence[str]) -> tuple[str, ...]:
    """Return locks sorted and without repetition."""
    return tuple(sorted(set(locks)))


def _error_of(row: Row[Any] | None) -> HardpointError | None:
    return decode_error(row.error) if row is not None and row.error is not None else None


def _uuid_taken(request: JobRequest) -> HardpointError:
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"X-Job-UUID {request.uuid} belongs to another request",
        remedy="give each request a uuid of its own, or send the same request again unchanged",
        blame=Blame.CALLER,
    )


def _cancelled(live: Live) -> HardpointError:
    return HardpointError(
        "SYS.1017",
        "Cancelled",
        f"{live.request.operation} was cancelled in step {live.progress.step or 'start'}",
        remedy="submit it again if it is wanted after all",
        blame=Blame.CALLER,
    )


def _timed_out(live: Live, job: Job[Any]) -> HardpointError:
    return HardpointError(
        "SYS.1001",
        "A message or a operation timeout",
        f"{live.request.operation} did not end in time; it was in step {job.progress.step or 'start'}",
        remedy="find out what held that step up, or allow more with the X-API-Timeout header",
    )


def _internal(job: Job[Any]) -> HardpointError:
    return HardpointError(
        "SYS.1000",
        "Internal error",
        f"an unexpected error in step {job.progress.step or 'start'} of job {job.uuid}",
        remedy="see the log of the management node for this job, and report it",
    )
