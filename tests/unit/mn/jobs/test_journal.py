"""Records come into the journal whoever waits for them, and whatever is written with them."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError

from mn.db.schema import new_uuid
from mn.jobs.engine import JobRequest
from mn.jobs.job import Job
from mn.jobs.journal import Journal, StepDone
from mn.jobs.tables import JobState, step_table
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


async def submitted(house: House) -> str:
    """Return a job that has ended and has no step."""

    async def run(_job: Job[list[str]]) -> None:
        return None

    house.runs["empty"] = run
    uuid = await house.submit("empty")
    await house.end(uuid)
    return uuid
