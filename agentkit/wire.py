"""What a management node and an agent say to each other, whatever the agent is for.

Every agent serves HTTPS and requires a client certificate:

- `GET /v1/hello` -> `Hello`
- `POST /v1/tasks/{uuid}?wait=SECONDS` with a tagged `Command` -> `TaskReport`. Idempotent by uuid: a uuid
  that the
  agent knows is answered with its first result, whatever the body says now (another body: SYS.1006).
- `GET /v1/tasks/{uuid}?wait=SECONDS` -> `TaskReport`; 404 when the agent does not know the uuid
- `DELETE /v1/tasks/{uuid}`: the result has arrived and may be forgotten
- `GET /v1/events?instance=ID&since=SEQ&tick=SECONDS` -> an endless stream of `Event`, one JSON document a
  line. The first is a `tick` or `reset` whose data are the `Hello`; a `tick` comes whenever nothing else has
  been said for `tick` seconds (`TICK_MIN_S` to `TICK_MAX_S`, `LEASE_TICK_S` unless given)

Errors are answered with `ErrorBody` and a status of 400 or more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar, get_args

import msgspec

from agentkit.errors import ErrorBody

PROTOCOL_VERSION = 1
LEASE_TICK_S = 2.0
TICK_MIN_S, TICK_MAX_S = 0.05, 60.0

R = TypeVar("R")


class Wire(msgspec.Struct, rename="camel", kw_only=True):
    """Base of all wire types: snake case here, camel case on the wire."""


class Command(Wire, Generic[R], tag_field="command"):
    """Base of all commands; the type argument is the reply.

    Those of which one may take an hour say `takes_long`: agents do so many of them at a time, and beside them
    as many of the others, which would wait for these otherwise.
    """

    takes_long: ClassVar[bool] = False

    @classmethod
    def reply_type(cls) -> type[R]:
        """Return the type argument that the command's class was made with."""
        reply: type[R] = get_args(cls.__orig_bases__[0])[0]  # type: ignore[attr-defined]
        return reply


class TaskState(StrEnum):
    """State of a task at the agent."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class TaskReport(Wire, omit_defaults=True):
    """A task as the agent knows it; `result` holds the command's reply, `error` says why it failed."""

    uuid: str
    state: TaskState
    result: Any = None
    error: ErrorBody | None = None


class Hello(Wire):
    """Who answers: `instance` changes with every start of the agent, `host_uuid` is the owner's name
    for it.
    """

    agent: str
    version: str
    protocol: int
    instance: str
    host_uuid: str | None
    inventory_hash: str
    time: float


class EventKind(StrEnum):
    """Kinds of events: `tick` keeps the lease, `reset` says that events before it are lost."""

    TICK = "tick"
    RESET = "reset"
    TASK = "task"
    DEVICE = "device"
    VM = "vm"
    STORAGE = "storage"
    ISCSI = "iscsi"


class Event(Wire, omit_defaults=True):
    """One line of the event stream.

    `seq` grows by one for each event but ticks, which repeat the last one.
    """

    seq: int
    instance: str
    kind: EventKind
    data: Any = None
