"""Places that concurrent calls share fairly: so many in all, so many for each call, taken in turns."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable


class Shares:
    """At most `in_all` places are taken, and `each` by one caller; waiting callers get the next in turn.

    A caller that wants a thousand places so delays one that wants a single place by one turn, and a caller
    whose places are all stuck leaves the others `in_all - each`.
    """

    def __init__(self, in_all: int, each: int) -> None:
        self._in_all = in_all
        self._each = each
        self._taken: Counter[Hashable] = Counter()
        self._total = 0
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # whose turn is next comes first

    @contextlib.asynccontextmanager
    async def place(self, caller: Hashable) -> AsyncIterator[None]:
        """Hold a place for the block's duration, once there is one."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(caller, turn)
            else:
                self._give_back(caller)
            raise
        try:
            yield
        finally:
            self._give_back(caller)

    def _grant(self) -> None:
        while self._total < self._in_all and (caller := self._next()) is not None:
            waiting = self._waiting.pop(caller)
            turn = waiting.popleft()
            if waiting:
                self._waiting[caller] = waiting  # behind the others
            if not turn.cancelled():
                self._taken[caller] += 1
                self._total += 1
                turn.set_result(None)

    def _next(self) -> Hashable | None:
        return next((c for c in self._waiting if self._taken[c] < self._each), None)

    def _give_back(self, caller: Hashable) -> None:
        self._total -= 1
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]
        self._grant()

    def _forget(self, caller: Hashable, turn: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(caller)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            if not waiting:
                del self._waiting[caller]
