import asyncio
import json

import pytest

from agentkit.errors import HardpointError
from agentkit.events import SUBSCRIBERS_MAX, EventHub
from agentkit.wire import EventKind


async def read(lines, number):
    return [json.loads(await asyncio.wait_for(anext(lines), 60)) for _ in range(number)]


async def test_a_number_that_the_ring_has_lost_is_answered_with_a_reset():
    hub = EventHub("i", ring_events=10)
    for number in range(30):
        hub.publish(EventKind.DEVICE, number)
    (lost,) = await read(hub.subscribe("i", 19), 1)
    assert (lost["kind"], lost["seq"]) == ("reset", 30)
    held = await read(hub.subscribe("i", 20), 11)
    assert held[0]["kind"] == "tick"
    assert [event["seq"] for event in held[1:]] == list(range(21, 31))


async def test_a_number_from_the_future_is_answered_with_a_reset():
    assert (await read(EventHub("i").subscribe("i", 5), 1))[0]["kind"] == "reset"


async def test_the_ring_is_bounded_in_bytes_too():
    hub = EventHub("i", ring_bytes=10_000)
    for _ in range(100):
        hub.publish(EventKind.DEVICE, "x" * 1000)
    assert (await read(hub.subscribe("i", 80), 1))[0]["kind"] == "reset"
    assert (await read(hub.subscribe("i", 95), 2))[1]["seq"] == 96


async def test_a_subscriber_that_does_not_read_is_dropped_and_told_so_when_it_returns():
    hub = EventHub("i", ring_events=10)
    slow = hub.subscribe("i", 0)
    await read(slow, 1)
    for number in range(11):
        hub.publish(EventKind.DEVICE, number)
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    assert (await read(hub.subscribe("i", 0), 1))[0]["kind"] == "reset"


async def test_what_was_published_before_the_close_is_still_delivered():
    hub = EventHub("i")
    lines = hub.subscribe("i", 0)
    await read(lines, 1)
    hub.publish(EventKind.TASK, "last")
    hub.close()
    assert (await read(lines, 1))[0]["data"] == "last"
    with pytest.raises(StopAsyncIteration):
        await anext(lines)


async def test_ticks_repeat_the_last_number():
    hub = EventHub("i")
    hub.publish(EventKind.DEVICE)
    events = await read(hub.subscribe("i", 1, tick_s=0.01), 4)
    assert [(event["kind"], event["seq"]) for event in events] == [("tick", 1)] * 4


async def test_subscribers_are_bounded():
    hub = EventHub("i")
    streams = [hub.subscribe("i", 0) for _ in range(SUBSCRIBERS_MAX)]
    for stream in streams:
        await read(stream, 1)
    with pytest.raises(HardpointError, match="event streams already"):
        await read(hub.subscribe("i", 0), 1)
    await streams[0].aclose()
    await read(hub.subscribe("i", 0), 1)
