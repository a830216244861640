"""A lasting connection to libvirt: calls off the loop, changes on the loop, connected anew when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from agentkit.errors import HardpointError
from agentkit.threads import in_thread
from kvmagent.vms.library import LibvirtError, Session

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL_LIMIT_S = 120.0
RECONNECT_FIRST_S, RECONNECT_MOST_S = 0.5, 10.0
LOOK_EVERY_S = 1.0
"""An awaited change is looked for so often even when no event tells of it."""


class Libvirt:
    """Belongs to one event loop. `tell` is called there with the uuid (with dashes) of a domain that has
    changed, with None when the connection was away and any may have.
    """

    def __init__(self, uri: str, tell: Callable[[str | None], object]) -> None:
        self._uri = uri
        self._tell = tell
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._broken = asyncio.Event()
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        pause, away = RECONNECT_FIRST_S, False
        while True:
            try:
                await self._connected()
            except HardpointError as error:
                if not away:
                    log.warning("libvirt is away", extra={"uri": self._uri, "reason": error.details})
                away = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, RECONNECT_MOST_S)
                continue
            if away:
                log.info("libvirt is back", extra={"uri": self._uri})
                self._changed(None)
            pause, away = RECONNECT_FIRST_S, True
            await self._broken.wait()

    async def call(self, work: Callable[[Session], T], limit_s: float | None = CALL_LIMIT_S) -> T:
        """Return what `work` does with the connection, in a thread; `limit_s` None: however long it takes.

        Raises LibvirtError as libvirt says, HardpointError when it cannot be reached (SYS.1006) or does not
        answer (SYS.1001).
        """
        session = await self._connected()
        session.hold()

        def held() -> T:
            try:
                return work(session)
            finally:
                session.release()

        try:
            async with asyncio.timeout(limit_s):
                return await in_thread(held, "libvirt call")
        except TimeoutError as error:
            details = f"libvirt at {self._uri} has not answered within {limit_s or 0:.0f} s"
            remedy = "see whether libvirtd hangs (journalctl -u libvirtd) and restart it: VMs go on"
            raise HardpointError(
                "SYS.1001", "A message or a operation timeout", details, remedy=remedy
            ) from error

    @property
    def uri(self) -> str:
        """The address of libvirt as its clients write it."""
        return self._uri

    async def until(self, uuid: str, condition: Callable[[], Awaitable[bool]], limit_s: float) -> bool:
        """Wait until a condition on a domain holds, looking after each of its changes; False: it does not."""
        end = asyncio.get_running_loop().time() + limit_s
        with self._watching(uuid) as changed:
            while True:
                changed.clear()
                if await condition():
                    return True
                left = end - asyncio.get_running_loop().time()
                if left <= 0:
                    return False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_EVERY_S)):
                        await changed.wait()

    @contextlib.contextmanager
    def _watching(self, uuid: str) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        watchers = self._watchers.setdefault(uuid, set())
        watchers.add(changed)
        try:
            yield changed
        finally:
            watchers.discard(changed)
            if not watchers:
                self._watchers.pop(uuid, None)

    async def _connected(self) -> Session:
        async with self._opening:
            if self._session is not None and self._broken.is_set():
                await in_thread(self._session.close, "libvirt close")
                self._session = None
            if self._session is None:
                self._broken.clear()
                self._session = await self._open()
            return self._session

    async def _open(self) -> Session:
        loop = self._loop = asyncio.get_running_loop()

        def on_loop(function: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(function)

        def changed(uuid: str) -> None:
            on_loop(lambda: self._changed(uuid))

        def closed() -> None:
            on_loop(self._broken.set)

        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                return await in_thread(lambda: Session(self._uri, changed, closed), "libvirt connect")
        except (LibvirtError, OSError, TimeoutError) as error:
            details = f"libvirt at {self._uri} cannot be reached: {str(error) or 'it does not answer'}"
            remedy = "see that libvirt is installed and that libvirtd or virtqemud runs on the host"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy=remedy) from error

    def _changed(self, uuid: str | None) -> None:
        for name, watchers in self._watchers.items():
            if uuid in (None, name):
                for watcher in watchers:
                    watcher.set()
        self._tell(uuid)
