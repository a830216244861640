"""Steps that are taken at the same time: each is journalled, undone and replayed as one alone is."""

from __future__ import annotations

import asyncio

from agentkit.errors import HardpointError
from mn.jobs.job import Job
from mn.jobs.tables import JobState, step_table
from tests.unit.mn.jobs.house import House, failure


class Side:
    """A function whose calls meet: none goes on before all of them are there, or `stuck` ones ever."""

    def __init__(self, house: House, together: int, stuck: str = "") -> None:
        self.house = house
        self.together, self.stuck = together, stuck
        self.calls: list[str] = []
        self.undone: list[str] = []
        self._all_here = asyncio.Event()

    async def do(self, what: str) -> str:
        self.calls.append(what)
        if len(self.calls) >= self.together:
            self._all_here.set()
        await self._all_here.wait()
        if what == self.stuck:
            await asyncio.Event().wait()
        if what.startswith("bad"):
            raise failure(f"{what} broke")
        return await self.house.note(what)

    async def undo(self, what: str) -> None:
        self.undone.append(what)
        await self.house.forget(what)


async def journalled(house: House, count: int) -> None:
    """Wait until so many steps are in the journal."""
    async with asyncio.timeout(100):
        while len(await house.rows(step_table)) < count:
            await asyncio.sleep(0.01)


async def test_they_are_taken_side_by_side_and_each_says_what_became_of_it(house: House) -> None:
    side = Side(house, together=3)
    told: list[list[str]] = []

    async def run(job: Job[list[str]]) -> None:
        outcomes = await job.steps(side.do, [("a",), ("bad",), ("c",)])
        told.append([one.details if isinstance(one, HardpointError) else one for one in outcomes])

    house.runs["op"] = run
    uuid = await house.submit("op")
    assert (await house.end(uuid)).state is JobState.SUCCEEDED
    assert house.engine
    await house.engine.replay(uuid)
    assert told == [["a", "bad broke", "c"]] * 2
    assert sorted(side.calls) == ["a", "bad", "c"]


async def test_after_a_crash_those_that_were_not_journalled_are_taken_again(house: House) -> None:
    side = Side(house, together=3, stuck="b")
    told: list[object] = []

    async def run(job: Job[list[str]]) -> None:
        told.append(await job.steps(side.do, [("a",), ("b",), ("c",)]))

    house.runs["op"] = run
    uuid = await house.submit("op")
    await journalled(house, 2)
    side.stuck = ""
    await house.crash()
    assert (await house.end(uuid)).state is JobState.SUCCEEDED
    assert told == [["a", "b", "c"]]
    assert sorted(side.calls) == ["a", "b", "b", "c"]


async def test_all_of_them_are_undone_last_first_when_the_job_fails(house: House) -> None:
    side = Side(house, together=3)

    async def run(job: Job[list[str]]) -> None:
        await job.steps(side.do, [("a",), ("bad",), ("c",)], undo=side.undo)
        await job.step(house.refuse)

    house.runs["op"] = run
    assert (await house.end(await house.submit("op"))).state is JobState.FAILED
    assert side.undone == ["c", "bad", "a"]
    assert house.world == []


async def test_one_that_breaks_off_lets_the_others_end_before_they_are_undone(house: House) -> None:
    side = Side(house, together=2)

    async def do(what: str) -> str:
        result = await side.do(what)
        if what == "bug":
            raise ZeroDivisionError
        await asyncio.sleep(0.05)
        return result + await house.note("late")

    async def undo(what: str) -> None:
        await side.undo(what)
        await house.forget("late")

    async def run(job: Job[list[str]]) -> None:
        await job.steps(do, [("bug",), ("slow",)], undo=undo)

    house.runs["op"] = run
    status = await house.end(await house.submit("op"))
    assert status.error
    assert status.error.code == "SYS.1000"
    assert house.world == []


async def test_those_that_were_done_are_undone_though_the_node_dies_once_the_job_is_cancelled(
    house: House,
) -> None:
    side = Side(house, together=3, stuck="a")
    told = asyncio.Event()

    async def do(what: str) -> str:
        try:
            return await side.do(what)
        except asyncio.CancelledError:
            if not told.is_set():  # it takes its time, and the node dies meanwhile
                told.set()
                await asyncio.Event().wait()
            raise

    async def run(job: Job[list[str]]) -> None:
        await job.steps(do, [("a",), ("b",), ("c",)], undo=side.undo)

    house.runs["op"] = run
    uuid = await house.submit("op")
    await journalled(house, 2)
    assert house.engine
    waiting = asyncio.create_task(house.engine.cancel(uuid))
    await asyncio.wait_for(told.wait(), 100)
    await house.crash()
    waiting.cancel()
    status = await house.end(uuid)
    assert status.error
    assert status.error.code == "SYS.1017"
    assert side.undone == ["c", "b", "a"]
    assert house.world == []
