"""Keeps stock of the machine: reads it off the loop, when udev stirs and now and then, tells what changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Generic, Protocol, TypeVar

from agentkit.errors import HardpointError
from agentkit.threads import in_thread
from kvmagent.protocol import DeviceEvent, Inventory

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.05
READ_TIMEOUT_S = 60.0
PAUSE_TO_RESCAN = 20.0
_ASKED_FOR = "net"
N = TypeVar("N")
R = TypeVar("R")


class Watch(Protocol):
    """What wakes the stocktaker: `kvmagent.udev.DeviceWatch`, or a pipe in a test."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when something happened."""
        ...

    def drain(self) -> Collection[str]:
        """Return the subsystems (`pci`, `net`...) that had events, without blocking."""
        ...


class Stock(Protocol):
    """What knows the machine."""

    async def take(self) -> Inventory:
        """Return the inventory of this moment."""
        ...

    async def take_devices(self) -> Inventory:
        """Return the same; the network's state may be older."""
        ...


class Stocktaker(Generic[N]):
    """Holds the latest inventory and publishes what changes in it.

    `ask` fetches what only a command can say (network state); `read` makes the inventory of it, in a thread;
    `diff` compares two. The command is slow, so it is not asked again for an event of other devices, and when
    it fails its last answer (None before the first) has to do.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[N]],
        read: Callable[[N | None], Inventory],
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
        self._asking = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._known = asyncio.Event()
        self._inventory: Inventory | None = None
        self._asked: N | None = None
        self._ask_again = True
        self._took_s = 0.0

    async def run(self) -> None:
        """Watch and rescan until cancelled; a reading that fails is logged and tried again next turn.

        Devices are shown at once, while the network's state, which takes longer, is asked for.
        """
        loop = asyncio.get_running_loop()
        if self._watch is not None:
            loop.add_reader(self._watch.fileno(), self._stir)
        asking = asyncio.create_task(self._try_to_take())
        try:
            await asking
            while True:
                if await self._wait():
                    await self._try_to_take(ask=False)
                if self._ask_again and asking.done():
                    asking = asyncio.create_task(self._ask_and_take())
        finally:
            asking.cancel()
            if self._watch is not None:
                loop.remove_reader(self._watch.fileno())

    async def take(self) -> Inventory:
        """Read the whole machine afresh, publish what changed and return the inventory.

        Raises HardpointError (SYS.1001) when the reading hangs.
        """
        self._ask_again = True
        return await self._take()

    async def take_devices(self) -> Inventory:
        """Read the machine afresh but for the network's state, which is the last that was heard of.

        On a busy host the network's state takes seconds. Raises HardpointError (SYS.1001) as `take` does.
        """
        return await self._take(ask=self._asked is None)

    async def _take(self, *, ask: bool = True) -> Inventory:
        if ask:
            async with self._asking:
                if self._ask_again:
                    await _in_time(self._refresh())
        async with self._reading:
            asked = self._asked
            inventory = await _in_time(in_thread(lambda: self._read(asked), "stocktaker"))
            old, self._inventory = self._inventory, inventory
            if old is not None and old != inventory:
                for event in self._diff(old, inventory):
                    self._publish(event)
            self._known.set()
            return inventory

    async def latest(self) -> Inventory | None:
        """Return the latest inventory, None when the machine could not be read so far."""
        await self._known.wait()
        return self._inventory

    async def hash(self) -> str:
        """Return the hash of the latest inventory; empty when the machine could not be read so far."""
        latest = await self.latest()
        return latest.hash if latest is not None else ""

    async def _refresh(self) -> None:
        self._ask_again = False
        try:
            self._asked = await self._ask()
        except HardpointError as error:
            log.warning("network state is not up to date", extra={"reason": error.details})

    def _stir(self) -> None:
        if self._watch is None:
            return
        try:
            subsystems = self._watch.drain()
        except OSError as error:
            # The descriptor would stay readable and turn the loop for ever.
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            extra = {"reason": str(error)}
            log.error("device events are lost, rescans go on", extra=extra)  # noqa: TRY400
            subsystems = {_ASKED_FOR}
        self._ask_again = self._ask_again or _ASKED_FOR in subsystems
        if subsystems:
            self._stirred.set()

    async def _wait(self) -> bool:
        """Wait for device events or for the time to look anyway; say whether it were events."""
        try:
            async with asyncio.timeout(pause_s(self._rescan_s, self._took_s)):
                await self._stirred.wait()
        except TimeoutError:
            self._ask_again = True
            return False
        # One plug makes a burst of events, and the device is complete only at the end of it.
        await asyncio.sleep(self._debounce_s)
        self._stirred.clear()
        return True

    async def _ask_and_take(self) -> None:
        while self._ask_again:
            await self._try_to_take()

    async def _try_to_take(self, *, ask: bool = True) -> None:
        begun_s = time.monotonic()
        try:
            await self._take(ask=ask)
        except Exception:
            log.exception("the machine cannot be read, trying again", extra={"in_s": self._rescan_s})
            self._known.set()
        if ask:
            self._took_s = time.monotonic() - begun_s


def pause_s(rescan_s: float, took_s: float) -> float:
    """Return how long to wait for the next rescan when the last one took so long.

    A slow or busy host spends no more than a twentieth of its time on them.
    """
    return max(rescan_s, took_s * PAUSE_TO_RESCAN)


async def _in_time(work: Awaitable[R]) -> R:
    """Return what a look at the machine says. Raises HardpointError (SYS.1001) when it hangs."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await work
    except TimeoutError as error:
        details = f"the machine's devices could not be read within {READ_TIMEOUT_S:g} s"
        remedy = "look for hung devices in the kernel's log on the host"
        raise HardpointError(
            "SYS.1001", "A message or a operation timeout", details, remedy=remedy
        ) from error
