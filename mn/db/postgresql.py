"""PostgreSQL through asyncpg on an event loop of its own thread: one writer that commits in groups, few
readers.

The writer's connection holds an advisory lock of its session: one management node uses a database, and a
writer that has lost its connection cannot write until it has the lock again. docs/adr/0007-two-databases.md
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from agentkit.errors import HardpointError
from mn.db.dialect import install_functions
from mn.db.engine import GROUP_MAX, Database, Unit
from mn.db.postgresql_errors import check_server, lock_taken, place, translated, unusable

log = logging.getLogger(__name__)

T = TypeVar("T")

READERS = 4
CONNECT_TIMEOUT_S = 10.0
LOCK_WAIT_S = 5.0
"""How long a start waits for the lock of a node that has just ended."""
LOCK_RETRY_S = 0.1
RECONNECT_S = 30.0
"""How long writes wait for a server that has gone, before they fail."""
RECONNECT_RETRY_S = 0.5
NODE_LOCK = 0x4861726470  # "Hardp"

_CONNECT_ERRORS = (OSError, ValueError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError)
_SESSION = {
    "client_encoding": "UTF8",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # Values differ in how many rows have them: a plan for one is no plan for all.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
}


class PostgresDatabase(Database):
    """A PostgreSQL database. `url` is `postgresql://user:password@host:port/name`, as libpq takes it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.place = place(url)
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://", async_creator=self._open, pool_size=READERS + 1, max_overflow=0
        )
        self._read_engine = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._readers = asyncio.Semaphore(READERS)
        self._idle: list[AsyncConnection] = []
        self._reading: set[asyncio.Task[None]] = set()
        self._writer: AsyncConnection | None = None
        self._units: asyncio.Queue[Unit | None] = asyncio.Queue()
        self._writing: asyncio.Task[None] | None = None

    def prepare(self, upgrade: Callable[[Connection], None]) -> None:
        """Connect, take the node's lock, and run `upgrade`."""
        self._run(self._prepare(upgrade))

    def start(self) -> None:
        """Connect when `prepare` has not, and begin to write."""
        self._run(self._start())

    def close(self) -> None:
        """Finish what has been handed in, give the lock back, end the thread."""
        if self._thread is None:
            self._loop.close()
            return
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None
        self._loop.close()

    def _hand_in_write(self, unit: Unit) -> None:
        self._loop.call_soon_threadsafe(self._units.put_nowait, unit)

    def _hand_in_read(self, unit: Unit) -> None:
        self._begin_thread()
        self._loop.call_soon_threadsafe(self._begin_read, unit)

    def _begin_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop.run_forever, name="db", daemon=True)
            self._thread.start()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the database's loop and wait for it."""
        self._begin_thread()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # From here on everything runs on the database's loop.

    async def _open(self) -> Any:
        name = f"hardpoint mn {socket.gethostname()} {os.getpid()}"
        settings = {**_SESSION, "application_name": name[:63]}
        return await asyncpg.connect(self._url, timeout=CONNECT_TIMEOUT_S, server_settings=settings)

    async def _prepare(self, upgrade: Callable[[Connection], None]) -> None:
        connection = await self._connected()
        try:
            async with connection.begin():
                await connection.run_sync(upgrade)
                await connection.run_sync(install_functions)
        except DBAPIError as error:
            raise unusable(self.place, error) from error

    async def _start(self) -> None:
        await self._connected()
        self._writing = asyncio.create_task(self._write_loop())

    async def _close(self) -> None:
        if self._writing:
            self._units.put_nowait(None)
            await self._writing
        if self._reading:
            await asyncio.wait(self._reading)
        for connection in self._idle:
            await connection.close()
        await self._drop_writer()
        await self._engine.dispose()

    async def _connected(self) -> AsyncConnection:
        """Return the writer's connection, with the lock."""
        if self._writer is None:
            try:
                connection = await self._engine.connect()
            except _CONNECT_ERRORS as error:
                raise unusable(self.place, error) from error
            try:
                await self._take_lock(connection)
            except BaseException:
                await connection.close()
                raise
            self._writer = connection
        return self._writer

    async def _take_lock(self, connection: AsyncConnection) -> None:
        async with connection.begin():
            check_server(self.place, (await connection.execute(_SERVER)).one())
        deadline = self._loop.time() + LOCK_WAIT_S
        while True:
            async with connection.begin():
                if (await connection.execute(_LOCK, {"key": NODE_LOCK})).scalar():
                    return
                holder = (await connection.execute(_HOLDER, {"key": NODE_LOCK})).first()
            if self._loop.time() > deadline:
                raise lock_taken(self.place, holder)
            await asyncio.sleep(LOCK_RETRY_S)

    async def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.invalidate()  # ends the session, and with it the lock
            await writer.close()

    async def _write_loop(self) -> None:
        while (first := await self._units.get()) is not None:
            group = [first]
            stop = False
            while len(group) < GROUP_MAX and not self._units.empty():
                unit = self._units.get_nowait()
                if unit is None:
                    stop = True
                    break
                group.append(unit)
            await self._commit(group)
            self.on_commit(len(group))
            if stop:
                return

    async def _commit(self, group: list[Unit]) -> None:
        """Run a group in one transaction; on any failure run each unit alone, so that only the faulty one
        fails.

        A connection that is lost before the commit has left nothing: the group is run again on a new one.
        """
        deadline = self._loop.time() + RECONNECT_S
        while True:
            committing = False
            try:
                connection = await self._connected()
                async with connection.begin() as transaction:
                    results = await connection.run_sync(lambda c: [unit.fn(c) for unit in group])
                    committing = True
                    await transaction.commit()
            except BaseException as error:  # noqa: BLE001 - handed to the caller's future
                lost = self._is_lost(error)
                if lost:
                    await self._drop_writer()
                if lost and not committing and self._loop.time() < deadline:
                    log.warning("database connection lost", extra={"database": self.place})
                    await asyncio.sleep(RECONNECT_RETRY_S)
                    continue
                if len(group) == 1 or lost:
                    for unit in group:
                        unit.done(None, translated(self.place, error, committing=committing))
                    return
                for unit in group:
                    await self._commit([unit])
                return
            for unit, result in zip(group, results, strict=True):
                unit.done(result, None)
            return

    def _is_lost(self, error: BaseException) -> bool:
        if isinstance(error, DBAPIError):
            return error.connection_invalidated
        return self._writer is None and isinstance(error, HardpointError)

    def _begin_read(self, unit: Unit) -> None:
        task = asyncio.create_task(self._read(unit))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, unit: Unit) -> None:
        """Run a unit; once more when its connection turns out to be dead."""
        async with self._readers:
            for last in (False, True):
                try:
                    result = await self._read_once(unit)
                except BaseException as error:  # noqa: BLE001 - handed to the caller's future
                    if not last and isinstance(error, DBAPIError) and error.connection_invalidated:
                        continue
                    unit.done(None, translated(self.place, error, committing=False))
                else:
                    unit.done(result, None)
                return

    async def _read_once(self, unit: Unit) -> Any:
        connection = self._idle.pop() if self._idle else await self._read_engine.connect()
        try:
            async with connection.begin():
                result = await connection.run_sync(unit.fn)
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)
        return result


_SERVER = text(
    "SELECT current_setting('server_version_num')::int AS version,"
    " current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby"
)
_LOCK = text("SELECT pg_try_advisory_lock(CAST(:key AS bigint))")
_HOLDER = text(
    "SELECT a.application_name AS name, host(a.client_addr) AS address, a.backend_start AS since"
    " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (l.classid::bigint << 32) + l.objid::bigint = CAST(:key AS bigint)"
)
