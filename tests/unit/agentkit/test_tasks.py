"""Tasks that take long have places of their own: others do not wait for them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentkit.events import EventHub
from agentkit.journal import Journal
from agentkit.tasks import RUNNING_MAX, TaskDesk
from agentkit.wire import Command, TaskState, Wire


class Done(Wire):
    """It is done."""


class Haul(Command[Done], tag="haul"):
    """What takes hours."""

    takes_long: ClassVar[bool] = True


class Look(Command[Done], tag="look"):
    """What takes a moment."""


class Site:
    """Hauls are under way until they are let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.hauls = 0


async def haul(site: Site, _command: Haul) -> Done:
    site.hauls += 1
    await site.go_on.wait()
    return Done()


async def look(_site: Site, _command: Look) -> Done:
    return Done()


@pytest.fixture
async def site() -> Site:
    return Site()


@pytest.fixture
async def desk(tmp_path: Path, site: Site) -> AsyncIterator[TaskDesk[Any]]:
    journal = Journal(tmp_path)
    desk = TaskDesk(journal, EventHub("i"), site, {Haul: haul, Look: look})
    await desk.open()
    yield desk
    await desk.drain(10)
    journal.close()


async def test_a_quick_task_does_not_wait_for_as_many_long_ones_as_there_may_be(
    desk: TaskDesk[Any], site: Site
) -> None:
    names = [uuid.uuid4().hex for _ in range(RUNNING_MAX + 1)]
    for name in names:
        await desk.submit(name, b'{"command": "haul"}', 0)
    quick = await desk.submit(uuid.uuid4().hex, b'{"command": "look"}', 10)
    assert quick.state is TaskState.SUCCEEDED
    assert site.hauls == RUNNING_MAX
    site.go_on.set()
    assert {(await desk.follow(name, 10)).state for name in names} == {TaskState.SUCCEEDED}
