"""The event stream of an agent: a TLS connection of its own, asked for once, read line by line.

Of HTTP it needs a request, a status and the lines that follow. That costs half of what a general client's
connection does, and connecting is in two parts: first TCP, which a host without power leaves hanging and
which costs nothing; then, in turn, the handshake, which takes both sides a millisecond or more.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlencode

import msgspec

from agentkit.errors import ErrorBody, HardpointError

CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 10.0
"""From the first byte of TLS to the first event."""
LINE_MAX_BYTES = 4 * 1024 * 1024
PROBE_AFTER_S, PROBE_EVERY_S, PROBES_MAX = 4, 2, 2
"""The kernel asks for a sign of life on a silent connection, however long the tick: a host that has lost its
power or its network is lost after 8 s.
"""


class EventStream:
    """A connection whose first line has come; raises OSError, TimeoutError or ValueError when it breaks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        self.first = first
        self._reader = reader
        self._writer = writer

    async def line(self, timeout_s: float) -> bytes:
        """Return the next line; TimeoutError when none has come so long."""
        async with asyncio.timeout(timeout_s):
            return await _line(self._reader)

    def close(self) -> None:
        """Hang up."""
        self._writer.transport.abort()


async def open_stream(
    context: ssl.SSLContext,
    address: str,
    port: int,
    parameters: dict[str, str],
    turn: AbstractAsyncContextManager[Any],
) -> EventStream:
    """Connect, and shake hands when it is this one's turn.

    Raises what `EventStream` does, and the agent's HardpointError when it refuses.
    """
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        connected = await _connect(address, port)
    try:
        async with turn, asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                sock=connected, ssl=context, server_hostname=address, limit=LINE_MAX_BYTES
            )
            try:
                writer.write(_request(address, parameters))
                await _check_head(reader)
                return EventStream(reader, writer, await _line(reader))
            except BaseException:
                writer.transport.abort()
                raise
    except BaseException:
        connected.close()
        raise


def _request(address: str, parameters: dict[str, str]) -> bytes:
    # HTTP/1.0: what follows the head are the lines and nothing else.
    host = f"[{address}]" if ":" in address else address
    return f"GET /v1/events?{urlencode(parameters)} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()


async def _connect(address: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    reason: OSError = OSError(f"{address} is no address")
    for family, kind, protocol, _, place in await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM):
        made = probed_socket(family, kind, protocol)
        try:
            await loop.sock_connect(made, place)
        except BaseException as error:
            made.close()
            if not isinstance(error, OSError):
                raise
            reason = error
        else:
            return made
    raise reason


def probed_socket(family: int, kind: int, protocol: int) -> socket.socket:
    """Return a socket whose peer the kernel asks for a sign of life."""
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES_MAX)
    return made


async def _check_head(reader: asyncio.StreamReader) -> None:
    status = int((await _line(reader)).split(maxsplit=2)[1])
    length = 0
    while (header := await _line(reader)).strip():
        name, _, value = header.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    if status == 200:
        return
    body = await reader.readexactly(min(length, LINE_MAX_BYTES))
    if status == 503:
        raise ConnectionResetError("the agent is stopping")
    raise HardpointError.from_body(msgspec.json.decode(body, type=ErrorBody))


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line:
        raise ConnectionResetError("the event stream ended")
    return line
