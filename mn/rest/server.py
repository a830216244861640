"""The HTTP face: one handler that finds the operation of a request, checks it and answers or submits it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
from aiohttp import web

from agentkit.errors import Blame, HardpointError
from mn.db.schema import new_uuid
from mn.jobs.engine import Engine, Run, journalled_locks
from mn.jobs.live import JobRequest
from mn.jobs.tables import FINAL
from mn.query.parse import Condition, Operator, parse_query
from mn.query.parse import Query as ParsedQuery
from mn.query.plan import load_one, run_query
from mn.rest import openapi, webhooks
from mn.rest.addresses import client_address, is_from_loopback
from mn.rest.audit import AuditLog, Line
from mn.rest.body import TAG_KEYS, read_json, unwrap
from mn.rest.envelope import error_code, error_reply, file_reply, raw_reply, reply
from mn.rest.metrics import Metrics
from mn.rest.operation import (
    Download,
    JobOperation,
    Kind,
    Login,
    Operation,
    Query,
    SyncDelete,
    SyncOperation,
    registry,
    unlisted,
)
from mn.rest.parameters import bad_request, bind, left_aside, query_values
from mn.rest.probes import PATHS as PROBES
from mn.rest.probes import Probes
from mn.rest.router import Match, Router
from mn.rest.services import Call, Services
from mn.rest.sessions import Session
from mn.rest.throttle import TOO_MANY, LoginGate
from mn.rest.types import RequestCodec

log = logging.getLogger(__name__)

PREFIXES = ("/zstack/v1", "/v1")
NOTICE = "X-Hardpoint-Notice"
QUERY_PARAMETERS = frozenset(
    ["q", "condition", "limit", "start", "count", "replyWithCount", "groupBy", "sort", "fields"]
)
_V4 = re.compile(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", re.IGNORECASE)
_OAUTH = re.compile(r"OAuth (\S+)")
_SHOWABLE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_SHOWN_MAX = 10


class BadStatus(Exception):  # noqa: N818 - a way out, not a fault of the program
    """The request is answered with a status of its own."""

    def __init__(self, status: int, error: HardpointError, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.error, self.headers = status, error, headers


@dataclass(frozen=True)
class _Target:
    """The operation that a request is for, with the parameters of its path and body."""

    operation: type[Operation]
    path_values: dict[str, str]
    body: dict[str, Any]
    aside: tuple[str, ...] = ()
    """Keys of the body that stand for nothing."""


@dataclass
class _Exchange:
    """A request and what becomes known of it while it is answered."""

    request: web.Request
    name: str = "unknown"
    """The operation, for the metrics."""
    line: Line | None = None
    is_journalled: bool = False
    """The audit line went with a job."""
    error: HardpointError | None = None
    notices: list[str] = field(default_factory=list)

    def notice_aside(self, names: Iterable[str]) -> None:
        """Say which parameters were left aside, as far as a header can hold their names."""
        shown = [n if _SHOWABLE.fullmatch(n) else "(another)" for n in names]
        if shown:
            more = f" and {len(shown) - _SHOWN_MAX} more" if len(shown) > _SHOWN_MAX else ""
            self.notices.append(f"unknown parameters left aside: {', '.join(shown[:_SHOWN_MAX])}{more}")


class RestServer:
    """Serves the operations of the registry."""

    def __init__(
        self,
        services: Services,
        engine: Engine[Services],
        codec: RequestCodec,
        metrics: Metrics | None = None,
    ) -> None:
        self._services = services
        self._engine = engine
        self._codec = codec
        self._router = Router(registry.values())
        self._settings = services.settings
        self._metrics = metrics or Metrics()
        self._gate = LoginGate(self._settings)
        self._pages = openapi.Pages(registry.values())
        self._probes = Probes(
            services.db, self._metrics, self._settings.metrics_networks, lambda: engine.is_running
        )
        self.audit = AuditLog(services.db, self._settings.audit_keep_days)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=self._settings.body_max_bytes)
        app.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; whatever happens the answer is JSON."""
        began = time.monotonic()
        exchange = _Exchange(request)
        response = await self._answer(exchange)
        if exchange.notices:
            notices = [response.headers.get(NOTICE, ""), *exchange.notices]
            response.headers[NOTICE] = "; ".join(n for n in notices if n)
        await self._record(exchange, response.status)
        self._metrics.request(exchange.name, response.status, time.monotonic() - began)
        return response

    async def _answer(self, exchange: _Exchange) -> web.StreamResponse:
        request = exchange.request
        try:
            return await self._handle(exchange)
        except BadStatus as bad:
            exchange.error = bad.error
            return error_reply(bad.error, bad.status, bad.headers)
        except HardpointError as error:
            exchange.error = error
            return error_reply(error, 503)
        except web.HTTPRequestEntityTooLarge:
            details = f"the body is larger than {self._settings.body_max_bytes} bytes"
            exchange.error = bad_request(details, "send less in one request")
        except (web.RequestPayloadError, ConnectionError) as error:
            exchange.error = bad_request(f"the body did not arrive: {error}", "send it whole")
        except web.HTTPException:
            raise
        except Exception:
            log.exception(
                "request failed unexpectedly", extra={"method": request.method, "path": request.path}
            )
            exchange.error = _internal(request)
            return error_reply(exchange.error, 500)
        return _closing(error_reply(exchange.error, 400))

    async def _record(self, exchange: _Exchange, status: int) -> None:
        """Write the audit line of what changes something, or was refused for who called."""
        line, error = exchange.line, exchange.error
        if line is None or exchange.is_journalled:
            return
        if line.operation.kind.method == "GET" and not (error and error.code.startswith("ID.")):
            return
        try:
            await self.audit.write(line, status, error.code if error else None)
        except Exception:
            log.exception("an audit line could not be written", extra={"operation": exchange.name})

    async def _handle(self, exchange: _Exchange) -> web.StreamResponse:
        request = exchange.request
        if request.path in PROBES:
            exchange.name = request.path
            _only_get(request)
            return await self._probes.answer(request)
        prefix, path = _split(request.path)
        if path.startswith("/api-jobs/"):
            exchange.name = "api-jobs"
            _only_get(request)
            await self._session(request)
            return await self._poll(path.removeprefix("/api-jobs/").rstrip("/"), prefix, request)
        if page := self._pages.find(path):
            exchange.name = path
            _only_get(request)
            return page.response()
        match = self._router.match(path)
        if match is None:
            raise BadStatus(404, _not_found(f"there is no {request.path}", "see the manual for the path"))
        return await self._operate(exchange, match, prefix)

    async def _operate(self, exchange: _Exchange, match: Match, prefix: str) -> web.StreamResponse:
        request = exchange.request
        entries = match.methods.get("GET" if request.method == "HEAD" else request.method)
        if not entries:
            raise _wrong_verb(request, sorted(match.methods))
        self._known(exchange, entries[0][0])
        target = await self._target(request, entries)
        self._known(exchange, target.operation)
        session = await self._session(request) if target.operation.spec.needs_session else None
        assert exchange.line is not None  # noqa: S101 - _known makes it
        if session:
            exchange.line.by(session.uuid, session.account_uuid)
        if target.operation.kind is Kind.QUERY:
            if session and not session.admin:
                raise _not_permitted(target.operation)
            exchange.notice_aside(k for k in dict.fromkeys(request.query) if k not in QUERY_PARAMETERS)
            return await self._query(request, target)
        operation = self._bound(exchange, target)
        exchange.line.call = operation
        if session and not session.admin and not operation.permits(session.account_uuid):
            raise _not_permitted(target.operation)
        if isinstance(operation, JobOperation):
            return await self._submit(exchange, prefix, operation)
        if webhooks.HEADER in request.headers:
            exchange.notices.append(f"{webhooks.HEADER} left aside: the operation is answered at once")
        if isinstance(operation, Download):
            found = await operation.file(self._called_by(session))
            return file_reply(found.path, found.name)
        return await self._call(exchange, cast("SyncOperation", operation), session)

    def _known(self, exchange: _Exchange, operation: type[Operation]) -> None:
        exchange.name = operation.__name__
        exchange.line = Line(client_address(exchange.request), operation)

    def _bound(self, exchange: _Exchange, target: _Target) -> Operation:
        given = _given(exchange.request, target)
        exchange.notice_aside([*target.aside, *left_aside(target.operation, given)])
        try:
            return bind(target.operation, given, lax=not target.operation.spec.wrappers)
        except HardpointError as error:
            raise BadStatus(400, error) from error

    def _called_by(self, session: Session | None) -> Call:
        account = session.account_uuid if session else None
        return Call(self._services, session.uuid if session else None, account)

    async def _call(
        self, exchange: _Exchange, operation: SyncOperation, session: Session | None
    ) -> web.Response:
        """Answer a synchronous operation; logins pass the gate."""
        call = self._called_by(session)
        if session is None and isinstance(operation, SyncDelete):
            await self._by_what_it_ends(operation, call)
        if not isinstance(operation, Login):
            body = await operation.answer(call)
        else:
            address = client_address(exchange.request)
            try:
                body = await self._gate.pass_through(address, operation, call)
            except HardpointError as error:
                headers = {"Retry-After": str(self._gate.retry_after_s(address, operation))}
                raise BadStatus(503, error, headers if error.code == TOO_MANY else None) from error
        if exchange.line and call.session_uuid:
            exchange.line.by(call.session_uuid, call.account_uuid)
        return reply(body, headers=call.headers)

    async def _by_what_it_ends(self, operation: SyncDelete, call: Call) -> None:
        """Put on record whose session a logout ends; it needs no other to call it."""
        uuid = getattr(operation, "session_uuid", "")
        with contextlib.suppress(HardpointError):
            ended = await self._services.sessions.check(uuid, slide=False)
            call.session_uuid, call.account_uuid = ended.uuid, ended.account_uuid

    async def _target(
        self, request: web.Request, entries: list[tuple[type[Operation], dict[str, str]]]
    ) -> _Target:
        if not entries[0][0].spec.wrappers:
            operation, values = entries[0]
            return _Target(operation, values, {})
        try:
            body = await read_json(request, self._settings.body_timeout_s)
            for operation, values in entries:
                wrapper = operation.spec.wrapper_in(body)
                if wrapper is not None:
                    aside = tuple(k for k in body if k != wrapper and k not in TAG_KEYS)
                    return _Target(operation, values, unwrap(body, wrapper), aside)
            operation, values = entries[0]
            if operation.kind is Kind.CREATE and not _needs_body(operation, values):
                aside = tuple(k for k in body if k not in TAG_KEYS)
                return _Target(operation, values, unwrap({**body, "params": {}}, "params"), aside)
        except HardpointError as error:
            headers = {"Connection": "close"} if error.code == "SYS.1001" else None
            raise BadStatus(400, error, headers) from error
        known = [op.spec.wrappers[0] for op, _ in entries]
        raise BadStatus(
            400,
            bad_request(
                f"the body has no field {' or '.join(repr(k) for k in known)} (it has: {_listed(body)})",
                f"send {{{json.dumps(known[0])}: {{...}}}}",
            ),
        )

    async def _session(self, request: web.Request) -> Session:
        header = request.headers.get("Authorization")
        match = _OAUTH.fullmatch(header.strip()) if header else None
        if match is None:
            reason = f"it begins with '{header.split(' ')[0][:20]}'" if header else "it is missing"
            error = bad_request(
                f"the Authorization header is not understood: {reason}",
                "log in (PUT /zstack/v1/accounts/login) and send 'Authorization: OAuth <session uuid>'",
            )
            raise BadStatus(400, error)
        return await self._services.sessions.check(match[1])

    async def _query(self, request: web.Request, target: _Target) -> web.Response:
        resource = target.operation.spec.reply
        assert resource is not None  # noqa: S101 - a Query without a resource does not register
        uuid = target.path_values.get("uuid")
        try:
            query = parse_query(query_values(list(request.query.items())))
        except HardpointError as error:
            raise BadStatus(400, error) from error
        others = [(name, value) for name, value in target.path_values.items() if name != "uuid"]
        if others:  # `/sharedblock-group/{primaryStorageUuid}/host-refs`: a condition
            named = (Condition(f"{name}={value}", (), name, Operator.EQUAL, value) for name, value in others)
            query = replace(query, conditions=(*query.conditions, *named))
        await cast("type[Query]", target.operation).prepare(self._services)
        try:
            if uuid is None:
                return raw_reply((await self._services.db.read(run_query, resource, query)).encode())
            if query == ParsedQuery():
                one = await self._services.db.read(load_one, resource, uuid)
                body = f'{{"inventories":[{one}],"inventory":{one}}}' if one else '{"inventories":[]}'
                return raw_reply(body.encode())
            by_uuid = Condition(f"uuid={uuid}", (), "uuid", Operator.EQUAL, uuid)
            query = replace(query, conditions=(*query.conditions, by_uuid))
            return raw_reply((await self._services.db.read(run_query, resource, query)).encode())
        except HardpointError as error:
            raise BadStatus(400 if error.code == "SYS.1007" else 503, error) from error

    async def _submit(self, exchange: _Exchange, prefix: str, operation: JobOperation) -> web.Response:
        request, line = exchange.request, exchange.line
        given = request.headers.get("X-Job-UUID")
        if given is not None and not _V4.fullmatch(given):
            raise BadStatus(
                400,
                bad_request(f"X-Job-UUID '{given[:80]}' is no v4 uuid without hyphens", "send 32 hex digits"),
            )
        uuid = given.lower() if given else new_uuid()
        digest = self._codec.digest(operation)
        hook = None
        try:
            if (url := request.headers.get(webhooks.HEADER)) is not None:
                local = is_from_loopback(request)
                hook = webhooks.read_hook(url, self._services.vault, self._settings, from_loopback=local)
                digest = self._services.vault.digest(f"{digest} {url}".encode())
            job = JobRequest(
                uuid,
                operation.spec.name,
                self._codec.encode(operation),
                digest,
                journalled_locks(operation.locks()),
                _timeout(request, operation.spec.timeout_s),
                fresh=given is None,
                hook=hook,
                audit=line.row(202, job_uuid=uuid) if line else None,
            )
            await self._engine.submit(job)
        except HardpointError as error:
            raise BadStatus(400 if error.blame is Blame.CALLER else 503, error) from error
        exchange.is_journalled = True
        return reply({"location": _location(request, prefix, uuid)}, 202)

    async def _poll(self, uuid: str, prefix: str, request: web.Request) -> web.Response:
        status = await self._engine.status(uuid.lower())
        if status is None:
            details = f"there is no job {uuid}"
            raise BadStatus(404, _not_found(details, "jobs are kept for two days after they ended"))
        if status.state not in FINAL:
            headers = {"X-Job-State": status.state, "X-Job-Progress": str(status.progress.percent)}
            if status.progress.step:
                headers["X-Job-Step"] = status.progress.step
            return reply({"location": _location(request, prefix, status.uuid)}, 202, headers)
        if status.error is not None:
            return reply({"error": error_code(status.error)}, 503)
        return raw_reply((status.result or "{}").encode())


def resolver(codec: RequestCodec) -> Callable[[str, str], Run[Services]]:
    """Return how the engine finds what a journalled request does."""

    def resolve(name: str, request: str) -> Run[Services]:
        kind = registry.get(name) or unlisted.get(name)
        if kind is None:
            raise HardpointError(
                "SYS.1008",
                "Operation not supported",
                f"this version does not know the operation {name} of a job that was begun earlier",
                remedy="finish such jobs with the version that began them",
            )
        operation = codec.decode(kind, request)
        return cast("Run[Services]", operation.run)

    return resolve


def _split(path: str) -> tuple[str, str]:
    for prefix in PREFIXES:
        if path.startswith(prefix + "/"):
            return prefix, path.removeprefix(prefix)
    raise BadStatus(404, _not_found(f"there is no {path}", "paths begin with /zstack/v1/"))


def _given(request: web.Request, target: _Target) -> dict[str, object]:
    given: dict[str, object] = dict(target.body)
    if not target.operation.spec.wrappers:
        given.update(query_values(list(request.query.items())))
    given.update(target.path_values)
    return given


def _needs_body(operation: type[Operation], path_values: dict[str, str]) -> bool:
    fields = msgspec.structs.fields(operation)
    return any(f.required and f.encode_name not in path_values for f in fields)


def _closing(response: web.Response) -> web.Response:
    """Return a response after which the connection is closed: what is left of the request is not read."""
    response.force_close()
    return response


def _timeout(request: web.Request, default_s: float) -> float:
    text = request.headers.get("X-API-Timeout")
    if text is None:
        return default_s
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text) is None or float(text) <= 0:
        raise BadStatus(400, bad_request(f"X-API-Timeout '{text}' is no number of seconds", "send e.g. 600"))
    return float(text)


def _location(request: web.Request, prefix: str, uuid: str) -> str:
    return f"{request.scheme}://{request.host}{prefix}/api-jobs/{uuid}"


def _only_get(request: web.Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise _wrong_verb(request, ["GET"])


def _wrong_verb(request: web.Request, allowed: list[str]) -> BadStatus:
    error = HardpointError(
        "SYS.1008",
        "Operation not supported",
        f"{request.path} does not take {request.method}",
        remedy=f"use {' or '.join(allowed)}",
        blame=Blame.CALLER,
    )
    return BadStatus(405, error, {"Allow": ", ".join(allowed)})


def _not_found(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1003", "Resource not found", details, remedy=remedy, blame=Blame.CALLER)


def _internal(request: web.Request) -> HardpointError:
    return HardpointError(
        "SYS.1000",
        "Internal error",
        f"an unexpected error at {request.method} {request.path}",
        remedy="see the log of the management node, and report it",
    )


def _not_permitted(operation: type[Operation]) -> HardpointError:
    return HardpointError(
        "ID.1002",
        "Permission denied",
        f"{operation.__name__} is for administrators",
        remedy="log in with an account of the type SystemAdmin",
        blame=Blame.CALLER,
    )


def _listed(body: dict[str, Any]) -> str:
    keys = [key[:64] for key in body]
    return ", ".join(keys[:_SHOWN_MAX]) + (", ..." if len(keys) > _SHOWN_MAX else "") or "nothing"
