"""Calls to an agent: HTTPS with both certificates, tasks that are sent until they are answered."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import msgspec

from agentkit.errors import ErrorBody, HardpointError
from agentkit.wire import LEASE_TICK_S, Command, Event, Hello, TaskReport, TaskState
from mn.fleet.stream import open_stream

R = TypeVar("R")

CONNECT_TIMEOUT_S = 5.0
HELLO_TIMEOUT_S = 5.0
TASK_WAIT_S = 20.0
LEASE_GRACE_S = 4.0
"""An agent that says nothing for two ticks and so long is lost."""
UNREACHABLE_AFTER_S = 30.0
"""A task's agent may be away for so long before the task is given up."""
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 2.0
KEEP_ALIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a host's agent listens; `agent` is the name of its kind (`mn.fleet.agents`)."""

    host_uuid: str
    address: str
    port: int
    agent: str = "kvmagent"

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


Revive = Callable[[], Awaitable[Endpoint | None]]
"""Starts a dead agent when that is in our hands; returns where it listens now, None when it is not."""


class AgentClient:
    """Talks to all agents over one pool of kept connections; they are to say something every `tick_s`."""

    def __init__(self, context: ssl.SSLContext, *, tick_s: float = LEASE_TICK_S) -> None:
        self._context = context
        self._tick_s = tick_s
        self._lease_s = 2 * tick_s + LEASE_GRACE_S
        connector = aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=KEEP_ALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
            read_bufsize=64 * 1024,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def hello(self, endpoint: Endpoint) -> Hello:
        """Return who answers. Raises HardpointError (HOST.1003) when nobody does."""
        try:
            async with (
                asyncio.timeout(HELLO_TIMEOUT_S),
                self._session.get(f"https://{endpoint}/v1/hello") as response,
            ):
                return msgspec.json.decode(await _body(response), type=Hello)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise unreachable(endpoint, error) from error

    async def certificate_end(self, endpoint: Endpoint) -> float:
        """Return when the certificate that an agent shows expires (seconds since 1970)."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                _, writer = await asyncio.open_connection(
                    endpoint.address, endpoint.port, ssl=self._context, server_hostname=endpoint.address
                )
        except (TimeoutError, OSError) as error:
            raise unreachable(endpoint, error) from error
        try:
            return ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"])
        finally:
            writer.transport.abort()

    async def call(self, endpoint: Endpoint, command: Command[R], task_uuid: str, revive: Revive) -> R:
        """Have the agent do `command` as task `task_uuid` and return its reply.

        The task is sent again while the agent is away, and `revive` may bring it back; it happens once all
        the same. Raises the agent's HardpointError, or HOST.1003 when the agent stays away.
        """
        body = msgspec.json.encode(command)
        last_heard, pause = time.monotonic(), RETRY_FIRST_S
        while True:
            try:
                report = await self._post(endpoint, task_uuid, body)
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
                if time.monotonic() - last_heard > UNREACHABLE_AFTER_S:
                    raise unreachable(endpoint, error) from error
                endpoint = await revive() or endpoint
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MOST_S)
                continue
            last_heard, pause = time.monotonic(), RETRY_FIRST_S
            if report.state is TaskState.SUCCEEDED:
                return msgspec.convert(report.result, command.reply_type())
            if report.state is TaskState.FAILED:
                raise _task_error(endpoint, report)

    async def acknowledge(self, endpoint: Endpoint, task_uuid: str) -> None:
        """Tell the agent that a task's result has arrived; a failure is of no matter, results expire."""
        try:
            async with (
                asyncio.timeout(HELLO_TIMEOUT_S),
                self._session.delete(f"https://{endpoint}/v1/tasks/{task_uuid}"),
            ):
                pass
        except (aiohttp.ClientError, TimeoutError, OSError):
            return

    async def events(
        self,
        endpoint: Endpoint,
        instance: str | None,
        since: int | None,
        turn: AbstractAsyncContextManager[Any],
    ) -> AsyncIterator[Event]:
        """Yield the agent's events after `since`, without end; the data of the first are its Hello.

        `turn` is held while hands are shaken. Raises HardpointError (HOST.1003) when the stream breaks or is
        silent for longer than the lease.
        """
        parameters = {"tick": f"{self._tick_s:g}"}
        if instance is not None and since is not None:
            parameters |= {"instance": instance, "since": str(since)}
        try:
            stream = await open_stream(self._context, endpoint.address, endpoint.port, parameters, turn)
            try:
                yield msgspec.json.decode(stream.first, type=Event)
                while True:
                    yield msgspec.json.decode(await stream.line(self._lease_s), type=Event)
            finally:
                stream.close()
        except (TimeoutError, OSError, EOFError, ValueError, IndexError) as error:
            raise unreachable(endpoint, error) from error

    async def _post(self, endpoint: Endpoint, task_uuid: str, body: bytes) -> TaskReport:
        url = f"https://{endpoint}/v1/tasks/{task_uuid}"
        async with (
            asyncio.timeout(TASK_WAIT_S + CONNECT_TIMEOUT_S),
            self._session.post(url, params={"wait": str(TASK_WAIT_S)}, data=body) as response,
        ):
            return msgspec.json.decode(await _body(response), type=TaskReport)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    raw = await response.read()
    if response.status < 400:
        return raw
    if response.status == 503:
        raise ConnectionResetError("the agent is stopping")
    raise HardpointError.from_body(msgspec.json.decode(raw, type=ErrorBody))


def _task_error(endpoint: Endpoint, report: TaskReport) -> HardpointError:
    if report.error is not None:
        return HardpointError.from_body(report.error)
    return HardpointError(
        "SYS.1000", "Internal error", f"agent {endpoint}: task {report.uuid} failed, saying nothing"
    )


def unreachable(endpoint: Endpoint, error: BaseException) -> HardpointError:
    """Return the error of an agent that does not answer."""
    reason = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        reason = "it does not answer"
    return HardpointError(
        "HOST.1003",
        "Connection error",
        f"the agent at {endpoint} cannot be reached: {reason}",
        remedy=f"check that the host is up, that its agent runs ({endpoint.agent}) and that no firewall is "
        "between",
    )
