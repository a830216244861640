"""SQLite behind one writer thread that commits in groups and one reader thread."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event

from agentkit.errors import HardpointError
from mn.db.engine import GROUP_MAX, Database, Unit
from mn.db.functions import register_functions

BUSY_TIMEOUT_S = 10
MMAP_BYTES = 256 * 1024 * 1024


class SqliteDatabase(Database):
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._units: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="db-read")
        self._write_engine = _engine(path, read_only=False)
        self._read_engine = _engine(path, read_only=True)
        self._read_connection: Connection | None = None

    def prepare(self, upgrade: Callable[[Connection], None]) -> None:
        """Open the file, set its journal mode and run `upgrade` on it."""
        try:
            with self._write_engine.connect() as connection, connection.begin():
                upgrade(connection)
        except Exception as error:
            if _is_sqlite_error(error):
                raise HardpointError(
                    "SYS.1000",
                    "Internal error",
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

    def _hand_in_write(self, unit: Unit) -> None:
        self._units.put(unit)

    def _hand_in_read(self, unit: Unit) -> None:
        self._readers.submit(self._read, unit)

    def _read(self, unit: Unit) -> None:
        try:
            if self._read_connection is None:
                self._read_connection = self._read_engine.connect()
            with self._read_connection.begin():
                result = unit.fn(self._read_connection)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's future
            unit.done(None, error)
        else:
            unit.done(result, None)

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


def _commit(connection: Connection, group: list[Unit]) -> None:
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
