"""Keeps stock of the machine: reads it off the loop, when udev stirs and now and then, tells what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeVar

from agentkit.errors import HardpointError
from agentkit.threads import in_thread
from kvmagent.protocol import DeviceEvent, Inventory

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.05
READ_TIMEOUT_S = 60.0
N = TypeVar("N")


class Watch(Protocol):
    """What wakes the stocktaker: `kvmagent.udev.DeviceWatch`, or a pipe in a test."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when something happened."""
        ...

    def drain(self) -> object:
        """Read all that is there, without blocking."""
        ...


class Stocktaker(Generic[N]):
    """Holds the latest inventory and publishes what changes in it.

    `ask` fetches what only a command can say (network state), on the loop; `read` makes the inventory of it,
    in a thread; `diff` compares two.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[N]],
        read: Callable[[N], Inventory],
        diff: Callable[[Inventory, Inventory], Iterable[DeviceEvent]],
        publish: Callable[[DeviceEvent], object],
        *,
        watch: Watch | None = None,
        rescan_s: float = 30.0,
        debounce_s: float = DEBOUNCE_S,
    ) -> None:
        self._ask = ask
        self._read = read
        self._diff = diff
        self._publish = publish
        self._watch = watch
        self._rescan_s = rescan_s
        self._debounce_s = debounce_s
        self._reading = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._known = asyncio.Event()
        self._inventory: Inventory | None = None

    async def run(self) -> None:
        """Watch and rescan until cancelled; a reading that fails is logged and tried again next turn."""
        loop = asyncio.get_running_loop()
        if self._watch is not None:
            loop.add_reader(self._watch.fileno(), self._stir)
        try:
            while True:
                await self._try_to_take()
                await self._wait()
        finally:
            if self._watch is not None:
                loop.remove_reader(self._watch.fileno())

    async def take(self) -> Inventory:
        """Read the machine afresh, publish what changed and return the inventory.

        Raises HardpointError (SYS.1001) when the reading hangs.
        """
        async with self._reading:
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    asked = await self._ask()
                    inventory = await in_thread(lambda: self._read(asked), "stocktaker")
            except TimeoutError as error:
                details = f"the machine's devices could not be read within {READ_TIMEOUT_S:g} s"
                remedy = "look for hung devices in the kernel's log on the host"
                raise HardpointError("SYS.1001", "Inventory timed out", details, remedy=remedy) from error
            old, self._inventory = self._inventory, inventory
            if old is not None and old != inventory:
                for event in self._diff(old, inventory):
                    self._publish(event)
            self._known.set()
            return inventory

    async def hash(self) -> str:
        """Return the hash of the latest inventory; empty when the machine could not be read so far."""
        await self._known.wait()
        return self._inventory.hash if self._inventory is not None else ""

    def _stir(self) -> None:
        if self._watch is not None:
            self._watch.drain()
        self._stirred.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._rescan_s):
                await self._stirred.wait()
        except TimeoutError:
            return
        # One plug makes a burst of events, and the device is complete only at the end of it.
        await asyncio.sleep(self._debounce_s)
        self._stirred.clear()

    async def _try_to_take(self) -> None:
        try:
            await self.take()
        except Exception:
            log.exception("the machine cannot be read, trying again", extra={"in_s": self._rescan_s})
            self._known.set()
