"""The HTTP face of an agent: the routes of `agentkit.wire`, its own beside them, errors as `ErrorBody`."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.events import EventHub
from agentkit.journal import valid_uuid
from agentkit.lean import web
from agentkit.tasks import WAIT_MAX_S, TaskDesk
from agentkit.wire import LEASE_TICK_S, TICK_MAX_S, TICK_MIN_S, Hello

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 4 * 1024 * 1024
STREAM_WRITE_TIMEOUT_S = 15.0
_STREAM_BUFFER_BYTES = 64 * 1024
_STATUS = {"ID.1000": 403, "SYS.1003": 404, "SYS.1006": 409, "SYS.1007": 400, "SYS.1010": 503}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Served(Protocol):
    """What requests are answered from; `agentkit.agent.Agent` is one."""

    desk: TaskDesk[Any]
    hub: EventHub

    async def hello(self) -> Hello:
        """Say who answers."""
        ...


Find = Callable[[web.Request], Awaitable[Served]]
"""Says which agent a request is for."""


def only(agent: Served) -> Find:
    """Return the `Find` of a process that is one agent."""

    async def find(_request: web.Request) -> Served:
        return agent

    return find


class Routes:
    """Answers requests from the agent that `find` says they are for.

    `public` are routes of the agent's own that clients without a certificate may use as well; what such a
    client may have there is for the route to say. The server then lets in clients without a certificate.
    """

    def __init__(
        self,
        find: Find,
        *,
        public: Sequence[web.AbstractRouteDef] = (),
        stream_write_timeout_s: float = STREAM_WRITE_TIMEOUT_S,
    ) -> None:
        self._stream_write_timeout_s = stream_write_timeout_s
        self._find = find
        self._public = public

    def application(self) -> web.Application:
        """Return the application that serves the routes."""
        middlewares = [errors_as_bodies, commands_need_a_certificate] if self._public else [errors_as_bodies]
        application = web.Application(middlewares=middlewares, client_max_size=BODY_MAX_BYTES)
        application.add_routes(self._public)
        application.add_routes(
            [
                web.get("/v1/hello", self.hello),
                web.post("/v1/tasks/{uuid}", self.submit),
                web.get("/v1/tasks/{uuid}", self.follow),
                web.delete("/v1/tasks/{uuid}", self.forget),
                web.get("/v1/events", self.events),
            ]
        )
        return application

    async def hello(self, request: web.Request) -> web.Response:
        """Say who answers."""
        agent = await self._find(request)
        return _json(await agent.hello())

    async def submit(self, request: web.Request) -> web.Response:
        """Take in a task."""
        uuid, wait_s = _uuid(request), _wait_s(request)
        agent = await self._find(request)
        return _json(await agent.desk.submit(uuid, await request.read(), wait_s))

    async def follow(self, request: web.Request) -> web.Response:
        """Report on a task."""
        agent = await self._find(request)
        return _json(await agent.desk.follow(_uuid(request), _wait_s(request)))

    async def forget(self, request: web.Request) -> web.Response:
        """Drop a result; also fine when there is none."""
        agent = await self._find(request)
        await agent.desk.forget(_uuid(request))
        return web.Response(status=204)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream events until either side has had enough."""
        since_text = request.query.get("since", "0")
        if not since_text.isdecimal():
            raise _illegal("since", since_text, "a whole number, the `seq` of the last event that was read")
        tick_s, agent = _tick_s(request), await self._find(request)
        lines = agent.hub.subscribe(
            request.query.get("instance"), int(since_text), tick_s=tick_s, greeting=await agent.hello()
        )
        first = await anext(lines)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await self._pump(request, response, first, lines)
        return response

    async def _pump(
        self, request: web.Request, response: web.StreamResponse, first: bytes, lines: AsyncIterator[bytes]
    ) -> None:
        line: bytes | None = first
        try:
            await response.prepare(request)
            if request.transport is not None:
                request.transport.set_write_buffer_limits(high=_STREAM_BUFFER_BYTES)
            while line is not None:
                async with asyncio.timeout(self._stream_write_timeout_s):
                    await response.write(line)
                line = await anext(lines, None)
        except TimeoutError:
            log.warning("event stream dropped: its reader does not read")
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            log.debug("event stream closed by its reader")
        finally:
            await lines.aclose()  # type: ignore[attr-defined]


@web.middleware
async def errors_as_bodies(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn whatever goes wrong into an `ErrorBody`; what is the agent's own fault is logged, never sent."""
    try:
        return await handler(request)
    except HardpointError as error:
        return _json(error.to_body(), _STATUS.get(error.code, 500))
    except web.HTTPException as error:
        details = f"{request.method} {request.path}: {error.status} {error.reason}"
        remedy = "see agentkit/wire.py for what an agent answers"
        refusal = HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)
        return _json(refusal.to_body(), error.status)
    except ConnectionError:
        raise
    except Exception as error:
        log.exception("request failed by a fault of the agent", extra={"path": request.path})
        details = f"fault in the agent: {type(error).__name__}"
        body = HardpointError("SYS.1000", "Internal error", details, remedy="see the agent's log").to_body()
        return _json(body, 500)


@web.middleware
async def commands_need_a_certificate(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refuse `/v1/...` to clients that showed no certificate when they shook hands."""
    if request.path.startswith("/v1/") and not request.get_extra_info("peercert"):
        details = f"{request.method} {request.path} needs a client certificate of the fleet's CA"
        remedy = "only the management node gives commands to an agent"
        raise HardpointError("ID.1000", "Authentication failed", details, remedy=remedy, blame=Blame.CALLER)
    return await handler(request)


def _json(document: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")


def _uuid(request: web.Request) -> str:
    uuid = request.match_info["uuid"]
    if not valid_uuid(uuid):
        raise _illegal("uuid", uuid, "a uuid in lower case, with or without dashes")
    return uuid


def _wait_s(request: web.Request) -> float:
    text = request.query.get("wait", "0")
    wait_s = _number(text)
    if not wait_s >= 0:
        raise _illegal("wait", text, "seconds, 0 or more")
    return min(wait_s, WAIT_MAX_S)


def _tick_s(request: web.Request) -> float:
    text = request.query.get("tick", str(LEASE_TICK_S))
    tick_s = _number(text)
    if not TICK_MIN_S <= tick_s <= TICK_MAX_S:
        raise _illegal("tick", text, f"seconds, {TICK_MIN_S:g} to {TICK_MAX_S:g}")
    return tick_s


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _illegal(name: str, value: str, wanted: str) -> HardpointError:
    details = f"{name} is {value[:100]!r}, which is not {wanted}"
    return HardpointError(
        "SYS.1007", "Invalid argument", details, remedy=f"send {wanted}", blame=Blame.CALLER
    )
