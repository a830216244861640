import asyncio

import pytest

from mn.jobs.locks import Locks


async def granted(task: asyncio.Task[None]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return task.done()


async def test_a_later_request_does_not_overtake_one_that_waits_for_the_same() -> None:
    locks = Locks()
    assert locks.try_acquire({"a"})
    waiting = asyncio.create_task(locks.acquire({"a", "b"}))
    assert not await granted(waiting)
    assert not locks.try_acquire({"b"})
    assert locks.try_acquire({"c"})
    locks.release({"a"})
    assert await granted(waiting)
    assert not locks.try_acquire({"b"})


async def test_locks_are_taken_all_or_none() -> None:
    locks = Locks()
    assert locks.try_acquire({"a"})
    assert not locks.try_acquire({"a", "b"})
    assert locks.try_acquire({"b"})


async def test_a_request_that_is_given_up_lets_the_next_one_through() -> None:
    locks = Locks()
    assert locks.try_acquire({"a"})
    given_up = asyncio.create_task(locks.acquire({"a", "b"}))
    next_one = asyncio.create_task(locks.acquire({"b"}))
    assert not await granted(next_one)
    given_up.cancel()
    assert await granted(next_one)
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_a_grant_that_nobody_takes_any_more_is_given_back() -> None:
    locks = Locks()
    assert locks.try_acquire({"a"})
    waiting = asyncio.create_task(locks.acquire({"a"}))
    await asyncio.sleep(0)
    locks.release({"a"})
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert locks.try_acquire({"a"})
