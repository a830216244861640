"""Jobs that are cancelled are undone and say where they were."""

from __future__ import annotations

import asyncio
import threading

from sqlalchemy import Connection, text

from mn.jobs.job import Job
from mn.jobs.tables import JobState, lock_table, step_table
from tests.unit.mn.jobs.house import House, failure


async def test_a_cancelled_job_is_undone_and_says_where_it_was(house: House) -> None:
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=house.forget)
        await job.step(hang)

    house.runs["op"] = run
    assert house.engine
    uuid = await house.submit("op", "host/a")
    await asyncio.wait_for(reached.wait(), 100)
    assert await asyncio.wait_for(house.engine.cancel(uuid), 100)
    status = await house.end(uuid)
    assert status.error
    assert status.error.code == "SYS.1017"
    assert "step hang" in status.error.details
    assert house.world == []
    assert await house.rows(lock_table) == []
    assert not await house.engine.cancel(uuid), "it has ended"


async def test_a_job_that_waits_for_a_lock_can_be_cancelled_and_holds_up_nobody(house: House) -> None:
    release = asyncio.Event()

    async def wait() -> None:
        await release.wait()

    async def run(job: Job[list[str]]) -> None:
        await job.step(wait)

    house.runs["op"] = run
    assert house.engine
    first, second, third = [await house.submit("op", "r") for _ in range(3)]
    assert await asyncio.wait_for(house.engine.cancel(second), 100)
    release.set()
    states = [(await house.end(uuid)).state for uuid in (first, second, third)]
    assert states == [JobState.SUCCEEDED, JobState.FAILED, JobState.SUCCEEDED]


class Stubborn:
    """A step that takes its time when it is cancelled, and `goes_on` or ends."""

    def __init__(self, *, goes_on: bool = True) -> None:
        self.goes_on = goes_on
        self.reached, self.told, self.release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(self) -> None:
        self.reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.told.set()
            await self.release.wait()
            if not self.goes_on:
                raise


async def cancelled_and_crashed(house: House, stubborn: Stubborn, uuid: str) -> None:
    """Cancel a job, and crash while it still finishes what it is at."""
    assert house.engine
    await asyncio.wait_for(stubborn.reached.wait(), 100)
    waiting = asyncio.create_task(house.engine.cancel(uuid))
    await asyncio.wait_for(stubborn.told.wait(), 100)
    stubborn.told.clear()
    await house.crash()
    waiting.cancel()


async def test_a_cancelled_job_is_cancelled_after_a_crash_too_and_undone(house: House) -> None:
    stubborn = Stubborn(goes_on=False)

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=house.forget)
        await job.step(stubborn.work)

    house.runs["op"] = run
    uuid = await house.submit("op", "host/a")
    await cancelled_and_crashed(house, stubborn, uuid)
    await asyncio.wait_for(stubborn.told.wait(), 100)
    assert house.world == ["a"]
    stubborn.release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.code == "SYS.1017"
    assert house.world == []


async def test_a_cancelled_job_is_told_once_after_a_crash(house: House) -> None:
    stubborn = Stubborn()

    async def run(job: Job[list[str]]) -> None:
        await job.step(stubborn.work)
        await job.step(house.note, "what cannot be left half-done")

    house.runs["op"] = run
    uuid = await house.submit("op")
    await cancelled_and_crashed(house, stubborn, uuid)
    stubborn.release.set()
    assert (await house.end(uuid)).state is JobState.SUCCEEDED
    assert house.world == ["what cannot be left half-done"]


async def test_what_a_cancelled_job_did_before_a_crash_is_not_left_out(house: House) -> None:
    stubborn = Stubborn()

    async def run(job: Job[list[str]]) -> None:
        for what in ("a", "b", "c"):
            await job.step(house.note, what, undo=house.forget)
            if what == "b":
                await job.step(stubborn.work)
            if job.is_cancelled():
                raise failure(f"stopped after {what}")

    house.runs["op"] = run
    uuid = await house.submit("op")
    await cancelled_and_crashed(house, stubborn, uuid)
    await asyncio.wait_for(stubborn.told.wait(), 100)
    stubborn.release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.details == "stopped after b"
    assert house.world == []


async def test_a_cancelled_job_that_was_undoing_goes_on_undoing(house: House) -> None:
    stubborn = Stubborn()

    async def undo(what: str) -> None:
        stubborn.told.set()
        await stubborn.release.wait()
        await house.forget(what)

    async def hang() -> None:
        stubborn.reached.set()
        await asyncio.Event().wait()

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=undo)
        await job.step(hang)

    house.runs["op"] = run
    uuid = await house.submit("op")
    await cancelled_and_crashed(house, stubborn, uuid)
    stubborn.release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.code == "SYS.1017"
    assert house.world == []


async def test_a_transaction_that_was_handed_in_when_the_job_was_cancelled_is_undone(house: House) -> None:
    held, release = threading.Event(), threading.Event()

    def insert(connection: Connection) -> None:
        connection.execute(text("insert into job_lock (resource, job_uuid) select 'x', uuid from job"))
        held.set()
        release.wait(10)

    def remove(connection: Connection) -> None:
        connection.execute(text("delete from job_lock where resource = 'x'"))

    async def run(job: Job[list[str]]) -> None:
        await job.transact(insert, undo=remove)

    house.runs["op"] = run
    assert house.engine
    uuid = await house.submit("op")
    assert await asyncio.to_thread(held.wait, 10)
    live = house.engine._live[uuid]
    live.cancelled = True  # as `cancel` does once that is on disk; the writer is held here
    live.interrupt()
    await asyncio.sleep(0)
    release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.code == "SYS.1017"
    assert await house.rows(lock_table) == []
    (step,) = await house.rows(step_table)
    assert step.undone
