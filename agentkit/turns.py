"""Things that happen to one thing one after the other, and to different things at once."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """A lock for each thing, by name, as long as somebody has or wants it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """Return the lock of a thing; who waits for it gets it in the order of asking."""
        return self._locks.setdefault(name, asyncio.Lock())
