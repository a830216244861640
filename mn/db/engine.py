"""SQLite behind one writer thread that commits in groups and one reader thread."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event

from agentkit.errors import HardpointError
from mn.db.functions import register_functions

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT_S = 10
MMAP_BYTES = 256 * 1024 * 1024
GROUP_MAX = 512
"""Units of work that share one commit at the most."""


class _Unit(NamedTuple):
    fn: Callable[[Connection], Any]
    done: Callable[[Any, BaseException | None], None]


class Database:
    """Units of work on one SQLite file.

    `write(fn, *args)` runs `fn(connection, *args)` in a transaction that is on disk when the call returns.
    Writes
    that wait at the same time share one commit; when one of a group fails, the group is rolled back and each
    is run
    again in a transaction of its own, so `fn` must have no effect but on its connection. `read` runs beside
    writes
    and sees everything whose `write` has returned.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="db-read")
        self._write_engine = _engine(path, read_only=False)
        self._read_engine = _engine(path, read_only=True)
        self._read_connection: Connection | None = None
        self.on_commit: Callable[[int], None] = lambda _size: None
        """Called on the writer's thread with the number of units that a commit held."""

    def prepare(self, upgrade: Callable[[Connection], None]) -> None:
        """Open the file, set its journal mode and run `upgrade` on it; call once, before `start`.

        Raises HardpointError (SYS.1000) when the file cannot be opened or is no database.
        """
        try:
            with self._write_engine.connect() as connection, connection.begin():
                upgrade(connection)
        except Exception as error:
            if _is_sqlite_error(error):
                raise HardpointError(
                    "SYS.1000",
                    "Database error",
                    f"the database {self.path} cannot be used: {_root(error)}",
                    remedy="check that it is Hardpoint's, is writable, and that the disk has room",
                ) from error
            raise

    def start(self) -> None:
        """Start the writer thread."""
        self._writer = threading.Thread(target=self._write_loop, name="db-write", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Finish what has been handed in and close the file."""
        if self._writer:
            self._units.put(None)
            self._writer.join()
            self._writer = None
        self._readers.submit(self._close_reader).result()
        self._readers.shutdown()
        self._write_engine.dispose()
        self._read_engine.dispose()

    async def write(
        self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in a write transaction and return its result once that is durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def resolve(result: T, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def done(result: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(resolve, result, error)

        self._units.put(_Unit(lambda connection: fn(connection, *args, **kwargs), done))
        return await future

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in a read transaction."""

        def unit() -> T:
            if self._read_connection is None:
                self._read_connection = self._read_engine.connect()
            with self._read_connection.begin():
                return fn(self._read_connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, unit)

    def _close_reader(self) -> None:
        if self._read_connection is not None:
            self._read_connection.close()

    def _write_loop(self) -> None:
        with self._write_engine.connect() as connection:
            while (first := self._units.get()) is not None:
                group = [first]
                stop = False
                while len(group) < GROUP_MAX:
                    try:
                        unit = self._units.get_nowait()
                    except queue.Empty:
                        break
                    if unit is None:
                        stop = True
                        break
                    group.append(unit)
                _commit(connection, group)
                self.on_commit(len(group))
                if stop:
                    return


def _commit(connection: Connection, group: list[_Unit]) -> None:
    """Run a group in one transaction; on any failure run each unit alone, so that only the faulty one
    fails.
    """
    try:
        with connection.begin():
            results = [unit.fn(connection) for unit in group]
    except BaseException as error:  # noqa: BLE001 - handed to the caller's future
        if len(group) == 1:
            group[0].done(None, error)
            return
        for unit in group:
            _commit(connection, [unit])
        return
    for unit, result in zip(group, results, strict=True):
        unit.done(result, None)


def _engine(path: Path, *, read_only: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA mmap_size={MMAP_BYTES}")
        register_functions(connection)
        connection.execute("PRAGMA query_only=ON" if read_only else "PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _root(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def _is_sqlite_error(error: BaseException) -> bool:
    return isinstance(_root(error), sqlite3.Error)
