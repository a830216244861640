"""One agent, apart from the process it lives in: its tasks, its events, and how it greets."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.journal import Journal
from agentkit.tasks import RUNNING_MAX, Handler, TaskDesk
from agentkit.wire import PROTOCOL_VERSION, Command, Hello

C = TypeVar("C")


@dataclass(frozen=True)
class Identity:
    """Who an agent says it is; the two functions are asked at each hello."""

    agent: str
    version: str
    host_uuid: Callable[[], str | None]
    inventory_hash: Callable[[], Awaitable[str]]


def new_instance() -> str:
    """Return an id for one start of an agent."""
    return uuid.uuid4().hex


def deployed_version(agent: str) -> str:
    """Return the version of what a management node deployed, else of the whole project."""
    for name in (f"hardpoint-{agent}", "hardpoint"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


class Agent(Generic[C]):
    """Does commands by `handlers` with `context`, journals them below `state_dir` and tells of them by `hub`.

    `rerunnable` are the commands that may be run again when a restart interrupted them; `threads` do the
    journal's work on the disk, by default its own.
    """

    def __init__(
        self,
        state_dir: Path,
        identity: Identity,
        hub: EventHub,
        context: C,
        handlers: Mapping[type[Command[Any]], Handler[C]],
        *,
        rerunnable: Collection[type[Command[Any]]] = (),
        running_max: int = RUNNING_MAX,
        threads: Executor | None = None,
    ) -> None:
        self.identity = identity
        self.hub = hub
        self._state_dir = state_dir
        self._journal = Journal(state_dir / "tasks", threads=threads)
        self.desk = TaskDesk(
            self._journal, hub, context, handlers, rerunnable=rerunnable, running_max=running_max
        )

    async def open(self) -> None:
        """Read the journal and go on with what it holds. Raises HardpointError when it cannot be read."""
        try:
            await self.desk.open()
        except OSError as error:
            details = f"the task journal in {self._state_dir} cannot be read: {error}"
            remedy = "make the directory readable and writable for the daemon's user"
            raise HardpointError("SYS.1000", "Internal error", details, remedy=remedy) from error

    async def hello(self) -> Hello:
        """Say who answers."""
        who = self.identity
        return Hello(
            agent=who.agent,
            version=who.version,
            protocol=PROTOCOL_VERSION,
            instance=self.hub.instance,
            host_uuid=who.host_uuid(),
            inventory_hash=await who.inventory_hash(),
            time=time.time(),
        )

    async def wind_down(self, limit_s: float) -> int:
        """Take no more tasks, give those under way up to `limit_s`, end the streams.

        Returns how many tasks are left to the journal.
        """
        self.desk.refuse_new()
        left = await self.desk.drain(limit_s)
        self.hub.close()
        return left

    def close(self) -> None:
        """Let the journal's last writes finish."""
        self._journal.close()
