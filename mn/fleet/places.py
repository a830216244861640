"""Places: a bounded number at a time, first come first served, with a bound that may change meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Places:
    """`limit` says how many may be at it at once; it is asked whenever a place is free or somebody comes."""

    def __init__(self) -> None:
        self._taken = 0
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], float]]] = deque()

    @asynccontextmanager
    async def take(self, limit: Callable[[], float]) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, limit))
        self._grant()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._taken -= 1
            self._grant()

    def _grant(self) -> None:
        while self._waiting:
            turn, limit = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif self._taken < limit():
                self._waiting.popleft()
                self._taken += 1
                turn.set_result(None)
            else:
                return
