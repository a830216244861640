"""The tasks of an agent: each is run once, a bounded number at a time, and followed by whoever asks.

Tasks that take long and others are bounded apart: many transfers do not keep a VM from being stopped.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Generic, TypeVar, Union

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.events import EventHub
from agentkit.journal import Entry, Journal, body_digest, failed, succeeded
from agentkit.wire import Command, EventKind, TaskReport, TaskState

log = logging.getLogger(__name__)

RUNNING_MAX = 16
"""So many tasks that take long run at a time, and as many others."""
WAITING_MAX = 1000
"""So many tasks that take long may wait or run, and as many others."""
WAIT_MAX_S = 60.0
PRUNE_EVERY_S = 3600.0
_RETRY_MIN_S = 0.5
_RETRY_MAX_S = 30.0

C = TypeVar("C")
Handler = Callable[[C, Any], Awaitable[Any]]


class _Lane:
    """Tasks that wait for each other: `turns` is held while one runs, `uuids` are all that have not ended."""

    def __init__(self, running_max: int) -> None:
        self.turns = asyncio.Semaphore(running_max)
        self.uuids: set[str] = set()


class TaskDesk(Generic[C]):
    """Takes commands in, runs their handlers with a context, and keeps the books in a journal."""

    def __init__(
        self,
        journal: Journal,
        hub: EventHub,
        context: C,
        handlers: Mapping[type[Command[Any]], Handler[C]],
        *,
        rerunnable: Collection[type[Command[Any]]] = (),
        running_max: int = RUNNING_MAX,
    ) -> None:
        unknown = set(rerunnable) - set(handlers)
        if unknown:
            raise TypeError(f"declared re-runnable, but there is no handler: {unknown}")
        self._journal = journal
        self._hub = hub
        self._context = context
        self._handlers = handlers
        self._rerunnable = frozenset(rerunnable)
        self._commands = _decoder(tuple(handlers))
        self._running_max = running_max
        self._quick, self._long = _Lane(running_max), _Lane(running_max)
        self._refusing = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._accepting: dict[str, asyncio.Future[None]] = {}
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Read the journal and deal with the tasks that a restart interrupted."""
        for entry in await self._journal.open():
            self._resume(entry)

    async def submit(self, uuid: str, body: bytes, wait_s: float) -> TaskReport:
        """Take in a task, or find the one of that uuid, and return its report, at the latest after `wait_s`.

        Raises HardpointError: SYS.1007 for a body that is no command, SYS.1006 for another body than the
        first time, SYS.1010 when the agent is stopping or has too much to do.
        """
        kind, digest = self._examine(body)
        while uuid in self._accepting:
            await asyncio.wait({self._accepting[uuid]})
        if self._journal.knows(uuid):
            self._journal.check_same(uuid, digest)
        else:
            await self._accept(uuid, kind, digest, body)
        return await self.follow(uuid, wait_s)

    async def follow(self, uuid: str, wait_s: float) -> TaskReport:
        """Return the report of a task, waiting up to `wait_s` (at most 60) for its end.

        Raises HardpointError (SYS.1003) when the agent does not know it.
        """
        task = self._tasks.get(uuid)
        if task is not None and wait_s > 0:
            closing = asyncio.ensure_future(self._closing.wait())
            try:
                limit = min(wait_s, WAIT_MAX_S)
                await asyncio.wait({task, closing}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            finally:
                closing.cancel()
        if uuid in self._tasks or uuid in self._accepting:
            return TaskReport(uuid=uuid, state=TaskState.RUNNING)
        report = await self._journal.report(uuid)
        if report is None:
            details = f"this agent does not know the task {uuid}"
            remedy = (
                "it was never accepted, or its result was acknowledged: send it again only if that is safe"
            )
            raise HardpointError("SYS.1003", "Resource not found", details, remedy=remedy, blame=Blame.CALLER)
        return report

    async def forget(self, uuid: str) -> None:
        """Drop the result of a task; a task that has not ended is refused (SYS.1006)."""
        if uuid in self._tasks or uuid in self._accepting:
            details = f"task {uuid} has not ended and cannot be forgotten"
            raise HardpointError(
                "SYS.1006", "Operation failed", details, remedy="wait for it", blame=Blame.CALLER
            )
        await self._journal.forget(uuid)

    def refuse_new(self) -> None:
        """From now on refuse tasks that are not known yet (SYS.1010)."""
        self._refusing = True

    async def drain(self, limit_s: float) -> int:
        """Give tasks up to `limit_s` to end; return how many have not and are left to the journal."""
        if self._accepting:
            await asyncio.wait(set(self._accepting.values()))
        running = set(self._tasks.values())
        pending: set[asyncio.Task[None]] = set()
        if running:
            _, pending = await asyncio.wait(running, timeout=limit_s)
        self._closing.set()
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return len(pending)

    async def prune(self) -> None:
        """Remove old results now and then, until cancelled."""
        while True:
            await self.prune_once()
            await asyncio.sleep(PRUNE_EVERY_S)

    async def prune_once(self) -> None:
        """Remove old results now."""
        await self._journal.prune()

    def _examine(self, body: bytes) -> tuple[type[Command[Any]], str]:
        try:
            return type(self._commands.decode(body)), body_digest(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            details = f"the body is no command that this agent knows: {error}"
            remedy = "see that the management node and the agent are of the same version"
            raise HardpointError(
                "SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER
            ) from error

    def _lane_of(self, kind: type[Command[Any]]) -> _Lane:
        return self._long if kind.takes_long else self._quick

    async def _accept(self, uuid: str, kind: type[Command[Any]], digest: str, body: bytes) -> None:
        lane = self._lane_of(kind)
        if len(lane.uuids) >= WAITING_MAX:
            details = f"{len(lane.uuids)} tasks are waiting or running"
            raise HardpointError("SYS.1010", "Unavailable", details, remedy="send the task again later")
        if self._refusing:
            details = "the agent is stopping and takes no new tasks"
            raise HardpointError(
                "SYS.1010", "Unavailable", details, remedy="send the task again when it is back"
            )
        started = len(lane.uuids) < self._running_max
        lane.uuids.add(uuid)
        accepted = self._accepting[uuid] = asyncio.get_running_loop().create_future()
        try:
            # Shielded, so that a caller who hangs up does not leave a file that nobody looks after.
            await asyncio.shield(
                asyncio.ensure_future(self._enter(uuid, lane, digest, body, accepted, started=started))
            )
        except OSError as error:
            details = f"the task cannot be written to the journal: {error}"
            remedy = "see that the file system of the agent's state directory is writable and has space"
            raise HardpointError("SYS.1000", "Internal error", details, remedy=remedy) from error

    async def _enter(
        self,
        uuid: str,
        lane: _Lane,
        digest: str,
        body: bytes,
        accepted: asyncio.Future[None],
        *,
        started: bool,
    ) -> None:
        try:
            entry = await self._journal.accept(uuid, digest, body, started=started)
            self._launch(entry, self._run(entry, lane))
        except BaseException:
            lane.uuids.discard(uuid)
            raise
        finally:
            del self._accepting[uuid]
            accepted.set_result(None)

    def _launch(self, entry: Entry, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[entry.uuid] = task = asyncio.get_running_loop().create_task(
            work, name=f"task {entry.uuid}"
        )
        task.add_done_callback(lambda _: self._tasks.pop(entry.uuid, None))

    async def _run(self, entry: Entry, lane: _Lane) -> None:
        lane.uuids.add(entry.uuid)
        try:
            async with lane.turns:
                await self._retrying(entry, lambda: self._journal.start(entry))
                report = await self._call(entry)
                await self._conclude(entry, report)
        finally:
            lane.uuids.discard(entry.uuid)

    async def _conclude(self, entry: Entry, report: TaskReport) -> None:
        await self._retrying(entry, lambda: self._journal.finish(entry, report))
        self._tasks.pop(entry.uuid, None)
        news = TaskReport(uuid=report.uuid, state=report.state, error=report.error)
        self._hub.publish(EventKind.TASK, news)

    async def _call(self, entry: Entry) -> TaskReport:
        try:
            command = self._commands.decode(msgspec.json.encode(entry.body))
            reply = await self._handlers[type(command)](self._context, command)
            msgspec.json.encode(reply)
        except HardpointError as error:
            return failed(entry.uuid, error)
        except Exception as error:
            log.exception("task failed by a fault of the agent", extra={"task": entry.uuid})
            details = f"fault in the agent: {type(error).__name__}: {error}"
            remedy = f"report it with the agent's log lines of task {entry.uuid}"
            return failed(entry.uuid, HardpointError("SYS.1000", "Internal error", details, remedy=remedy))
        return succeeded(entry.uuid, reply)

    async def _retrying(self, entry: Entry, write: Callable[[], Awaitable[None]]) -> None:
        """Write to the journal, again and again when the disk is full: the task is not over before that."""
        pause_s = _RETRY_MIN_S
        while True:
            try:
                await write()
            except OSError as error:
                if pause_s == _RETRY_MIN_S:
                    extra = {"task": entry.uuid, "reason": str(error)}
                    log.error("journal unwritable, trying on", extra=extra)  # noqa: TRY400
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RETRY_MAX_S)
            else:
                return

    def _resume(self, entry: Entry) -> None:
        try:
            command = self._commands.decode(msgspec.json.encode(entry.body))
        except msgspec.DecodeError as reason:
            details = f"the agent was restarted, and the one that runs now does not know the task: {reason}"
        else:
            if not entry.started or type(command) in self._rerunnable:
                log.info("task run again after a restart", extra={"task": entry.uuid})
                self._launch(entry, self._run(entry, self._lane_of(type(command))))
                return
            details = "the agent was restarted while the task ran; how far it had come is not known"
        log.warning("task not run again after a restart", extra={"task": entry.uuid, "reason": details})
        remedy = "look at the state of what it worked on, then ask for it again"
        error = HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)
        self._launch(entry, self._conclude(entry, failed(entry.uuid, error)))


@functools.cache
def _decoder(commands: tuple[type[Command[Any]], ...]) -> msgspec.json.Decoder[Command[Any]]:
    """Return the decoder of some commands; the agents of a process share it."""
    return msgspec.json.Decoder(Union[commands])  # noqa: UP007
