"""A job as its operation sees it: steps that are journalled, undone and replayed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid as uuids
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar, TypeVarTuple, cast, get_type_hints

import msgspec
from sqlalchemy import Connection

from agentkit.errors import ErrorBody, HardpointError
from mn.db.engine import DatabaseAwayError
from mn.db.schema import uuid_from
from mn.jobs.journal import Journal, StepDone, StepUndone

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Boundary = Callable[[str], None]
"""Called at every step boundary with its name, `deploy_agent:before`; tests use it to end the process
there.
"""


class ReplayEnd(BaseException):
    """A replay has come to the end of what was journalled."""


class NotJournalled(Exception):  # noqa: N818 - as ReplayEnd, it is not the operation's
    """The database is away, so that a step was not done, or not written.

    The run ends here, and the job is run again over its journal.
    """


@dataclass(slots=True)
class JournalledStep:
    """A step of an earlier run of the job."""

    name: str
    result: str | None
    error: str | None
    undone: bool


@dataclass(slots=True)
class Progress:
    """How far a job is; `percent` only grows."""

    step: str = ""
    percent: int = 0


@dataclass(slots=True)
class _Undo:
    position: int
    name: str
    run: Callable[[], Awaitable[Any]]
    atomic: bool
    """Whether the step is a transaction: one that is not journalled as done has done nothing."""


def _never() -> bool:
    return False


def _nothing() -> None:
    """Go on."""


@dataclass
class Job(Generic[S]):
    """One run of a job. What `run` does to the world goes through `step` and `transact`.

    After a crash the operation's `run` is called again from the top: steps that the journal knows return (or
    raise) what they did the first time, so between steps `run` must be deterministic. A step that had begun
    but was not journalled is done again: a step is either a transaction (`transact`), or its function
    tolerates having begun. `undo` is registered before its step begins and is given the step's arguments, so
    it must tolerate that nothing was done.
    """

    uuid: str
    services: S
    journal: Journal
    boundary: Boundary
    known: dict[int, JournalledStep] = field(default_factory=dict)
    replay_only: bool = False
    progress: Progress = field(default_factory=Progress)
    cancel_wanted: Callable[[], bool] = _never
    replayed: Callable[[], None] = _nothing
    """Called when a step begins that the journal does not hold."""
    _position: int = 0
    _undos: list[_Undo] = field(default_factory=list)

    async def step(
        self,
        fn: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        undo: Callable[[*Ts], Awaitable[None]] | None = None,
    ) -> T:
        """Run `fn(*args)` once, journal its result and return it; `undo(*args)` runs should the job
        fail later.
        """
        position, name = self._begin_step(fn, args, undo)
        known = self._known(position, name)
        if known:
            return cast("T", _replay(known, _result_type(fn)))
        return await self._run_step(position, name, fn, args)

    async def steps(
        self,
        fn: Callable[[*Ts], Awaitable[T]],
        each: Sequence[tuple[*Ts]],
        undo: Callable[[*Ts], Awaitable[None]] | None = None,
    ) -> list[T | HardpointError]:
        """Run `fn` with each of some arguments at the same time, as a step of its own.

        Return what each has returned, or the HardpointError it has raised, in their order.
        """
        begun = [(*self._begin_step(fn, args, undo), args) for args in each]
        # All that have begun are known with their undos before one that is new may end the work.
        known = [self._recorded(position, name) for position, name, _ in begun]
        if None in known:
            self._go_beyond()
        doing = [
            self._run_step(position, name, fn, args)
            for (position, name, args), done in zip(begun, known, strict=True)
            if done is None
        ]
        outcomes = iter(await asyncio.gather(*doing, return_exceptions=True))
        results: list[T | HardpointError] = []
        for done in known:
            try:
                outcome = next(outcomes) if done is None else _replay(done, _result_type(fn))
            except HardpointError as error:
                outcome = error
            if isinstance(outcome, BaseException) and not isinstance(outcome, HardpointError):
                raise outcome
            results.append(outcome)
        return results

    async def when_undone(
        self,
        settle: Callable[[*Ts], Awaitable[None]],
        *args: *Ts,
    ) -> None:
        """Have `settle(*args)` run should the job fail later, once what follows has been undone.

        So it can have the world follow from rows that are as they were before.
        """
        await self.step(_begin, *args, undo=settle)

    async def transact(
        self,
        fn: Callable[[Connection, *Ts], T],
        *args: *Ts,
        undo: Callable[[Connection, *Ts], None] | None = None,
    ) -> T:
        """Run `fn(connection, *args)` and journal its result in the same transaction: it happens
        exactly once. `undo` runs only when it has happened: a refused transaction leaves nothing.
        """
        position, name = self._begin(fn)
        if undo is not None:
            self._undos.append(
                _Undo(position, name, lambda: self._undo_unit(position, name, undo, args), atomic=True)
            )
        known = self._known(position, name)
        if known:
            return cast("T", _replay(known, _result_type(fn)))
        self.boundary(f"{name}:before")
        results: list[T] = []

        def unit(connection: Connection) -> str:
            results.append(fn(connection, *args))
            return msgspec.json.encode(results[-1]).decode()

        try:
            await _whole(self.journal.transact(StepDone(self.uuid, position, name, None, None), unit))
        except DatabaseAwayError as error:
            raise NotJournalled(f"step {position} ({name})") from error
        except HardpointError as error:
            await self._record(StepDone(self.uuid, position, name, None, encode_error(error)))
            raise
        self.boundary(f"{name}:journalled")
        return results[-1]

    def uuid_for(self, what: str) -> str:
        """Return a new resource's uuid, the same in every run of the job."""
        return uuid_from(hashlib.sha256(f"{self.uuid}/{what}".encode()).digest())

    def task_uuid(self, number: int = 0) -> str:
        """Return the uuid that the next step, or the one `number` after it, gives to the agent's task, the
        same in every run of the job.
        """
        return uuids.uuid5(uuids.UUID(self.uuid), str(self._position + number)).hex

    def is_cancelled(self) -> bool:
        """Whether `cancel` wants the job to end: its coroutine was cancelled for that, and not since the node
        stops. One that cannot be interrupted may finish what it is at, and then fail with SYS.1017.

        False while the journal is ahead: what is done is not left out, or it would not be undone.
        """
        return self.cancel_wanted() and max(self.known, default=-1) < self._position

    def at(self, percent: int) -> None:
        """Say how far the job is."""
        self.progress.percent = max(self.progress.percent, min(percent, 100))

    async def undo_all(self, limit_s: float) -> list[HardpointError]:
        """Undo the begun steps, last first, each within `limit_s` seconds; return what could not be undone.

        One that fails, hangs or breaks off is in the way of none.
        """
        failures = []
        for undo in reversed(self._undos):
            known = self.known.get(undo.position)
            if known and known.undone:
                continue
            if undo.atomic and (known is None or known.error is not None):
                continue
            self.progress.step = f"undo {undo.name}"
            self.boundary(f"{undo.name}:undo")
            try:
                async with asyncio.timeout(limit_s):
                    await undo.run()
            except NotJournalled:
                raise
            except DatabaseAwayError as error:
                raise NotJournalled(f"undo {undo.name}") from error
            except HardpointError as error:
                failures.append(error)
            except TimeoutError:
                details = f"undoing {undo.name} did not end within {limit_s:g} s"
                failures.append(HardpointError("SYS.1001", "A message or a operation timeout", details))
            except Exception as error:
                log.exception("undo failed unexpectedly", extra={"job": self.uuid, "step": undo.name})
                failures.append(HardpointError("SYS.1000", "Internal error", f"undo {undo.name}: {error}"))
            self.boundary(f"{undo.name}:undone")
        return failures

    def _begin(self, fn: Callable[..., Any]) -> tuple[int, str]:
        position, self._position = self._position, self._position + 1
        name = getattr(fn, "__name__", type(fn).__name__).strip("_")
        self.progress.step = name
        return position, name

    def _begin_step(
        self, fn: Callable[..., Any], args: tuple[Any, ...], undo: Callable[..., Awaitable[None]] | None
    ) -> tuple[int, str]:
        position, name = self._begin(fn)
        if undo is not None:
            self._undos.append(
                _Undo(position, name, lambda: self._undo_step(position, name, undo, args), atomic=False)
            )
        return position, name

    async def _run_step(
        self, position: int, name: str, fn: Callable[[*Ts], Awaitable[T]], args: tuple[*Ts]
    ) -> T:
        self.boundary(f"{name}:before")
        try:
            result = await fn(*args)
        except DatabaseAwayError as error:
            raise NotJournalled(f"step {position} ({name})") from error
        except HardpointError as error:
            await self._record(StepDone(self.uuid, position, name, None, encode_error(error)))
            raise
        self.boundary(f"{name}:after")
        encoded = msgspec.json.encode(result).decode()
        await self._record(StepDone(self.uuid, position, name, encoded, None))
        self.boundary(f"{name}:journalled")
        return result

    async def _record(self, record: StepDone | StepUndone) -> None:
        try:
            await self.journal.append(record)
        except Exception as error:
            if isinstance(error, HardpointError) and not isinstance(error, DatabaseAwayError):
                raise  # a value that is refused now is refused later too
            raise NotJournalled(f"step {record.position} ({record.name})") from error

    def _known(self, position: int, name: str) -> JournalledStep | None:
        known = self._recorded(position, name)
        if known is None:
            self._go_beyond()
        return known

    def _go_beyond(self) -> None:
        """Go on with what the journal does not hold."""
        if self.replay_only:
            raise ReplayEnd
        self.replayed()

    def _recorded(self, position: int, name: str) -> JournalledStep | None:
        known = self.known.get(position)
        if known is not None and known.name != name:
            raise HardpointError(
                "SYS.1000",
                "Internal error",
                f"step {position} of job {self.uuid} was {known.name} and is now {name}",
                remedy="the operation has changed since the job began; submit it again",
            )
        return known

    async def _undo_step(
        self, position: int, name: str, undo: Callable[..., Awaitable[None]], args: tuple[Any, ...]
    ) -> None:
        await undo(*args)
        await self._record(StepUndone(self.uuid, position, name))

    async def _undo_unit(
        self, position: int, name: str, undo: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        await self.journal.transact(
            StepUndone(self.uuid, position, name), lambda connection: undo(connection, *args)
        )


async def _begin(*_args: *Ts) -> None:
    """Mark where in the journal what settles things comes."""


async def _whole(transaction: Coroutine[Any, Any, Any]) -> None:
    """Wait for a transaction, also when cancelled: it happens all the same, and undo must see that."""
    handed_in = asyncio.ensure_future(transaction)
    try:
        await asyncio.shield(handed_in)
    except asyncio.CancelledError:
        await asyncio.gather(handed_in, return_exceptions=True)
        raise


def encode_error(error: HardpointError) -> str:
    """Return an error as the journal holds it."""
    return msgspec.json.encode(error.to_body()).decode()


def decode_error(encoded: str) -> HardpointError:
    """Return the error that `encode_error` wrote."""
    return HardpointError.from_body(msgspec.json.decode(encoded, type=ErrorBody))


def _replay(known: JournalledStep, kind: Any) -> Any:
    if known.error is not None:
        raise decode_error(known.error)
    return msgspec.json.decode(known.result or "null", type=kind)


def _result_type(fn: Callable[..., Any]) -> Any:
    return _return_hint(getattr(fn, "__func__", fn))


@lru_cache(maxsize=1024)
def _return_hint(fn: Callable[..., Any]) -> Any:
    return get_type_hints(fn).get("return", Any)
