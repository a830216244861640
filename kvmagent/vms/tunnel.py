"""A connection to another host's libvirt, carried by web sockets between the two agents' doors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote

from agentkit.lean import web  # before aiohttp itself: it sees to what its client loads

import aiohttp  # isort: skip

log = logging.getLogger(__name__)

RUN = Path("/run")
_CHUNK = 256 * 1024
_REASON = "X-Hardpoint-Reason"
HEARTBEAT_S = 10.0
"""A tunnel whose other end does not answer for that long is closed; libvirt then gives the migration up."""
_LIMITS = aiohttp.ClientTimeout(total=None, connect=30.0)

WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def carry(socket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until one end closes; then both are closed."""

    async def send() -> None:
        while chunk := await reader.read(_CHUNK):
            await socket.send_bytes(chunk)

    async def receive() -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                return
            writer.write(message.data)
            await writer.drain()

    ways = [asyncio.ensure_future(way) for way in (send(), receive())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        await socket.close()


class Tunnel:
    """A unix socket of this host; who connects to it talks with what `url` leads to."""

    def __init__(self, url: str, token: str, ca: Path, folder: Path) -> None:
        self.socket = folder / "libvirt"
        self.failure: str | None = None
        """Why a connection has not come about or has broken."""
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._carrying: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen; connections end with it."""
        server = await asyncio.start_unix_server(self._connected, self.socket)
        try:
            yield
        finally:
            server.close()
            for task in self._carrying:
                task.cancel()
            await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)
        try:
            async with (
                aiohttp.ClientSession(timeout=_LIMITS) as session,
                session.ws_connect(
                    self._url, headers=self._headers, ssl=self._tls, heartbeat=HEARTBEAT_S, max_msg_size=0
                ) as socket,
            ):
                await carry(socket, reader, writer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.failure = _reason_of(error) or str(error) or type(error).__name__
            log.warning("tunnel to another host broken", extra={"reason": self.failure})
        finally:
            writer.close()


def refusal(details: str) -> dict[str, str]:
    """Return the header by which a door says why it stays closed: the other end of a tunnel sees no body."""
    return {_REASON: quote(details)}


def _reason_of(error: Exception) -> str | None:
    headers = error.headers if isinstance(error, aiohttp.WSServerHandshakeError) else None
    return unquote(headers[_REASON]) if headers is not None and _REASON in headers else None


@contextlib.asynccontextmanager
async def tunnel(url: str, token: str, ca: Path) -> AsyncIterator[Tunnel]:
    """Have a tunnel to the door of another agent, whose certificate `ca` (PEM) checks."""
    place = RUN if os.access(RUN, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="hardpoint-", dir=place))
    try:
        made = Tunnel(url, token, ca, folder)
        async with made.open():
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
