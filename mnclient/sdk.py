"""The Python SDK: an action for each operation, used as the manual's examples show.

    from mnclient import sdk
    from mnclient.actions import CreateZoneAction

    sdk.configure(hostname="10.0.0.2", port=8080)
    action = CreateZoneAction()
    action.name = "TestZone"
    action.sessionId = sdk.log_in("admin", "password")
    result = action.call()          # or: await action.call_async()
    print(result.value.inventory.uuid if result.error is None else result.error.details)

Errors that the node answers are `result.error`. Exceptions: RequestError (nothing was sent),
NotLoggedInError, NoAnswerError, JobTimeoutError.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, dataclass_transform
from weakref import WeakKeyDictionary

from mnclient import description as api
from mnclient.errors import (
    ErrorCode,
    HardpointClientError,
    JobTimeoutError,
    NoAnswerError,
    NotLoggedInError,
    OperationError,
    RequestError,
)
from mnclient.hooks import HookReceiver
from mnclient.outputs import Output, fetch
from mnclient.protocol import HIDDEN, Conversation, Options, converse, follow
from mnclient.transport import AsyncTransport, Node, Transport
from mnclient.values import Inventory, Many, One, Result, Value

__all__ = [
    "Action",
    "Connection",
    "ErrorCode",
    "HardpointClientError",
    "Inventory",
    "JobTimeoutError",
    "Many",
    "NoAnswerError",
    "NotLoggedInError",
    "One",
    "OperationError",
    "RequestError",
    "Result",
    "Value",
    "configure",
    "fetch_output",
    "log_in",
    "log_out",
    "operation",
]

V = TypeVar("V", bound=Value)
NOT_SERVED = (404, 405)


@dataclass
class Connection:
    """A management node to call, with the session and the polling that calls to it use."""

    node: Node = field(default_factory=Node)
    options: Options = field(default_factory=Options)
    web_hook: str | None = None
    _description: api.Description = field(default_factory=api.shipped, repr=False)
    _transport: Transport | None = field(default=None, repr=False)
    _by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncTransport] = field(
        default_factory=WeakKeyDictionary, repr=False
    )
    _receiver: HookReceiver | None = field(default=None, repr=False)

    @property
    def transport(self) -> Transport:
        """The blocking transport."""
        if self._transport is None:
            self._transport = Transport(self.node)
        return self._transport

    @property
    def description(self) -> api.Description:
        """What can be called: the shipped description, merged with the node's after `learn`."""
        return self._description

    def learn(self) -> api.Description:
        """Fetch the node's description and merge it. A node that has none, or no whole one, leaves what is
        known.
        """
        asked = self._description.operations["GetApiDescription"]
        try:
            raw = self.transport.drive(converse(asked, {}, self.options))
            nodes = api.parse(raw)
        except (OperationError, LookupError, TypeError, AttributeError):
            return self._description
        self._description = api.merge(api.shipped(), nodes)
        return self._description

    async def learn_async(self) -> api.Description:
        """`learn` for asyncio."""
        return await asyncio.to_thread(self.learn)

    def log_in(self, account: str, password: str) -> str:
        """Open a session, use it for all calls of this connection, and return its uuid."""
        result = self.call("LogInByAccount", {"accountName": account, "password": sha512(password)})
        session = str(result["inventory"]["uuid"])
        self.options = replace(self.options, session=session)
        return session

    def log_out(self) -> None:
        """End the session of this connection."""
        if self.options.session:
            self.call("LogOut", {"sessionUuid": self.options.session})
            self.options = replace(self.options, session=None)

    def call(self, name: str, values: dict[str, Any], options: Options | None = None) -> Any:
        """Call an operation and return the reply's JSON. Raises the errors of `mnclient.errors`."""
        found = self.find(name)
        try:
            return self.transport.drive(converse(found, values, self._ready(options)))
        except OperationError as error:
            self._explain(error, name, known=self.learn() if error.error.status in NOT_SERVED else None)
            raise

    async def call_async(self, name: str, values: dict[str, Any], options: Options | None = None) -> Any:
        """`call` for asyncio."""
        found = self._description.operations.get(name) or (await self.learn_async()).operations.get(name)
        if found is None:
            raise self._unknown(name)
        try:
            return await self._async_transport().drive(converse(found, values, self._ready(options)))
        except OperationError as error:
            known = await self.learn_async() if error.error.status in NOT_SERVED else None
            self._explain(error, name, known)
            raise

    def follow(self, job_uuid: str, options: Options | None = None) -> Any:
        """Wait for a job that was begun before and return its result."""
        options = options or self.options
        return self.transport.drive(_follow(job_uuid, options))

    def fetch_output(
        self, location: str, target: str | os.PathLike[str], options: Options | None = None
    ) -> Path:
        """Fetch what a script of KvmRunShell printed into a file or folder; return the file.

        `location` is `stdoutLocation` or `stderrLocation` of the reply. The file has its name only when it is
        whole; what had come before an interruption is kept beside it and not fetched again.
        """
        return fetch(self.transport, Output.at(location), Path(target), options or self.options)

    async def fetch_output_async(self, location: str, target: str | os.PathLike[str]) -> Path:
        """`fetch_output` for asyncio."""
        return await asyncio.to_thread(self.fetch_output, location, target)

    def find(self, name: str) -> api.Operation:
        """Return an operation; one that the client does not know may be known to the node."""
        found = self._description.operations.get(name)
        if found is None and not self._description.version:
            found = self.learn().operations.get(name)
        if found is None:
            raise self._unknown(name)
        return found

    async def close(self) -> None:
        """Close all connections, and the receiver of web hooks. Ends no session."""
        for transport in list(self._by_loop.values()):
            await transport.close()
        self.close_blocking()

    def close_blocking(self) -> None:
        """`close` where no event loop was used."""
        if self._transport is not None:
            self._transport.close()
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    def _ready(self, options: Options | None) -> Options:
        chosen = options or self.options
        if self.web_hook is None:
            return chosen
        if self._receiver is None:
            self._receiver = HookReceiver(self.web_hook)
        return replace(chosen, hook=self._receiver.hook)

    def _async_transport(self) -> AsyncTransport:
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            self._by_loop[loop] = AsyncTransport(self.node)
        return self._by_loop[loop]

    def _unknown(self, name: str) -> RequestError:
        known = self._description.operations
        return RequestError(f"there is no operation '{name}'{api.suggestion(name, known)}")

    def _explain(self, error: OperationError, name: str, known: api.Description | None) -> None:
        """Say of a path that is not there that the node is of another version, when it is."""
        if known is not None and known.version and not known.operations[name].served:
            raise RequestError(
                f"the management node at {self.node.url} (version {known.version}) does not know {name}"
            ) from error


def _follow(job_uuid: str, options: Options) -> Conversation:
    return follow(f"{options.prefix}/api-jobs/{job_uuid}", job_uuid, options)


def sha512(password: str) -> str:
    """Return a password as the API takes it."""
    return hashlib.sha512(password.encode()).hexdigest()


_default = Connection()


def configure(
    hostname: str = "127.0.0.1",
    port: int = 8080,
    contextPath: str = "zstack",
    *,
    scheme: str = "http",
    sessionId: str | None = None,
    defaultPollingTimeout: float = 1800.0,
    defaultPollingInterval: float = 1.0,
    connectTimeout: float = 10.0,
    readTimeout: float = 60.0,
    webHook: str | bool | None = None,
    caFile: str | None = None,
) -> Connection:
    """Choose the node that actions are sent to, and how; times in seconds. Return the connection.

    `webHook`: True makes the SDK listen on loopback for the results of jobs; a URL says where to listen. The
    polling that remains is then rare.
    """
    global _default  # noqa: PLW0603 - the public SDK has one configuration for a process
    _default.close_blocking()
    host = f"[{hostname}]" if ":" in hostname and not hostname.startswith("[") else hostname
    _default = Connection(
        Node(f"{scheme}://{host}:{port}", connectTimeout, readTimeout, caFile),
        Options(
            context_path=f"/{contextPath.strip('/')}" if contextPath.strip("/") else "",
            session=sessionId,
            timeout_s=defaultPollingTimeout,
            poll_s=defaultPollingInterval,
        ),
        "http://127.0.0.1:0" if webHook is True else webHook or None,
    )
    return _default


def connection() -> Connection:
    """Return the connection that actions use unless they have one of their own."""
    return _default


def log_in(account: str, password: str) -> str:
    """Log in; the session is used where an action has no sessionId. Return its uuid."""
    return _default.log_in(account, password)


def log_out() -> None:
    """End the session of `log_in`."""
    _default.log_out()


def fetch_output(location: str, target: str | os.PathLike[str]) -> Path:
    """Fetch the long output of a script of KvmRunShell into a file (`Connection.fetch_output`)."""
    return _default.fetch_output(location, target)


_OPTIONS = ("sessionId", "timeout", "pollingInterval", "apiTimeout", "jobUuid", "connection")


@dataclass_transform(kw_only_default=True)
class _Settable:
    """Makes type checkers know the parameters as keyword arguments of the constructor."""


class Action(_Settable, Generic[V]):
    """A call of an operation: set its parameters as attributes, then `call` it; it may be called again."""

    _name: ClassVar[str] = ""
    _value: ClassVar[type[Value]] = Value
    _inventory: ClassVar[type[Value] | None] = None

    sessionId: str | None = None
    """The session; else that of `log_in` or `configure`."""
    timeout: float | None = None
    """Seconds to wait for a job."""
    pollingInterval: float | None = None
    """Seconds between two polls, at most."""
    apiTimeout: float | None = None
    """Seconds that the node may work on the job (X-API-Timeout)."""
    jobUuid: str | None = None
    """A v4 uuid of one's own for the job (X-Job-UUID): the same once more is the same job."""
    connection: Connection | None = None
    """The node to call instead of the configured one."""

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    if not TYPE_CHECKING:  # a type checker is to refuse unknown attributes too

        def __setattr__(self, name: str, value: object) -> None:
            known = self._parameters()
            if name == "sessionUuid" and name not in known:
                name = "sessionId"
            if name not in known and name not in _OPTIONS:
                hint = api.suggestion(name, [*known, *_OPTIONS])
                raise AttributeError(f"{type(self).__name__} has no parameter '{name}'{hint}")
            self.__dict__[name] = value

    def __repr__(self) -> str:
        known = self._parameters()
        shown = {}
        for name, value in self.__dict__.items():
            secret = name in ("sessionId", "sessionUuid") or (name in known and known[name].secret)
            shown[name] = HIDDEN if secret else value
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    def call(self) -> Result[V]:
        """Send it and wait for its result."""
        where, options = self._prepared()
        try:
            return self._succeeded(where.call(self._name, self._values(), options))
        except OperationError as error:
            return Result(None, error.error)

    async def call_async(self) -> Result[V]:
        """Send it and wait for its result, on the running event loop."""
        where, options = self._prepared()
        try:
            return self._succeeded(await where.call_async(self._name, self._values(), options))
        except OperationError as error:
            return Result(None, error.error)

    def _prepared(self) -> tuple[Connection, Options]:
        where = self.connection or _default
        given = where.options
        return where, replace(
            given,
            session=self.sessionId or given.session,
            timeout_s=self.timeout if self.timeout is not None else given.timeout_s,
            poll_s=self.pollingInterval if self.pollingInterval is not None else given.poll_s,
            api_timeout_s=self.apiTimeout or given.api_timeout_s,
            job_uuid=self.jobUuid,
        )

    def _values(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in _OPTIONS}

    def _succeeded(self, raw: Any) -> Result[V]:
        body = raw if isinstance(raw, dict) else {"value": raw}
        return Result(cast("V", self._value(body, self._inventory)), None)

    def _parameters(self) -> Mapping[str, api.Parameter]:
        where = self.__dict__.get("connection") or _default
        return where.find(self._name).parameters


def operation(name: str, where: Connection | None = None) -> type[Action[Value]]:
    """Return the action of any operation by its name, of one that only the node knows as well."""
    (where or _default).find(name)
    found = type(f"{name}Action", (Action,), {"_name": name, "__module__": __name__})
    return cast("type[Action[Value]]", found)
