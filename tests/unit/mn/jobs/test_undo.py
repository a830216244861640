"""What a job that fails has done is undone, in its order, whatever comes between."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection

from mn.jobs.job import Job
from mn.jobs.tables import JobState
from tests.unit.mn.jobs.house import House, failure


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
    await asyncio.wait_for(reached.wait(), 100)
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


async def test_an_undo_that_hangs_or_breaks_off_is_in_the_way_of_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mn.jobs.engine.UNDO_ATTEMPTS", 1)
    monkeypatch.setattr("mn.jobs.engine.UNDO_TIMEOUT_S", 0.5)

    async def hang(_what: str) -> None:
        await asyncio.Event().wait()

    async def break_off(_what: str) -> None:
        raise ValueError("no such row")

    async def run(job: Job[list[str]]) -> None:
        await job.when_undone(house.forget, "first")
        await job.step(house.note, "first")
        await job.step(house.note, "second", undo=hang)
        await job.step(house.note, "third", undo=break_off)
        await job.step(house.refuse)

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.error
    assert "undo note: no such row" in status.error.details
    assert "undoing note did not end within 0.5 s" in status.error.details
    assert house.world == ["second", "third"]


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
    await asyncio.wait_for(reached.wait(), 100)
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
    await asyncio.wait_for(undoing.wait(), 100)
    await house.crash()
    release.set()
    status = await house.end(uuid)
    assert status.error
    assert status.error.code == "SYS.1001"
    assert "step hang" in status.error.details
    assert house.world == []


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
