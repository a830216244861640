"""Jobs run, are gone on with after a crash, wait for each other and are forgotten."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, text

from agentkit.errors import HardpointError
from mn.db.schema import new_uuid
from mn.jobs.job import Job, ReplayEnd
from mn.jobs.live import JobRequest
from mn.jobs.tables import JobState, lock_table, step_table
from tests.unit.mn.jobs.house import House, Run, failure


async def test_a_job_runs_its_steps_and_keeps_its_result(house: House) -> None:
    async def run(job: Job[list[str]]) -> dict[str, str]:
        first = await job.step(house.note, "a")
        second = await job.step(house.note, "b")
        return {"inventory": first + second}

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.state is JobState.SUCCEEDED
    assert status.result == '{"inventory":"ab"}'
    assert house.world == ["a", "b"]


async def test_a_job_goes_on_after_a_crash_without_doing_a_finished_step_again(house: House) -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        reached.set()
        await release.wait()
        return "waited"

    async def run(job: Job[list[str]]) -> dict[str, str]:
        await job.step(house.note, "once")
        return {"inventory": await job.step(wait)}

    house.runs["op"] = run
    uuid = await house.submit("op")
    await asyncio.wait_for(reached.wait(), 100)
    await house.crash()
    release.set()
    status = await house.end(uuid)
    assert status.result == '{"inventory":"waited"}'
    assert house.world == ["once"]


async def test_a_transaction_and_its_journal_entry_are_one(house: House) -> None:
    def both(connection: Connection, name: str) -> str:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (name TEXT)")
        connection.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
        return name

    def refuse(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO t VALUES ('lost')")
        raise failure("not this one")

    async def run(job: Job[list[str]]) -> dict[str, str]:
        kept = await job.transact(both, "kept")
        with pytest.raises(HardpointError):
            await job.transact(refuse)
        return {"name": kept}

    house.runs["op"] = run
    uuid = await house.submit("op")
    assert (await house.end(uuid)).result == '{"name":"kept"}'
    names = await house.db.read(lambda c: c.exec_driver_sql("SELECT name FROM t").scalars().all())
    assert names == ["kept"]
    steps = [(row.name, row.result, row.error is None) for row in await house.rows(step_table)]
    assert steps == [("both", '"kept"', True), ("refuse", None, False)]


async def test_a_finished_job_replays_to_the_same_result_and_does_nothing(house: House) -> None:
    async def run(job: Job[list[str]]) -> dict[str, str]:
        return {
            "uuid": job.uuid_for("thing"),
            "said": await job.step(house.note, "a"),
            "task": job.task_uuid(),
        }

    house.runs["op"] = run
    assert house.engine
    uuid = await house.submit("op")
    await house.end(uuid)
    first = await house.engine.replay(uuid)
    assert first == await house.engine.replay(uuid)
    assert house.world == ["a"]

    async def changed(job: Job[list[str]]) -> None:
        await job.step(house.note, "a")
        await job.step(house.note, "new")

    house.runs["op"] = changed
    with pytest.raises(ReplayEnd):
        await house.engine.replay(uuid)


async def test_jobs_that_want_one_resource_run_one_after_the_other_in_their_order(house: House) -> None:
    running: list[str] = []
    order: list[str] = []

    def make(name: str) -> Run:
        async def work() -> None:
            running.append(name)
            assert len(running) == 1
            await asyncio.sleep(0)
            running.remove(name)
            order.append(name)

        async def run(job: Job[list[str]]) -> None:
            await job.step(work)

        return run

    names = [f"op{i}" for i in range(20)]
    house.runs.update({name: make(name) for name in names})
    uuids = [await house.submit(name, "host/a") for name in names]
    for uuid in uuids:
        assert (await house.end(uuid)).state is JobState.SUCCEEDED
    assert order == names
    assert await house.rows(lock_table) == []


async def test_jobs_with_different_resources_run_side_by_side(house: House) -> None:
    both = asyncio.Barrier(2)

    async def meet() -> None:
        await asyncio.wait_for(both.wait(), 100)

    async def run(job: Job[list[str]]) -> None:
        await job.step(meet)

    house.runs["op"] = run
    uuids = [await house.submit("op", "host/a"), await house.submit("op", "host/b")]
    for uuid in uuids:
        assert (await house.end(uuid)).state is JobState.SUCCEEDED


async def test_after_a_crash_the_holder_of_a_lock_comes_before_who_waited_for_it(house: House) -> None:
    release = asyncio.Event()
    order: list[str] = []

    def make(name: str) -> Run:
        async def work() -> None:
            await release.wait()
            order.append(name)

        async def run(job: Job[list[str]]) -> None:
            await job.step(work)

        return run

    house.runs.update({name: make(name) for name in ("first", "second")})
    first, second = await house.submit("first", "r"), await house.submit("second", "r")
    await house.crash()
    release.set()
    await house.end(second)
    await house.end(first)
    assert order == ["first", "second"]


async def test_the_same_uuid_again_is_the_same_job_and_another_request_is_refused(house: House) -> None:
    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "once")

    house.runs["op"] = run
    assert house.engine
    request = JobRequest(new_uuid(), "op", "{}", "one digest")
    await house.engine.submit(request)
    await house.engine.submit(request)
    await house.end(request.uuid)
    await house.engine.submit(request)
    assert house.world == ["once"]
    with pytest.raises(HardpointError, match="belongs to another request"):
        await house.engine.submit(JobRequest(request.uuid, "op", "{}", "another digest"))


async def test_the_same_request_twice_at_once_is_one_job(house: House) -> None:
    async def run(job: Job[list[str]]) -> str:
        return await job.step(house.note, "done")

    house.runs["once"] = run
    assert house.engine
    request = JobRequest(new_uuid(), "once", "{}", "digest")
    await asyncio.gather(*(house.engine.submit(request) for _ in range(5)))
    assert (await house.end(request.uuid)).state is JobState.SUCCEEDED
    assert house.world == ["done"]


async def test_an_unexpected_exception_fails_the_job_with_its_step_and_no_traceback(house: House) -> None:
    async def explode() -> None:
        raise ZeroDivisionError

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=house.forget)
        await job.step(explode)

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.error
    assert status.error.code == "SYS.1000"
    assert "step explode" in status.error.details
    assert "Traceback" not in status.error.details
    assert house.world == []


async def test_finished_jobs_are_forgotten_after_their_time(
    house: House,
) -> None:
    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a")

    house.runs["op"] = run
    assert house.engine
    uuid = await house.submit("op")
    await house.end(uuid)
    house.keep_s = -10
    await house.crash()
    deadline = asyncio.get_running_loop().time() + 10
    while await house.engine.status(uuid) is not None:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    assert await house.rows(step_table) == []


async def test_progress_shows_the_step_and_only_grows(house: House) -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def wait_here() -> None:
        reached.set()
        await release.wait()

    async def run(job: Job[list[str]]) -> None:
        job.at(40)
        job.at(20)
        await job.step(wait_here)

    house.runs["op"] = run
    assert house.engine
    uuid = await house.submit("op")
    await asyncio.wait_for(reached.wait(), 100)
    status = await house.engine.status(uuid)
    assert status
    assert (status.state, status.progress.step, status.progress.percent) == (
        JobState.RUNNING,
        "wait_here",
        40,
    )
    release.set()
    await house.end(uuid)
