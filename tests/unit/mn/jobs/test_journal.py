"""Records come into the journal whoever waits for them, and whatever is written with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from agentkit.errors import HardpointError
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
            raise HardpointError("SYS.1000", "Internal error", "the database is away")


async def submitted(house: House) -> str:
    """Return a job that has ended and has no step."""

    async def run(_job: Job[list[str]]) -> None:
        return None

    house.runs["empty"] = run
    uuid = await house.submit("empty")
    await house.end(uuid)
    return uuid
