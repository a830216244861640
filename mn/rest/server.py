"""The HTTP face: one handler that finds the operation of a request, checks it and answers or submits it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec
from aiohttp import web

from agentkit.errors import Blame, HardpointError
from mn.db.schema import new_uuid
from mn.jobs.engine import Engine, JobRequest, Run, journalled_locks
from mn.jobs.tables import FINAL
from mn.query.parse import Condition, Operator, parse_query
from mn.query.parse import Query as ParsedQuery
from mn.query.plan import load_one, run_query
from mn.rest.envelope import error_code, error_reply, raw_reply, reply
from mn.rest.operation import JobOperation, Kind, Operation, SyncOperation, registry
from mn.rest.parameters import bad_request, bind, fields_of, query_values, whole_numbers
from mn.rest.router import Match, Router
from mn.rest.services import Call, Services
from mn.rest.sessions import Session
from mn.rest.types import RequestCodec

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 16 * 1024 * 1024
PREFIXES = ("/zstack/v1", "/v1")
_V4 = re.compile(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", re.IGNORECASE)
_OAUTH = re.compile(r"OAuth (\S+)")


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


class RestServer:
    """Serves the operations of the registry."""

    def __init__(self, services: Services, engine: Engine[Services], codec: RequestCodec) -> None:
        self._services = services
        self._engine = engine
        self._codec = codec
        self._router = Router(registry.values())

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=BODY_MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; whatever happens the answer is JSON."""
        try:
            return await self._handle(request)
        except BadStatus as bad:
            return error_reply(bad.error, bad.status, bad.headers)
        except HardpointError as error:
            return error_reply(error, 503)
        except web.HTTPRequestEntityTooLarge:
            details = f"the body is larger than {BODY_MAX_BYTES} bytes"
            return error_reply(bad_request(details, "send less in one request"), 400)
        except web.HTTPException:
            raise
        except Exception:
            log.exception(
                "request failed unexpectedly", extra={"method": request.method, "path": request.path}
            )
            return error_reply(_internal(request), 500)

    async def _handle(self, request: web.Request) -> web.Response:
        prefix, path = _split(request.path)
        if path.startswith("/api-jobs/"):
            if request.method != "GET":
                raise _wrong_verb(request, ["GET"])
            await self._session(request)
            return await self._poll(path.removeprefix("/api-jobs/").rstrip("/"), prefix, request)
        match = self._router.match(path)
        if match is None:
            raise BadStatus(404, _not_found(f"there is no {request.path}", "see the manual for the path"))
        target = await self._target(request, match)
        session = await self._session(request) if target.operation.spec.needs_session else None
        if target.operation.kind is Kind.QUERY:
            if session and not session.admin:
                raise _not_permitted(target.operation)
            return await self._query(request, target)
        try:
            operation = bind(
                target.operation, _given(request, target), lax=not target.operation.spec.wrappers
            )
            operation.check()
        except HardpointError as error:
            raise BadStatus(400, error) from error
        if session and not session.admin and not operation.permits(session.account_uuid):
            raise _not_permitted(target.operation)
        if isinstance(operation, JobOperation):
            return await self._submit(request, prefix, operation)
        call = Call(
            self._services, session.uuid if session else None, session.account_uuid if session else None
        )
        body = await cast("SyncOperation", operation).answer(call)
        return reply(body, headers=call.headers)

    async def _target(self, request: web.Request, match: Match) -> _Target:
        entries = match.methods.get("GET" if request.method == "HEAD" else request.method)
        if not entries:
            raise _wrong_verb(request, sorted(match.methods))
        if not entries[0][0].spec.wrappers:
            operation, values = entries[0]
            return _Target(operation, values, {})
        body = await _json_body(request)
        for operation, values in entries:
            for wrapper in operation.spec.wrappers:
                if wrapper in body:
                    return _Target(operation, values, _unwrap(body, wrapper))
        known = [op.spec.wrappers[0] for op, _ in entries]
        operation, values = entries[0]
        if operation.kind is Kind.CREATE and not any(f.required for f in fields_of(operation)):
            return _Target(operation, values, _unwrap({**body, "params": {}}, "params"))
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

    async def _submit(self, request: web.Request, prefix: str, operation: JobOperation) -> web.Response:
        given = request.headers.get("X-Job-UUID")
        if given is not None and not _V4.fullmatch(given):
            raise BadStatus(
                400, bad_request(f"X-Job-UUID '{given}' is no v4 uuid without hyphens", "send 32 hex digits")
            )
        if "X-Web-Hook" in request.headers:
            raise BadStatus(400, _no_hooks())
        uuid = given.lower() if given else new_uuid()
        job = JobRequest(
            uuid,
            operation.spec.name,
            self._codec.encode(operation),
            self._codec.digest(operation),
            journalled_locks(operation.locks()),
            _timeout(request, operation.spec.timeout_s),
            fresh=given is None,
        )
        try:
            await self._engine.submit(job)
        except HardpointError as error:
            raise BadStatus(400 if error.blame is Blame.CALLER else 503, error) from error
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
        kind = registry.get(name)
        if kind is None:
            raise HardpointError(
                "SYS.1008",
                "Unknown operation",
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


async def _json_body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    if not raw.strip():
        return {}
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadStatus(
            400, bad_request(f"the body is not JSON: {error}", "correct it and send it again")
        ) from error
    if not isinstance(body, dict):
        raise BadStatus(400, bad_request("the body is no JSON object", 'send {"params": {...}}'))
    return cast("dict[str, Any]", whole_numbers(body))


def _unwrap(body: dict[str, Any], wrapper: str) -> dict[str, Any]:
    """Return the wrapper's parameters with the tags that may stand beside it or in it."""
    inner = body[wrapper]
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise BadStatus(400, bad_request(f"'{wrapper}' is no object", f'send {{"{wrapper}": {{...}}}}'))
    given = dict(inner)
    for key in ("systemTags", "userTags"):
        outside = body.get(key)
        if outside:
            given[key] = [*(given.get(key) or []), *outside] if isinstance(outside, list) else outside
    return given


def _timeout(request: web.Request, default_s: float) -> float:
    text = request.headers.get("X-API-Timeout")
    if text is None:
        return default_s
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text) is None or float(text) <= 0:
        raise BadStatus(400, bad_request(f"X-API-Timeout '{text}' is no number of seconds", "send e.g. 600"))
    return float(text)


def _location(request: web.Request, prefix: str, uuid: str) -> str:
    return f"{request.scheme}://{request.host}{prefix}/api-jobs/{uuid}"


def _wrong_verb(request: web.Request, allowed: list[str]) -> BadStatus:
    error = HardpointError(
        "SYS.1008",
        "Wrong HTTP method",
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


def _no_hooks() -> HardpointError:
    return HardpointError(
        "SYS.1014",
        "Not supported",
        "web hooks (X-Web-Hook) are not served by this version",
        remedy="leave the header out and poll the location",
        blame=Blame.CALLER,
    )


def _listed(body: dict[str, Any]) -> str:
    return ", ".join(body) or "nothing"
