"""A PostgreSQL server of the tests' own: in a folder of its own, without fsync, on a unix socket only.

It is started when the first test asks for it and ends with the test run, whatever happens to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import itertools
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection

from mn.db.migrations import upgrade
from mn.db.postgresql import PostgresDatabase

BACKEND = "HARDPOINT_TEST_DATABASE"
"""Environment: `postgresql` makes the nodes of contract and integration tests use it."""

PASSWORD = "s3cret-of-tests"
START_TIMEOUT_S = 60.0
ENOUGH_MEMORY = 8 << 30
"""Bytes that must be free in memory for the databases of a whole run, 12 MB each."""
_numbers = itertools.count()


@cache
def binaries() -> Path | None:
    """Return the folder of PostgreSQL's newest programs, None when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    where = shutil.which("postgres")
    return Path(where).resolve().parent if where else None


def missing() -> str | None:
    """Return why there can be no server here, None when there can."""
    if binaries() is None:
        return "PostgreSQL's programs are not installed (Debian: apt-get install postgresql)"
    return None


def wanted() -> bool:
    """Say whether nodes are to use PostgreSQL."""
    return os.environ.get(BACKEND, "") == "postgresql"


class Server:
    """A running server."""

    def __init__(self, fsync: bool = False) -> None:
        programs = binaries()
        if programs is None:
            pytest.skip(missing() or "")
        self._programs = programs
        self._fsync = fsync
        self.folder = Path(tempfile.mkdtemp(prefix="hardpoint-pg-", dir="/tmp" if fsync else _folder()))
        self._user = "postgres" if os.geteuid() == 0 and _exists("postgres") else "nobody"
        if os.geteuid() != 0:
            self._user = getpass.getuser()
        shutil.chown(self.folder, self._user)
        self.folder.chmod(0o755)
        data, words = str(self.folder / "data"), self.folder / "password"
        words.write_text(PASSWORD)
        initdb = ["initdb", "-D", data, "-U", "admin", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run(*initdb, "-A", "scram-sha-256", f"--pwfile={words}")
        self.process = self._start()

    def url(self, database: str, user: str = "admin", password: str = PASSWORD) -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}:{password}@/{database}?host={self.folder}"

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements one by one as the superuser; return the rows of the last."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.url(database))
            try:
                rows: list[Any] = []
                for statement in statements:
                    rows = await connection.fetch(statement)
                return rows
            finally:
                await connection.close()

        return _apart(run)

    def create(self, template: str = "template1", options: str = "") -> str:
        """Make a database and return its name."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
        return name

    def drop(self, name: str) -> None:
        """Delete a database with all connections to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def restart(self) -> None:
        """Stop at once and start again, as after a crash of the server."""
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        """Stop at once."""
        if self.process.poll() is None:
            self.process.terminate() if self._fsync else self.process.send_signal(3)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()

    def remove(self) -> None:
        """Stop and delete all it has."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _as_user(self, name: str, *arguments: str) -> list[str]:
        argv = [str(self._programs / name), *arguments]
        if os.geteuid() != 0:
            return ["setpriv", "--pdeathsig=QUIT", *argv]
        user = pwd.getpwnam(self._user)
        ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, "--pdeathsig=QUIT", *argv]

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            self._as_user(name, *arguments), check=False, capture_output=True, text=True, cwd=self.folder
        )
        assert done.returncode == 0, done.stderr

    def _start(self) -> subprocess.Popen[bytes]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "256MB" if self._fsync else "32MB",
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "logging_collector": "off",
        }
        argv = self._as_user("postgres", "-D", str(self.folder / "data"))
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.process = process
                self.execute("SELECT 1")
                return process
            except (OSError, asyncpg.PostgresError):
                log_text = (self.folder / "log").read_text(errors="replace")[-2000:]
                assert process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.05)


def _folder() -> str:
    """Return where a server that need not be durable has its files: in memory, they are made quickly there.

    It is short, as paths of sockets have to be.
    """
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH_MEMORY:
        return str(memory)
    return "/tmp"


def _exists(user: str) -> bool:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user) is not None
    return False


def _apart(run: Any) -> Any:
    """Run a coroutine function in a thread of its own: the caller may be in a loop already."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append((asyncio.run(run()), None))
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            outcome.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


@cache
def server() -> Server:
    """Return the server of this test run, started when it was not. Skips the test when there can be none."""
    return Server()


def stop_server() -> None:
    """End the server of this test run if it was started."""
    if server.cache_info().currsize:
        server().remove()
        server.cache_clear()
        migrated.cache_clear()


@cache
def migrated() -> str:
    """Return the name of a database with all tables, without rows: a copy takes a tenth of making them."""
    name = server().create()
    db = PostgresDatabase(server().url(name))
    db.prepare(upgrade)
    db.close()
    return name


@contextlib.contextmanager
def database(template: str = "template1") -> Iterator[str]:
    """Give the URL of a new database: an empty one, or a copy."""
    name = server().create(template)
    try:
        yield server().url(name)
    finally:
        server().drop(name)


_of_state: dict[Path, str] = {}
_guard = threading.Lock()


def environment(state: Path, template: Path | None = None) -> dict[str, str]:
    """Return the settings of a node on a state folder: its own PostgreSQL database when tests are to use it.

    A folder's database is made when it is first asked for, a copy of `template`'s or with tables.
    """
    if not wanted():
        return {}
    with _guard:
        if state not in _of_state:
            _of_state[state] = server().create(_of_state[template] if template else migrated())
        return {"HARDPOINT_DATABASE_URL": server().url(_of_state[state])}


def rows(state: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds in the database of a node's state folder, whichever it is."""
    if wanted():
        return [tuple(row) for row in server().execute(query, database=_of_state[state])]
    with contextlib.closing(sqlite3.connect(state / "hardpoint.db")) as db:
        return db.execute(query).fetchall()


def holders(state: Path, secret: str) -> list[str]:
    """Return where a text can be read: files of a node's state folder, and the tables of its PostgreSQL."""
    found = []
    for file in (Path(folder, name) for folder, _, names in os.walk(state) for name in names):
        with contextlib.suppress(FileNotFoundError):  # some come and go as the node works
            if file.is_file() and secret.encode() in file.read_bytes():
                found.append(str(file))
    if wanted():
        for (table,) in rows(state, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            as_text = f"strpos(t::text, '{secret}') > 0 OR strpos(t::text, '{secret.encode().hex()}') > 0"
            if rows(state, f'SELECT 1 FROM "{table}" t WHERE {as_text} LIMIT 1'):
                found.append(f"table {table}")
    return found


class _Forwarded:
    """A connection of SQLAlchemy whose methods run on the database's own loop; tests call it as any other."""

    def __init__(self, db: PostgresDatabase, connection: Any) -> None:
        self._db, self._connection = db, connection

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection.sync_connection, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            return self._db._run(self._connection.run_sync(lambda c: getattr(c, name)(*arguments, **options)))

        return call


@contextlib.contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Give a connection with Hardpoint's functions that can be called without a loop."""
    db = PostgresDatabase(url)
    db.prepare(lambda _connection: None)
    try:
        connection: Any = db._run(db._connected())
        yield _Forwarded(db, connection)  # type: ignore[misc]
        db._run(connection.rollback())
    finally:
        db.close()
