from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, ForeignKey, Integer, MetaData, Table, func, insert, select, text

from agentkit.errors import HardpointError
from mn.db.engine import GROUP_MAX, Database
from mn.db.sqlite import SqliteDatabase
from tests import postgres
from tests.unit.mn.conftest import OpenDatabase

metadata = MetaData()
number_table = Table("number", metadata, Column("value", Integer, primary_key=True))
child_table = Table(
    "child",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", ForeignKey("number.value"), nullable=False),
)
REPOSITORY = Path(__file__).parents[4]


def add(connection: Connection, value: int) -> int:
    connection.execute(insert(number_table), {"value": value})
    return value


def numbers(connection: Connection) -> list[int]:
    return list(connection.execute(select(number_table.c.value).order_by(number_table.c.value)).scalars())


@pytest.fixture
async def db(opened: OpenDatabase) -> AsyncIterator[Database]:
    db = opened()
    db.prepare(metadata.create_all)
    db.start()
    yield db
    db.close()


async def hold_writer(db: Database) -> threading.Event:
    """Keep the writer busy until the event is set, so that what is written meanwhile becomes one group."""
    holding, release = threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        holding.set()
        release.wait(100)

    db.held = asyncio.ensure_future(db.write(hold))  # type: ignore[attr-defined]
    await asyncio.to_thread(holding.wait, 10)
    return release


async def test_a_unit_of_work_returns_its_result(db: Database) -> None:
    assert await db.write(add, 5) == 5
    assert await db.read(numbers) == [5]


async def test_a_failing_unit_leaves_nothing_and_the_caller_gets_its_error(db: Database) -> None:
    def add_and_fail(connection: Connection) -> None:
        add(connection, 1)
        raise HardpointError("SYS.1006", "Operation failed", "no")

    with pytest.raises(HardpointError, match="no"):
        await db.write(add_and_fail)
    assert await db.read(numbers) == []


async def test_in_a_group_only_the_unit_that_fails_fails(db: Database) -> None:
    await db.write(add, 50)
    release = await hold_writer(db)
    writes = [asyncio.ensure_future(db.write(add, value)) for value in range(100)]
    await asyncio.sleep(0)  # let each hand in its unit
    release.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    failed = [value for value, result in enumerate(results) if isinstance(result, BaseException)]
    assert failed == [50]
    assert [r for v, r in enumerate(results) if v != 50] == [v for v in range(100) if v != 50]
    assert await db.read(numbers) == list(range(100))


async def test_units_that_wait_share_a_commit(db: Database, database_url: str, tmp_path: Path) -> None:
    release = await hold_writer(db)
    before = _transactions(database_url) or _commits(tmp_path / "db")
    writes = [asyncio.ensure_future(db.write(add, value)) for value in range(GROUP_MAX)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*writes)
    after = _transactions(database_url) or _commits(tmp_path / "db")
    assert after - before <= 2  # the one that held the writer (on PostgreSQL the count), and the group


def _transactions(database_url: str) -> int:
    """Return how many transactions a PostgreSQL server has seen, this one included; 0 for SQLite."""
    if not database_url:
        return 0
    return int(postgres.server().execute("SELECT txid_current()")[0][0])


def _commits(path: Path) -> int:
    """Return the frames in the write-ahead log that end a transaction."""
    log = path.with_name(path.name + "-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    frames = range(32, len(log), 24 + page)
    return sum(1 for at in frames if int.from_bytes(log[at + 4 : at + 8], "big"))


async def test_what_was_written_is_seen_by_every_later_read(db: Database) -> None:
    for value in range(50):
        await db.write(add, value)
        assert len(await db.read(numbers)) == value + 1


async def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        await db.read(add, 1)
    await db.write(add, 1)
    assert await db.read(numbers) == [1]


async def test_foreign_keys_hold(db: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await db.write(lambda c: c.execute(insert(child_table), {"number": 7}))


async def test_a_caller_that_gave_up_does_not_harm_the_others(db: Database) -> None:
    release = await hold_writer(db)
    impatient = asyncio.ensure_future(db.write(add, 1))
    patient = asyncio.ensure_future(db.write(add, 2))
    await asyncio.sleep(0)
    impatient.cancel()
    release.set()
    assert await patient == 2
    assert 2 in await db.read(numbers)


async def test_closing_finishes_what_was_handed_in(opened: OpenDatabase) -> None:
    db = opened()
    db.prepare(metadata.create_all)
    db.start()
    writes = [asyncio.ensure_future(db.write(add, value)) for value in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(db.close)
    await asyncio.gather(*writes)
    db = opened()
    assert len(await db.read(numbers)) == 20
    db.close()


@pytest.mark.parametrize("content", [b"this is no database, it is a text file" * 100])
def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "db"
    path.write_bytes(content)
    with pytest.raises(HardpointError) as caught:
        SqliteDatabase(path).prepare(metadata.create_all)
    assert caught.value.code == "SYS.1000"
    assert str(path) in caught.value.details
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "db"
    with pytest.raises(HardpointError) as caught:
        SqliteDatabase(path).prepare(metadata.create_all)
    assert str(path) in caught.value.details


WRITER = """
import asyncio, sys
from pathlib import Path
from mn.db.open import open_database
from tests.unit.mn.db.test_engine import add, metadata

async def main() -> None:
    db = open_database(sys.argv[1], Path(sys.argv[2]))
    db.prepare(metadata.create_all)
    db.start()
    async def write(first: int) -> None:
        for value in range(first, 10**9, 8):
            print(await db.write(add, value), flush=True)
    await asyncio.gather(*(write(first) for first in range(8)))

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(
    opened: OpenDatabase, database_url: str, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", WRITER, database_url, str(tmp_path / "db")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    writer = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
    assert writer.stdout
    acknowledged = {int(writer.stdout.readline()) for _ in range(200)}
    writer.send_signal(signal.SIGKILL)
    acknowledged |= {int(line) for line in writer.stdout.read().splitlines()[:-1]}
    writer.wait()
    writer.stdout.close()
    db = opened()
    db.start()
    assert acknowledged <= set(await db.read(numbers))
    assert len(acknowledged) >= 200
    db.close()
    if not database_url:
        with sqlite3.connect(tmp_path / "db") as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_commit_is_on_disk_and_not_only_in_the_log_of_the_kernel(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "db")
    db.start()

    def pragmas(connection: Connection) -> tuple[object, ...]:
        names = ("synchronous", "journal_mode", "foreign_keys")
        return tuple(connection.execute(text(f"PRAGMA {name}")).scalar() for name in names)

    assert await db.write(pragmas) == (2, "wal", 1)  # 2 is FULL
    db.close()


async def test_many_tasks_may_write_and_read_at_once(db: Database) -> None:
    async def both(value: int) -> None:
        await db.write(add, value)
        assert value in await db.read(numbers)

    await asyncio.gather(*(both(value) for value in range(100)))
    assert await db.read(lambda c: c.execute(select(func.count()).select_from(number_table)).scalar()) == 100
