"""What a database is to the rest: units of work that are plain functions of a connection."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection

from agentkit.errors import HardpointError

P = ParamSpec("P")
T = TypeVar("T")

GROUP_MAX = 512
"""Units of work that share one commit at the most."""


class DatabaseAwayError(HardpointError):
    """The database cannot be reached now; what was asked may be asked again."""


class Unit(NamedTuple):
    """A unit of work, and who is told its result or its error, from any thread."""

    fn: Callable[[Connection], Any]
    done: Callable[[Any, BaseException | None], None]


class Database(ABC):
    """Units of work on one database, SQLite or PostgreSQL.

    `write(fn, *args)` runs `fn(connection, *args)` in a transaction that is on disk when the call returns.
    Writes come one after the other, on both databases. Those that wait at the same time share one commit;
    when one of a group fails, the group is rolled back and each is run again in a transaction of its own, so
    `fn` must have no effect but on its connection. `read` runs beside writes, sees everything whose `write`
    has returned, and all its queries see the same moment.
    """

    def __init__(self) -> None:
        self.on_commit: Callable[[int], None] = lambda _size: None
        """Called on the writer's thread with the number of units that a commit held."""

    @abstractmethod
    def prepare(self, upgrade: Callable[[Connection], None]) -> None:
        """Open the database and run `upgrade` on it; call once, before `start`.

        Raises HardpointError (SYS.1000) when it cannot be used.
        """

    @abstractmethod
    def start(self) -> None:
        """Begin to write."""

    @abstractmethod
    def close(self) -> None:
        """Finish what has been handed in and close the database."""

    @abstractmethod
    def _hand_in_write(self, unit: Unit) -> None:
        """Queue a unit; its `done` is called in the end."""

    @abstractmethod
    def _hand_in_read(self, unit: Unit) -> None:
        """Queue a unit; its `done` is called in the end."""

    async def write(
        self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in a write transaction and return its result once that is durable."""
        future, done = _promise()
        self._hand_in_write(Unit(lambda connection: fn(connection, *args, **kwargs), done))
        result: T = await future
        return result

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in a read transaction."""
        future, done = _promise()
        self._hand_in_read(Unit(lambda connection: fn(connection, *args, **kwargs), done))
        result: T = await future
        return result


def _promise() -> tuple[asyncio.Future[Any], Callable[[Any, BaseException | None], None]]:
    """Return a future of this loop and a function that resolves it from any thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def resolve(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def done(result: Any, error: BaseException | None) -> None:
        loop.call_soon_threadsafe(resolve, result, error)

    return future, done
