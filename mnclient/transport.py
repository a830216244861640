"""HTTP for the client: one class that blocks and one for asyncio; both drive the same conversations."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mnclient.errors import NoAnswerError
from mnclient.protocol import Answer, Await, Conversation, Pause, Request, Send, Step

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Node:
    """Where a management node is, and how long to wait for it."""

    url: str = "http://127.0.0.1:8080"
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    ca_file: str | None = None
    """Certificates to trust for https instead of the system's."""

    def tls(self) -> ssl.SSLContext | None:
        """Return how to check the node's certificate; None for http."""
        return ssl.create_default_context(cafile=self.ca_file) if self.url.startswith("https:") else None


@dataclass(frozen=True)
class Incoming:
    """A reply whose body is still to be read: header names in lower case."""

    node: Node
    status: int
    headers: Mapping[str, str]
    _response: http.client.HTTPResponse = field(repr=False)

    @property
    def length(self) -> int:
        """How many bytes the body has."""
        return int(self.headers.get("content-length", "0"))

    def pieces(self) -> Iterator[bytes]:
        """Yield the body piece by piece. Raises NoAnswerError when it ends too early."""
        left = self.length
        while left:
            piece = self._read(min(left, PIECE_BYTES))
            if not piece:
                raise NoAnswerError(f"the management node at {self.node.url} broke off", sent=True)
            left -= len(piece)
            yield piece

    def body(self) -> Any:
        """Return the whole body as JSON, or as text when it is none."""
        return _parsed(self._read(None))

    def _read(self, most: int | None) -> bytes:
        try:
            return self._response.read(most)
        except (OSError, http.client.HTTPException) as error:
            raise no_answer(self.node, error, sent=True) from error


@dataclass
class Transport:
    """Sends requests and waits, blocking. Every thread has a connection of its own, which is kept."""

    node: Node
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def drive(self, conversation: Conversation) -> Any:
        """Return what a conversation returns."""
        try:
            step = next(conversation)
            while True:
                try:
                    outcome = self._do(step)
                except NoAnswerError as error:
                    step = conversation.throw(error)
                else:
                    step = conversation.send(outcome)
        except StopIteration as end:
            return end.value

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _do(self, step: Step) -> Answer | None:
        match step:
            case Send(request):
                return self.send(request)
            case Pause(seconds):
                time.sleep(seconds)
            case Await(delivery, seconds):
                with contextlib.suppress(FutureTimeoutError):
                    return delivery.result(seconds)
        return None

    def send(self, request: Request) -> Answer:
        """Send a request and return the reply. Raises NoAnswerError."""
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                return self._exchange(kept, request)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                pass  # the other side had closed it while it was idle
            except (OSError, http.client.HTTPException) as error:
                raise no_answer(self.node, error, sent=True) from error
        made = self._connect()
        try:
            answer = self._exchange(made, request)
        except (OSError, http.client.HTTPException) as error:
            raise no_answer(self.node, error, sent=True) from error
        self._local.connection = made
        return answer

    @contextlib.contextmanager
    def opened(self, request: Request) -> Iterator[Incoming]:
        """Send a request on a connection of its own, for a reply that is too long to be held in memory."""
        connection = self._connect()
        try:
            try:
                connection.request(request.method, request.path, request.body, dict(request.headers))
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise no_answer(self.node, error, sent=True) from error
            headers = {name.lower(): value for name, value in response.headers.items()}
            yield Incoming(self.node, response.status, headers, response)
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        try:
            where = urlsplit(self.node.url)
            kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
            options: dict[str, Any] = {"context": self.node.tls()} if where.scheme == "https" else {}
            made = kind(where.hostname or "", where.port, timeout=self.node.connect_timeout_s, **options)
            made.connect()
        except (OSError, ValueError) as error:
            raise no_answer(self.node, error, sent=False) from error
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sock.settimeout(self.node.answer_timeout_s)
        return made

    def _exchange(self, connection: http.client.HTTPConnection, request: Request) -> Answer:
        """Send and receive. A connection that is broken off, by Ctrl-C as well, is not used again."""
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, headers, _parsed(response.read()))
        except BaseException:
            connection.close()
            self._local.connection = None
            raise


@dataclass
class AsyncTransport:
    """Sends requests and waits, on the running event loop; `close` it when done."""

    node: Node
    _session: aiohttp.ClientSession | None = None

    async def drive(self, conversation: Conversation) -> Any:
        """Return what a conversation returns."""
        try:
            step = next(conversation)
            while True:
                try:
                    outcome = await self._do(step)
                except NoAnswerError as error:
                    step = conversation.throw(error)
                else:
                    step = conversation.send(outcome)
        except StopIteration as end:
            return end.value

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _do(self, step: Step) -> Answer | None:
        match step:
            case Send(request):
                return await self.send(request)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Await(delivery, seconds):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        return await asyncio.shield(asyncio.wrap_future(delivery))
        return None

    async def send(self, request: Request) -> Answer:
        """Send a request and return the reply. Raises NoAnswerError."""
        import aiohttp  # late: the command line does without it

        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=self.node.answer_timeout_s, sock_connect=self.node.connect_timeout_s
            )
            connector = aiohttp.TCPConnector(ssl=self.node.tls() or True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        from yarl import URL

        url = URL(self.node.url.rstrip("/") + request.path, encoded=True)
        try:
            async with self._session.request(
                request.method, url, data=request.body, headers=request.headers, allow_redirects=False
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, _parsed(await response.read()))
        except (aiohttp.ClientError, OSError) as error:
            unsent = isinstance(error, aiohttp.ClientConnectorError)
            raise no_answer(self.node, error, sent=not unsent) from error


def no_answer(node: Node, error: Exception, *, sent: bool) -> NoAnswerError:
    """Return the error of a node that cannot be reached or breaks off."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    what = "did not answer" if sent else "cannot be reached"
    return NoAnswerError(f"the management node at {node.url} {what}: {reason}", sent=sent)


def _parsed(raw: bytes) -> Any:
    if not raw.strip():
        return {}
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
