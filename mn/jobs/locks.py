"""Locks on resources: taken in one order, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable


class Locks:
    """Exclusive locks by resource name, granted all or nothing and in the order of the requests.

    A request waits while any of its resources is held or is wanted by an earlier request that waits.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._queue: deque[tuple[frozenset[str], asyncio.Future[None]]] = deque()

    def try_acquire(self, resources: Iterable[str]) -> bool:
        """Take the locks when that needs no waiting."""
        wanted = frozenset(resources)
        if self._held & wanted or any(waiting & wanted for waiting, _ in self._queue):
            return False
        self._held |= wanted
        return True

    async def acquire(self, resources: Iterable[str]) -> None:
        """Wait for the locks and take them."""
        wanted = frozenset(resources)
        if self.try_acquire(wanted):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((wanted, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(wanted)
            else:
                self._queue.remove((wanted, future))
                self._grant()
            raise

    def release(self, resources: Iterable[str]) -> None:
        """Give locks back and grant what waits for them."""
        self._held.difference_update(resources)
        self._grant()

    def _grant(self) -> None:
        if not self._queue:
            return
        blocked: set[str] = set()
        still: deque[tuple[frozenset[str], asyncio.Future[None]]] = deque()
        for wanted, future in self._queue:
            if wanted & self._held or wanted & blocked:
                blocked |= wanted
                still.append((wanted, future))
            else:
                self._held |= wanted
                future.set_result(None)
        self._queue = still
