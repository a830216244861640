import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from agentkit.errors import HardpointError
from mn.db.schema import metadata, new_uuid
from mn.jobs.engine import Engine, JobRequest, JobStatus
from mn.jobs.job import Job, ReplayEnd
from mn.jobs.tables import FINAL, JobState, lock_table, step_table
from tests.unit.mn.conftest import OpenDatabase

Run = Callable[[Job[list[str]]], Awaitable[Any]]


def failure(details: str = "it broke") -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details)


class House:
    """A database, and engines on it that can be started anew as after a crash."""

    def __init__(self, opened: OpenDatabase) -> None:
        self.opened = opened
        self.world: list[str] = []
        self.keep_s = 1000.0
        self.runs: dict[str, Run] = {}
        self.db = opened()
        self.engine: Engine[list[str]] | None = None

    async def start(self, prepare: bool = False) -> Engine[list[str]]:
        if prepare:
            self.db.prepare(metadata.create_all)
        self.db.start()
        self.engine = Engine(
            self.db, self.world, lambda name, _request: self.runs[name], keep_s=lambda: self.keep_s
        )
        await self.engine.start()
        return self.engine

    async def crash(self) -> Engine[list[str]]:
        """End the engine where it stands, and start another one on the same file."""
        assert self.engine
        await self.engine.stop()
        self.db.close()
        self.db = self.opened()
        return await self.start()

    async def submit(self, name: str, *locks: str, timeout_s: float = 60) -> str:
        assert self.engine
        uuid = new_uuid()
        await self.engine.submit(JobRequest(uuid, name, "{}", "digest", locks, timeout_s))
        return uuid

    async def end(self, uuid: str) -> JobStatus:
        assert self.engine
        await asyncio.wait_for(self.engine.wait(uuid), 20)
        status = await self.engine.status(uuid)
        assert status
        assert status.state in FINAL
        return status

    async def rows(self, table: Any) -> list[Any]:
        def load(connection: Connection) -> list[Any]:
            return list(connection.execute(select(table)))

        return await self.db.read(load)

    async def note(self, what: str) -> str:
        self.world.append(what)
        return what

    async def forget(self, what: str) -> None:
        if what in self.world:
            self.world.remove(what)

    async def refuse(self) -> None:
        raise failure()


@pytest.fixture
async def house(opened: OpenDatabase) -> AsyncIterator[House]:
    made = House(opened)
    await made.start(prepare=True)
    yield made
    assert made.engine
    await made.engine.stop()
    made.db.close()


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


async def test_a_failing_job_undoes_its_steps_in_reverse(house: House) -> None:
    undone: list[str] = []

    async def undo(what: str) -> None:
        undone.append(what)
        await house.forget(what)

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=undo)
        await job.step(house.note, "b", undo=undo)
        await job.step(house.refuse)

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.state is JobState.FAILED
    assert status.error
    assert (status.error.code, status.error.details) == ("SYS.1006", "it broke")
    assert undone == ["b", "a"]
    assert house.world == []


async def test_what_settles_things_comes_after_the_undos_of_what_followed_it_though_a_crash_comes_between(
    house: House,
) -> None:
    reached, release = asyncio.Event(), asyncio.Event()
    seen: list[list[str]] = []

    async def slow_undo(what: str) -> None:
        reached.set()
        await release.wait()
        await house.forget(what)

    async def settle(_what: str) -> None:
        seen.append(list(house.world))

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "before", undo=house.forget)
        await job.when_undone(settle, "rows")
        await job.step(house.note, "after", undo=slow_undo)
        await job.step(house.refuse)

    house.runs["op"] = run
    uuid = await house.submit("op")
    await asyncio.wait_for(reached.wait(), 10)
    assert seen == []
    await house.crash()
    release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.details == "it broke"
    assert seen == [["before"]]
    assert house.world == []


async def test_a_step_that_fails_half_way_is_undone_too(house: House) -> None:
    async def half(what: str) -> None:
        house.world.append(what)
        raise failure()

    async def run(job: Job[list[str]]) -> None:
        await job.step(half, "half", undo=house.forget)

    house.runs["op"] = run
    assert (await house.end(await house.submit("op"))).state is JobState.FAILED
    assert house.world == []


async def test_an_undo_that_fails_is_tried_again_and_then_named(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mn.jobs.engine.UNDO_ATTEMPTS", 2)
    tries: list[int] = []

    async def undo(_what: str) -> None:
        tries.append(1)
        raise failure("the disk is gone")

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=undo)
        await job.step(house.refuse)

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.error
    assert len(tries) == 2
    assert "it broke" in status.error.details
    assert "could not all be undone: the disk is gone" in status.error.details


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
    await asyncio.wait_for(reached.wait(), 10)
    await house.crash()
    release.set()
    status = await house.end(uuid)
    assert status.result == '{"inventory":"waited"}'
    assert house.world == ["once"]


async def test_a_job_that_was_undoing_goes_on_undoing_and_never_forward(house: House) -> None:
    reached, release = asyncio.Event(), asyncio.Event()
    forward: list[str] = []

    async def slow_undo(what: str) -> None:
        reached.set()
        await release.wait()
        await house.forget(what)

    async def run(job: Job[list[str]]) -> None:
        await job.step(house.note, "a", undo=slow_undo)
        await job.step(house.refuse)
        forward.append("came past the failure")

    house.runs["op"] = run
    uuid = await house.submit("op")
    await asyncio.wait_for(reached.wait(), 10)
    await house.crash()
    release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.details == "it broke"
    assert house.world == []
    assert forward == []


async def test_a_timed_out_job_is_undone_even_if_a_crash_comes_between(house: House) -> None:
    async def hang(what: str) -> None:
        house.world.append(what)
        await asyncio.Event().wait()

    undoing, release = asyncio.Event(), asyncio.Event()

    async def undo(what: str) -> None:
        undoing.set()
        await release.wait()
        await house.forget(what)

    async def run(job: Job[list[str]]) -> None:
        await job.step(hang, "hanging", undo=undo)

    house.runs["op"] = run
    uuid = await house.submit("op", timeout_s=0.2)
    await asyncio.wait_for(undoing.wait(), 10)
    await house.crash()
    release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.code == "SYS.1001"
    assert "step hang" in status.error.details
    assert house.world == []


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
        await asyncio.wait_for(both.wait(), 10)

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


async def test_a_refused_transaction_is_not_undone(house: House) -> None:
    def insert(connection: Connection) -> None:
        raise failure("it is there already")

    def remove(connection: Connection) -> None:
        house.world.append("removed what was there")

    async def run(job: Job[list[str]]) -> None:
        await job.transact(insert, undo=remove)

    house.runs["insert"] = run
    status = await house.end(await house.submit("insert"))
    assert status.error
    assert status.error.details == "it is there already"
    assert house.world == []


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
    await asyncio.wait_for(reached.wait(), 10)
    status = await house.engine.status(uuid)
    assert status
    assert (status.state, status.progress.step, status.progress.percent) == (
        JobState.RUNNING,
        "wait_here",
        40,
    )
    release.set()
    await house.end(uuid)


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
    await asyncio.wait_for(reached.wait(), 10)
    assert await asyncio.wait_for(house.engine.cancel(uuid), 10)
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
    assert await asyncio.wait_for(house.engine.cancel(second), 10)
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
    await asyncio.wait_for(stubborn.reached.wait(), 10)
    waiting = asyncio.create_task(house.engine.cancel(uuid))
    await asyncio.wait_for(stubborn.told.wait(), 10)
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
    await asyncio.wait_for(stubborn.told.wait(), 10)
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
    await asyncio.wait_for(stubborn.told.wait(), 10)
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
