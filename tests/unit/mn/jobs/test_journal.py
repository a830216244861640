"""Records come into the journal whoever waits for them, and whatever is written with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from agentkit.errors import HardpointError
from mn.db.engine import DatabaseAwayError
from mn.db.schema import new_uuid
from mn.jobs.job import Job
from mn.jobs.journal import Journal, StepDone
from mn.jobs.live import JobRequest
from mn.jobs.tables import JobState, lock_table, step_table
from tests.unit.mn.jobs.house import House


async def test_a_submission_that_is_given_up_while_it_is_written_is_a_job_all_the_same(house: House) -> None:
    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, job.uuid)

    house.runs["op"] = run
    assert house.engine
    uuid = new_uuid()
    request = JobRequest(uuid, "op", "{}", "digest", ("host/a",), 60, fresh=True)
    submitting = asyncio.create_task(house.engine.submit(request))
    await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert (await house.end(uuid)).state is JobState.SUCCEEDED
    assert (await house.end(await house.submit("op", "host/a"))).state is JobState.SUCCEEDED
    assert house.world[0] == uuid


async def test_a_record_that_cannot_be_written_fails_none_of_those_that_wait_with_it(house: House) -> None:
    journal = Journal(house.db)
    job = await submitted(house)
    twice = StepDone(job, 0, "a", "null", None)
    await journal.append(twice)
    outcomes = await asyncio.gather(
        *(journal.append(StepDone(job, position, "a", "null", None)) for position in (1, 0, 2)),
        return_exceptions=True,
    )
    assert [isinstance(one, IntegrityError) for one in outcomes] == [False, True, False]
    assert sorted(row.position for row in await house.rows(step_table)) == [0, 1, 2]


@pytest.mark.parametrize("written", [False, True], ids=["lost", "written all the same"])
@pytest.mark.parametrize("refused", [False, True], ids=["succeeds", "fails"])
async def test_a_job_goes_on_when_the_database_is_back(
    house: House, monkeypatch: pytest.MonkeyPatch, refused: bool, written: bool
) -> None:
    monkeypatch.setattr("mn.jobs.engine.RETRY_FIRST_S", 0.01)

    async def do(what: str) -> None:
        if what not in house.world:  # it may have begun before
            house.world.append(what)

    async def run(job: Job[list[str]]) -> str:
        await job.step(do, "a", undo=house.forget)
        await job.steps(do, [("b",), ("c",)], undo=house.forget)
        if refused:
            await job.step(house.refuse)
        return "done"

    house.runs["op"] = run
    kinds = []
    for record in range(1, 10 if refused else 5):
        house.world.clear()
        assert house.engine
        away = Away(house.engine._journal, record, written=written)
        monkeypatch.setattr(house.engine._journal, "append", away.append)
        status = await house.end(await house.submit("op", "host/a"))
        assert away.refused is not None
        kinds.append(away.refused)
        assert status.state is (JobState.FAILED if refused else JobState.SUCCEEDED)
        assert set(house.world) == (set() if refused else {"a", "b", "c"})
        assert await house.rows(lock_table) == []
    failing = ["StepDone", "Failing", "StepUndone", "StepUndone", "StepUndone"] if refused else []
    assert kinds == ["StepDone", "StepDone", "StepDone", *failing, "Finished"]


@pytest.mark.parametrize("written", [False, True], ids=["lost", "written all the same"])
async def test_a_submission_of_which_nobody_knows_whether_it_was_written_is_looked_for(
    house: House, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    monkeypatch.setattr("mn.jobs.engine.RETRY_FIRST_S", 0.2)

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, job.uuid)

    house.runs["op"] = run
    assert house.engine
    uuid = new_uuid()
    request = JobRequest(uuid, "op", "{}", "digest", ("host/a",), 60)
    away = Away(house.engine._journal, 0, written=written)
    monkeypatch.setattr(house.engine._journal, "append", away.append)
    with pytest.raises(HardpointError, match="the database is away"):
        await house.engine.submit(request)
    await house.engine.submit(request)  # as clients do
    assert (await house.end(uuid)).state is JobState.SUCCEEDED
    assert (await house.end(await house.submit("op", "host/a"))).state is JobState.SUCCEEDED
    assert house.world.count(uuid) == 1


async def test_a_transaction_that_finds_the_database_away_fails_no_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mn.jobs.engine.RETRY_FIRST_S", 0.01)
    away = DatabaseAwayError("SYS.1000", "Internal error", "the database is away")
    outages = [away, away]

    async def ask() -> str:
        if len(outages) > 1:
            raise outages.pop()
        return await house.note("asked")

    def write(_connection: Connection) -> str:
        if outages:
            raise outages.pop()
        return "written"

    async def run(job: Job[list[str]]) -> str:
        return await job.step(ask) + await job.transact(write)

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert (status.state, status.result) == (JobState.SUCCEEDED, '"askedwritten"')
    assert house.world == ["asked"]


async def test_an_undo_that_finds_the_database_away_is_done_when_it_is_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mn.jobs.engine.RETRY_FIRST_S", 0.01)
    monkeypatch.setattr("mn.jobs.engine.UNDO_ATTEMPTS", 1)
    outages = [DatabaseAwayError("SYS.1000", "Internal error", "the database is away")]

    async def undo(what: str) -> None:
        if outages:
            raise outages.pop()
        await house.forget(what)

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=undo)
        await job.step(house.refuse)

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.error
    assert status.error.details == "it broke"
    assert house.world == []


async def test_a_record_that_the_database_refuses_fails_its_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(record: Any) -> None:
        if isinstance(record, StepDone):
            raise HardpointError("SYS.1007", "Invalid argument", "the database refused a value")
        await Journal.append(journal, record)

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=house.forget)

    assert house.engine
    journal = house.engine._journal
    monkeypatch.setattr(journal, "append", refuse)
    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.error
    assert status.error.details == "the database refused a value"
    assert house.world == []


async def test_jobs_run_though_those_that_have_ended_cannot_be_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError("the disk is full")

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a")

    monkeypatch.setattr("mn.jobs.engine.purge_finished", refuse)
    house.runs["op"] = run
    engine = await house.crash()
    await asyncio.sleep(0.1)
    assert engine.is_running
    assert (await house.end(await house.submit("op"))).state is JobState.SUCCEEDED


class Away:
    """A database that is away when one record is written, counted from the job's own, the first."""

    def __init__(self, journal: Journal, record: int, *, written: bool) -> None:
        self.refused: str | None = None
        self._journal = journal
        self._left = record
        self._written = written

    async def append(self, record: Any) -> None:
        here, self._left = self._left == 0, self._left - 1
        if here:
            self.refused = type(record).__name__
        if not here or self._written:
            await Journal.append(self._journal, record)
        if here:
            raise DatabaseAwayError("SYS.1000", "Internal error", "the database is away")


async def submitted(house: House) -> str:
    """Return a job that has ended and has no step."""

    async def run(_job: Job[list[str]]) -> None:
        return None

    house.runs["empty"] = run
    uuid = await house.submit("empty")
    await house.end(uuid)
    return uuid
