"""What an operation is: one class that declares its path, parameters, reply, locks and work.

A subclass registers itself. Its fields are its parameters (snake case here, the manual's camel case outside):

    class CreateZone(Create, path="/zones", reply=ZONE):
        '''Create a zone (manual 4.1.1).'''
        name: Name

        async def run(self, job: Job) -> Reply: ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from mn.query.resource import Resource
from mn.rest.services import Call, Job, Services
from mn.rest.types import ResourceUuid, Tags

Reply = Mapping[str, Any]
"""The body of a reply; a `msgspec.Raw` value is JSON already."""

DEFAULT_TIMEOUT_S = 1800.0


class Kind(Enum):
    """How an operation is called: a name, its verb, and whether it is a job."""

    CREATE = ("create", "POST", True)
    ACTION = ("action", "PUT", True)
    SYNC_ACTION = ("synchronous action", "PUT", False)
    DELETE = ("delete", "DELETE", True)
    SYNC_DELETE = ("synchronous delete", "DELETE", False)
    GET = ("get", "GET", False)
    QUERY = ("query", "GET", False)

    @property
    def method(self) -> str:
        """The HTTP verb."""
        return self.value[1]

    @property
    def is_job(self) -> bool:
        """Whether the answer is 202 and a job."""
        return self.value[2]


@dataclass(frozen=True)
class Spec:
    """What the class statement of an operation declares."""

    name: str
    kind: Kind
    paths: tuple[str, ...]
    wrappers: tuple[str, ...]
    """Names of the body's field that holds the parameters; the first is the documented one.

    Empty: no body.
    """
    reply: Resource | None
    returns: Mapping[str, Any]
    """Keys of a reply that is no resource, each with its annotated type; for the API's description."""
    needs_session: bool
    timeout_s: float
    also_at: tuple[str, ...] = ()
    """Paths that are served and not described: other forms of the documented ones."""
    spelling: Callable[[str], str] | None = None
    """Makes equal what is taken for the wrapper's name, None when only the name itself is."""

    def wrapper_in(self, keys: Iterable[str]) -> str | None:
        """Return which of a body's keys holds the parameters, None when none does."""
        keys = list(keys)
        found = next((wrapper for wrapper in self.wrappers if wrapper in keys), None)
        if found is not None or self.spelling is None:
            return found
        wanted = {self.spelling(wrapper) for wrapper in self.wrappers}
        return next((key for key in keys if self.spelling(key) in wanted), None)


registry: dict[str, type[Operation]] = {}
"""All operations by name."""

unlisted: dict[str, type[Operation]] = {}
"""Operations without a path, by name: only others submit them."""


class _OperationMeta(msgspec.StructMeta):
    def __new__(  # noqa: PYI034 - a metaclass makes classes, not itself
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        path: str | tuple[str, ...] | None = None,
        reply: Resource | None = None,
        returns: Mapping[str, Any] | None = None,
        also_called: tuple[str, ...] = (),
        also_at: tuple[str, ...] = (),
        spelling: Callable[[str], str] | None = None,
        session: bool = True,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **struct: Any,
    ) -> _OperationMeta:
        cls = super().__new__(mcls, name, bases, namespace, **{"kw_only": True, "rename": "camel", **struct})
        if path is not None:
            paths = (path,) if isinstance(path, str) else path
            kind: Kind = cls.kind  # type: ignore[attr-defined]
            wrappers = _wrappers(name, kind, also_called)
            spec = Spec(
                name, kind, paths, wrappers, reply, returns or {}, session, timeout_s, also_at, spelling
            )
            cls.spec = spec  # type: ignore[attr-defined]
            known = registry.get(name) or unlisted.get(name)
            if known is not None:
                raise TypeError(f"operation {name} is defined twice: {known.__module__}, {cls.__module__}")
            (registry if paths else unlisted)[name] = cls  # type: ignore[assignment]
        return cls

    if TYPE_CHECKING:  # the keywords as class statements may use them

        def __init__(cls, *args: Any, **kwargs: Any) -> None: ...  # noqa: N805


def _wrappers(name: str, kind: Kind, also_called: tuple[str, ...]) -> tuple[str, ...]:
    if kind is Kind.CREATE:
        return ("params",)
    if kind.method == "PUT":
        return (re.sub("^[A-Z]", lambda m: m[0].lower(), name), *also_called)
    return ()


class Operation(msgspec.Struct, metaclass=_OperationMeta, kw_only=True):
    """Base of all operations. Every one takes tags."""

    kind: ClassVar[Kind]
    spec: ClassVar[Spec]

    system_tags: Tags = msgspec.field(default_factory=list)
    user_tags: Tags = msgspec.field(default_factory=list)

    def permits(self, account_uuid: str) -> bool:
        """Say whether an account that is no administrator's may do this: none unless a subclass says so."""
        return False

    def check(self) -> None:
        """Refuse what the parameters alone show to be wrong (HardpointError SYS.1007), beyond their types."""

    def audit_details(self) -> dict[str, Any]:
        """Return what the audit log holds of a call beside the uuids among its parameters; no secrets."""
        return {}


class JobOperation(Operation):
    """An operation that is a job."""

    def locks(self) -> tuple[str, ...]:
        """Return the names of what the job needs for itself, `host/<uuid>`."""
        return ()

    async def run(self, job: Job) -> Reply:
        """Do the work; what changes the world goes through the job's steps."""
        raise NotImplementedError(type(self).__name__)

    def long_form(self) -> JobOperation:
        """Return what a long job of this operation does: itself, unless it begins a long job anyway."""
        return self


class Post(JobOperation):
    """POST that creates no resource of its own."""

    kind = Kind.CREATE


class Create(JobOperation, kw_only=True):
    """POST: create a resource. The caller may choose its uuid."""

    kind = Kind.CREATE
    resource_uuid: ResourceUuid | None = None


class Action(JobOperation):
    """PUT: change a resource."""

    kind = Kind.ACTION


class Delete(JobOperation):
    """DELETE: remove a resource."""

    kind = Kind.DELETE


class SyncOperation(Operation):
    """An operation that is answered at once."""

    async def answer(self, call: Call) -> Reply:
        """Return the reply."""
        raise NotImplementedError(type(self).__name__)


class SyncAction(SyncOperation):
    """PUT, answered at once."""

    kind = Kind.SYNC_ACTION


class Login(SyncAction):
    """A login: failed ones (ID.1000) are throttled by the caller's address and `login_name`.

    `answer` puts the session and account that it opened into the call, for the audit log.
    """

    def login_name(self) -> str:
        """Return the name of the account that is logged in to."""
        raise NotImplementedError(type(self).__name__)

    def audit_details(self) -> dict[str, Any]:
        """Put the name on record."""
        return {"accountName": self.login_name()[:64]}


class SyncDelete(SyncOperation):
    """DELETE, answered at once."""

    kind = Kind.SYNC_DELETE


class Get(SyncOperation):
    """GET with parameters in the query string."""

    kind = Kind.GET


@dataclass(frozen=True)
class File:
    """A file that is the answer, and the name that a browser saves it under."""

    path: Path
    name: str


class Download(Operation):
    """GET that is answered with the bytes of a file."""

    kind = Kind.GET

    async def file(self, call: Call) -> File:
        """Return what is sent."""
        raise NotImplementedError(type(self).__name__)


class Query(Operation):
    """GET of a resource by the query language; `reply` is the resource. Its first path is the list's."""

    kind = Kind.QUERY

    @classmethod
    async def prepare(cls, services: Services) -> None:
        """Bring rows up to date that are to be read next; most are always."""
