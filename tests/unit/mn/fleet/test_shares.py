"""Places that concurrent calls share: bounded, and fair between the calls."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from mn.fleet.shares import Shares


class Hall:
    """Visitors who each hold a place until they are let go."""

    def __init__(self, turns: Shares) -> None:
        self._turns = turns
        self._doors: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.inside: list[str] = []

    async def send(self, *names: str) -> None:
        """Send visitors; the first letter of a name is its caller."""
        for name in names:
            self._doors[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._visit(name))
        await settle()

    async def let_go(self, *names: str) -> None:
        for name in names:
            self._doors[name].set()
            await self.tasks[name]
        await settle()

    async def _visit(self, name: str) -> None:
        async with self._turns.place(name[0]):
            self.inside.append(name)
            await self._doors[name].wait()
        self.inside.remove(name)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def hall() -> Hall:
    return Hall(Shares(in_all=3, each=2))


async def test_a_caller_has_no_more_places_than_one_may(hall: Hall) -> None:
    await hall.send("a1", "a2", "a3")
    assert hall.inside == ["a1", "a2"]
    await hall.let_go("a1")
    assert hall.inside == ["a2", "a3"]


async def test_a_stuck_caller_leaves_places_to_others(hall: Hall) -> None:
    await hall.send(*(f"a{n}" for n in range(9)), "b1")
    assert hall.inside == ["a0", "a1", "b1"]


async def test_all_callers_together_have_no_more_than_there_are(hall: Hall) -> None:
    await hall.send("a1", "a2", "b1", "b2")
    assert hall.inside == ["a1", "a2", "b1"]


async def test_callers_take_turns_whoever_came_first() -> None:
    hall = Hall(Shares(in_all=1, each=1))
    await hall.send("a1", "a2", "a3", "b1", "c1")
    order = []
    for _ in range(5):
        (who,) = hall.inside
        order.append(who)
        await hall.let_go(who)
    assert order == ["a1", "a2", "b1", "c1", "a3"]


async def test_who_gives_up_waiting_takes_no_place(hall: Hall) -> None:
    await hall.send("a1", "a2", "a3", "a4")
    hall.tasks["a3"].cancel()
    await settle()
    await hall.let_go("a1")
    assert hall.inside == ["a2", "a4"]


async def test_a_place_given_to_who_is_cancelled_meanwhile_goes_to_the_next(hall: Hall) -> None:
    await hall.send("a1", "a2", "a3", "a4")
    first, second = hall.tasks["a1"], hall.tasks["a3"]
    first.add_done_callback(lambda _: second.cancel())
    await hall.let_go("a1")
    with contextlib.suppress(asyncio.CancelledError):
        await second
    await settle()
    assert "a4" in hall.inside


async def test_a_failure_inside_gives_the_place_back() -> None:
    turns = Shares(1, 1)
    with pytest.raises(ZeroDivisionError):
        async with turns.place("a"):
            raise ZeroDivisionError
    async with turns.place("b"):
        pass
