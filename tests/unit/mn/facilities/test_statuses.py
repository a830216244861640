"""Statuses of many hosts are written in few transactions, the last word of each host wins."""

from __future__ import annotations

import asyncio

from mn.facilities.hosts.statuses import StatusBook


class SlowDatabase:
    def __init__(self) -> None:
        self.groups: list[dict[str, str]] = []
        self.go = asyncio.Event()

    async def write(self, _function: object, statuses: dict[str, str]) -> None:
        await self.go.wait()
        self.groups.append(statuses)


async def test_what_comes_while_a_group_is_written_is_the_next_group():
    database = SlowDatabase()
    book = StatusBook(database)  # type: ignore[arg-type]
    first = asyncio.create_task(book.set("h0", "Connected"))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(book.set(f"h{n}", "Disconnected")) for n in range(1000)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in [first, *others])
    database.go.set()
    await asyncio.gather(first, *others)
    assert database.groups == [{"h0": "Connected"}, {f"h{n}": "Disconnected" for n in range(1000)}]
