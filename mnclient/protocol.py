"""How an operation is called, without any I/O: what to send, when to ask again, what an answer means.

`converse` is a generator: it yields `Send`, `Pause` and `Await`, is sent what came of them, and returns the
result. The synchronous and the asynchronous transport drive the same generator.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from mnclient.description import Operation, Parameter, placeholders
from mnclient.errors import (
    ErrorCode,
    JobTimeoutError,
    NoAnswerError,
    NotLoggedInError,
    OperationError,
    RequestError,
)

FIRST_PAUSE_S = 0.02
PAUSE_GROWTH = 1.5
HOOK_POLL_S = 15.0
"""A hook that is awaited may get lost; so often the job is asked for all the same."""
OUTAGE_S = 120.0
"""A node that stops answering while a job runs is asked again so long: jobs survive its restart."""

HIDDEN = "*****"


@dataclass(frozen=True)
class Request:
    """An HTTP request; `path` holds the query string. Headers and body are not shown: they hold secrets."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Answer:
    """An HTTP reply: header names in lower case, the body as JSON (or as text when it is none)."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Send:
    """Send this and give back the Answer, or throw NoAnswerError."""

    request: Request


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Await:
    """Wait for the hook's Answer; give back None when it does not come in time."""

    delivery: Future[Answer]
    seconds: float


Step: TypeAlias = Send | Pause | Await
Conversation: TypeAlias = Generator[Step, Answer | None, Any]


@dataclass(frozen=True)
class Progress:
    """How far a job is, as the node says."""

    job_uuid: str
    percent: int = 0
    step: str = ""


@dataclass(frozen=True)
class Hook:
    """Where the node may deliver a job's result, and the delivery to come."""

    url: str
    expect: Callable[[str], Future[Answer]]


@dataclass(frozen=True)
class Options:
    """How to call: the session, how long and how often to ask."""

    context_path: str = "/zstack"
    session: str | None = field(default=None, repr=False)
    timeout_s: float = 1800.0
    poll_s: float = 1.0
    outage_s: float = OUTAGE_S
    api_timeout_s: float | None = None
    job_uuid: str | None = None
    hook: Hook | None = None
    on_progress: Callable[[Progress], None] | None = None

    @property
    def prefix(self) -> str:
        """The path that all operations are below."""
        return f"{self.context_path}/v1"


def check(operation: Operation, values: Mapping[str, object]) -> None:
    """Refuse (RequestError) what can be seen to be wrong before anything is sent."""
    if not operation.served:
        raise RequestError(
            f"the node does not know {operation.name}: its version is another than the client's"
        )
    missing = [p.name for p in operation.parameters.values() if p.required and values.get(p.name) is None]
    if missing:
        raise RequestError(f"{operation.name}: required and not given: {', '.join(missing)}")
    for name, value in values.items():
        parameter = operation.parameters.get(name)
        if parameter is not None and value is not None and (fault := _fault(parameter, value)):
            raise RequestError(f"{operation.name}: '{name}' {fault}")


def build(operation: Operation, values: Mapping[str, Any], options: Options) -> Request:
    """Return the request of an operation. Raises RequestError, NotLoggedInError."""
    check(operation, values)
    if operation.session and not options.session:
        raise NotLoggedInError(f"{operation.name} needs a session: log in first")
    given = {name: value for name, value in values.items() if value is not None}
    headers = {"Accept": "application/json"}
    if options.session:
        headers["Authorization"] = f"OAuth {options.session}"
    if operation.is_query:
        path, pairs = operation.paths[0], _query_pairs(given)
    else:
        path, pairs = _path(operation, given), []
        given = {k: v for k, v in given.items() if k not in placeholders(path)}
        path = re.sub(r"\{(\w+)\}", lambda m: quote(str(values[m[1]]), safe=""), path)
    body = None
    if operation.wrapper:
        headers["Content-Type"] = "application/json"
        body = json.dumps(_body(operation.wrapper, given)).encode()
    elif not operation.is_query:
        pairs = [(k, v) for k, value in given.items() for v in _texts(value)]
    query = f"?{urlencode(pairs)}" if pairs else ""
    return Request(operation.method, f"{options.prefix}{path}{query}", headers, body)


def converse(operation: Operation, values: Mapping[str, Any], options: Options) -> Conversation:
    """Call an operation; the generator returns the reply's body. Raises OperationError, NoAnswerError,
    JobTimeoutError.
    """
    request = build(operation, values, options)
    if not operation.job:
        return _result((yield Send(request)))
    job_uuid = options.job_uuid or uuid.uuid4().hex
    headers = {**request.headers, "X-Job-UUID": job_uuid}
    delivery = None
    if options.hook:
        headers["X-Web-Hook"] = options.hook.url
        delivery = options.hook.expect(job_uuid)
    if options.api_timeout_s:
        headers["X-API-Timeout"] = f"{options.api_timeout_s:g}"
    begun = Request(request.method, request.path, headers, request.body)
    answer = yield from _submit(begun, job_uuid, options)
    if answer.status != 202:
        return _result(answer)
    location = urlsplit(str(answer.body["location"])).path
    return (yield from follow(location, job_uuid, options, delivery))


def follow(
    location: str, job_uuid: str, options: Options, delivery: Future[Answer] | None = None
) -> Conversation:
    """Wait for a job to end; the generator returns its result."""
    headers = {"Accept": "application/json"}
    if options.session:
        headers["Authorization"] = f"OAuth {options.session}"
    poll = Request("GET", location, headers)
    deadline = time.monotonic() + options.timeout_s
    pause, answered = FIRST_PAUSE_S, time.monotonic()
    while True:
        if delivery is not None:
            left = max(0.0, min(HOOK_POLL_S, deadline - time.monotonic()))
            delivered = yield Await(delivery, left)
            if delivered is not None:
                return _result(delivered)
        try:
            answer = yield Send(poll)
            answered = time.monotonic()
        except NoAnswerError as error:
            answer = None
            if time.monotonic() - answered > options.outage_s:
                message = f"{error}; job {job_uuid} goes on when the node is back"
                raise NoAnswerError(message, sent=True, job_uuid=job_uuid) from error
        if answer is not None and answer.status != 202:
            return _result(answer)
        if answer is not None and options.on_progress:
            options.on_progress(_progress(job_uuid, answer))
        if time.monotonic() >= deadline:
            message = f"job {job_uuid} has not ended in {options.timeout_s:g} s; it goes on"
            raise JobTimeoutError(message, job_uuid)
        if delivery is None:
            yield Pause(min(pause, options.poll_s, max(0.0, deadline - time.monotonic())))
            pause *= PAUSE_GROWTH


def _submit(request: Request, job_uuid: str, options: Options) -> Generator[Step, Answer | None, Answer]:
    """Send until there is an answer: the same X-Job-UUID is the same job, however often it arrives."""
    begun, pause = time.monotonic(), FIRST_PAUSE_S
    sent = False
    while True:
        try:
            answer = yield Send(request)
            assert answer is not None  # noqa: S101 - the driver answers each Send
            return answer
        except NoAnswerError as error:
            sent = sent or error.sent
            if not sent:
                raise
            if time.monotonic() - begun > options.outage_s:
                message = f"{error}; whether job {job_uuid} has begun is not known"
                raise NoAnswerError(message, sent=True, job_uuid=job_uuid) from error
            yield Pause(pause)
            pause = min(pause * PAUSE_GROWTH, options.poll_s)


def _result(answer: Answer | None) -> Any:
    assert answer is not None  # noqa: S101 - the driver answers each Send
    if answer.status == 200:
        return answer.body
    raise OperationError(ErrorCode.parse(answer.body, answer.status))


def _progress(job_uuid: str, answer: Answer) -> Progress:
    percent = answer.headers.get("x-job-progress", "0")
    return Progress(job_uuid, int(percent) if percent.isdigit() else 0, answer.headers.get("x-job-step", ""))


def _path(operation: Operation, given: Mapping[str, Any]) -> str:
    """Return the first path whose placeholders are given."""
    for path in operation.paths:
        if all(name in given for name in placeholders(path)):
            return path
    return operation.paths[0]


def _body(wrapper: str, given: Mapping[str, Any]) -> dict[str, Any]:
    tags = {k: v for k, v in given.items() if k in ("systemTags", "userTags")}
    return {wrapper: {k: v for k, v in given.items() if k not in tags}, **tags}


def _query_pairs(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [("q", str(condition)) for condition in given.get("conditions", ())]
    if given.get("sortBy"):
        sign = "-" if str(given.get("sortDirection", "asc")).lower() == "desc" else "+"
        pairs.append(("sort", f"{sign}{given['sortBy']}"))
    aside = ("conditions", "sortBy", "sortDirection")
    for name, value in given.items():
        if name not in aside:
            pairs.append((name, ",".join(_texts(value))))
    return pairs


def _texts(value: object) -> list[str]:
    if isinstance(value, list | tuple | set):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [json.dumps(value) if isinstance(value, dict) else str(value)]


def _fault(parameter: Parameter, value: object) -> str:
    """Return what is wrong with a value, nothing when it may be sent."""
    shown = HIDDEN if parameter.secret else repr(value)[:80]
    if not isinstance(value, _ACCEPTED.get(parameter.type, object)) or (
        isinstance(value, bool) and parameter.type in ("Integer", "Long", "Double", "String")
    ):
        wanted = {"List": "a list", "Map": "a map", "Boolean": "true or false", "String": "a text"}
        return f"is {shown}: give {wanted.get(parameter.type, 'a number')}"
    return ""


_ACCEPTED: dict[str, type | tuple[type, ...]] = {
    "String": str,
    "Integer": int,
    "Long": int,
    "Double": (int, float),
    "Boolean": bool,
    "List": (list, tuple),
    "Map": dict,
}
