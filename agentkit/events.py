"""The event stream: a bounded ring of numbered events that any number of subscribers read at their own pace.

Subscribers have no queue of their own: each remembers the number of the last event it was given and reads on
from the ring. One that is so slow that the ring has moved past it is let go; it comes back with the number it
got to and is told by a `reset` that it missed something.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from agentkit.errors import HardpointError
from agentkit.wire import LEASE_TICK_S, Event, EventKind

log = logging.getLogger(__name__)

RING_EVENTS = 10_000
RING_BYTES = 4 * 1024 * 1024
SUBSCRIBERS_MAX = 64


class EventHub:
    """Numbers events, keeps the latest and hands them to subscribers; belongs to one event loop."""

    def __init__(
        self, instance: str, *, ring_events: int = RING_EVENTS, ring_bytes: int = RING_BYTES
    ) -> None:
        self.instance = instance
        self._ring: deque[bytes] = deque()
        self._ring_events = ring_events
        self._ring_bytes = ring_bytes
        self._bytes = 0
        self._last = 0
        self._closed = False
        self._wakers: set[asyncio.Event] = set()
        self._when_followed: list[Callable[[], None]] = []

    @property
    def last_seq(self) -> int:
        """The number of the latest event, 0 before the first."""
        return self._last

    def publish(self, kind: EventKind, data: Any = None) -> int:
        """Add an event and return its number. To be called on the loop."""
        line = self._line(kind, self._last + 1, data)
        self._last += 1
        self._ring.append(line)
        self._bytes += len(line)
        while len(self._ring) > self._ring_events or (self._bytes > self._ring_bytes and len(self._ring) > 1):
            self._bytes -= len(self._ring.popleft())
        self._wake()
        return self._last

    def close(self) -> None:
        """End all streams, now and later."""
        self._closed = True
        self._wake()

    def when_followed(self, follow: Callable[[], None]) -> None:
        """Have `follow` run each time that a stream begins."""
        self._when_followed.append(follow)

    async def subscribe(
        self, instance: str | None, since: int, *, tick_s: float = LEASE_TICK_S, greeting: Any = None
    ) -> AsyncIterator[bytes]:
        """Yield events, each a JSON document and a line end: all after `since`, then new ones, and ticks.

        A tick (or the reset) with the data `greeting` comes at once, so that the reader knows that it is
        connected, and to whom. The ticks of a stream are timed by the loop that does the work, so that a
        stuck loop does not tick; each stream has its own time, so that many do not tick all at once.

        A `reset` comes first, and then only new events, when `instance` is not this one or the ring no longer
        holds the event after `since`. The stream ends when the hub is closed or the reader is too slow.
        Raises HardpointError when there are too many subscribers.
        """
        if len(self._wakers) >= SUBSCRIBERS_MAX:
            details = f"there are {SUBSCRIBERS_MAX} event streams already"
            raise HardpointError(
                "SYS.1010", "Unavailable", details, remedy="close the streams that nobody reads"
            )
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            for follow in self._when_followed:
                follow()
            if instance == self.instance and self._oldest - 1 <= since <= self._last:
                position, kind = since, EventKind.TICK
            else:
                position, kind = self._last, EventKind.RESET
            yield self._line(kind, position, greeting)
            async for line in self._follow(waker, position, tick_s):
                yield line
        finally:
            self._wakers.discard(waker)

    async def _follow(self, waker: asyncio.Event, position: int, tick_s: float) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        due = loop.time() + tick_s
        while position >= self._oldest - 1:
            if position < self._last:
                position += 1
                yield self._ring[position - self._oldest]
            elif self._closed:
                return
            elif loop.time() >= due:
                yield self._line(EventKind.TICK, position, None)
                due = loop.time() + tick_s
            else:
                waker.clear()
                timer = loop.call_at(due, waker.set)
                try:
                    await waker.wait()
                finally:
                    timer.cancel()
        log.warning(
            "event stream dropped: its reader is too slow", extra={"at": position, "oldest": self._oldest}
        )

    @property
    def _oldest(self) -> int:
        return self._last - len(self._ring) + 1

    def _line(self, kind: EventKind, seq: int, data: Any) -> bytes:
        event = Event(seq=seq, instance=self.instance, kind=kind, data=data)
        return msgspec.json.encode(event) + b"\n"

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()
