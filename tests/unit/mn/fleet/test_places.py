"""Places are had by a bounded number at a time, in the order of asking."""

from __future__ import annotations

import asyncio

import pytest

from mn.fleet.places import Places


class Guests:
    """Who is in, in the order of coming in."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.places = Places()
        self.came: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.leave: dict[str, asyncio.Event] = {}

    async def ask(self, *names: str) -> None:
        for name in names:
            self.leave[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._visit(name))
            await settle()

    async def go(self, name: str) -> None:
        self.leave[name].set()
        await self.tasks[name]
        await settle()

    async def _visit(self, name: str) -> None:
        async with self.places.take(lambda: self.limit):
            self.came.append(name)
            await self.leave[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_bounded_number_is_in_and_the_others_come_in_the_order_they_asked() -> None:
    guests = Guests(2)
    await guests.ask("a", "b", "c", "d")
    assert guests.came == ["a", "b"]
    await guests.go("b")
    assert guests.came == ["a", "b", "c"]
    await guests.go("a")
    assert guests.came == ["a", "b", "c", "d"]


async def test_who_gives_up_waiting_takes_no_place_and_holds_up_nobody() -> None:
    guests = Guests(1)
    await guests.ask("a", "b", "c")
    guests.tasks["b"].cancel()
    await settle()
    await guests.go("a")
    assert guests.came == ["a", "c"]
    await guests.go("c")
    await guests.ask("d")
    assert guests.came[-1] == "d"


async def test_a_place_is_free_again_when_its_holder_fails_or_is_cancelled() -> None:
    guests = Guests(1)
    with pytest.raises(ValueError, match="fault"):
        async with guests.places.take(lambda: 1):
            raise ValueError("fault")
    await guests.ask("a", "b")
    guests.tasks["a"].cancel()
    await settle()
    assert guests.came == ["a", "b"]


async def test_the_bound_may_change_meanwhile() -> None:
    guests = Guests(1)
    await guests.ask("a", "b", "c")
    guests.limit = 2
    await guests.ask("d")
    assert guests.came == ["a", "b"]
    guests.limit = 1
    await guests.go("a")
    assert guests.came == ["a", "b"]
    await guests.go("b")
    assert guests.came == ["a", "b", "c"]
