from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from agentkit.errors import HardpointError
from mn.db.engine import Database
from mn.db.global_settings import SESSION_TIMEOUT, GlobalSettings
from mn.db.global_settings import SESSIONS_PER_ACCOUNT as MOST
from mn.db.schema import metadata
from mn.rest import sessions as module
from mn.rest.sessions import Sessions, session_table
from tests.unit.mn.conftest import OpenDatabase

SESSION_TIMEOUT_S = int(SESSION_TIMEOUT.default)
SESSIONS_PER_ACCOUNT = int(MOST.default)

ADMIN, OTHER = "a" * 32, "b" * 32


class Clock:
    """The second that sessions believe it is."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000

    def __call__(self) -> int:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "now_s", clock)
    return clock


@pytest.fixture
async def db(opened: OpenDatabase) -> AsyncIterator[Database]:
    db = opened()
    db.prepare(metadata.create_all)
    db.start()
    yield db
    db.close()


@pytest.fixture
def sessions(db: Database, clock: Clock) -> Sessions:
    return Sessions(db, GlobalSettings(db))


async def is_live(sessions: Sessions, uuid: str) -> bool:
    """Look without moving the end."""
    live = False
    with contextlib.suppress(HardpointError):
        live = (await sessions.check(uuid, slide=False)).uuid == uuid
    return live


async def test_a_session_lives_for_two_hours(sessions: Sessions, clock: Clock) -> None:
    session = await sessions.open(ADMIN, admin=True)
    assert session.expire_date - session.create_date == 7200
    assert (await sessions.check(session.uuid, slide=False)).account_uuid == ADMIN
    clock.now_s += SESSION_TIMEOUT_S - 1
    assert await is_live(sessions, session.uuid)
    clock.now_s += 1
    assert not await is_live(sessions, session.uuid)


async def test_each_call_moves_the_end(sessions: Sessions, clock: Clock) -> None:
    session = await sessions.open(ADMIN, admin=True)
    for _ in range(5):
        clock.now_s += SESSION_TIMEOUT_S - 1
        await sessions.check(session.uuid)
    clock.now_s += SESSION_TIMEOUT_S - 1
    assert await is_live(sessions, session.uuid)


async def test_looking_does_not_move_the_end(sessions: Sessions, clock: Clock) -> None:
    session = await sessions.open(ADMIN, admin=True)
    clock.now_s += SESSION_TIMEOUT_S - 1
    assert await is_live(sessions, session.uuid)
    clock.now_s += 1
    assert not await is_live(sessions, session.uuid)


async def test_an_unknown_session_is_told_to_log_in(sessions: Sessions) -> None:
    with pytest.raises(HardpointError) as caught:
        await sessions.check("c" * 32)
    assert caught.value.code == "ID.1001"
    assert "log in again" in caught.value.remedy


async def test_a_session_survives_a_restart_with_the_end_it_had(
    sessions: Sessions, db: Database, clock: Clock
) -> None:
    session = await sessions.open(ADMIN, admin=True)
    clock.now_s += 3600
    moved = await sessions.check(session.uuid)
    assert await Sessions(db, GlobalSettings(db)).check(session.uuid, slide=False) == moved
    clock.now_s = moved.expire_date
    assert not await is_live(Sessions(db, GlobalSettings(db)), session.uuid)


async def test_a_closed_session_is_gone_for_every_process(sessions: Sessions, db: Database) -> None:
    first, second = await sessions.open(ADMIN, admin=True), await sessions.open(ADMIN, admin=True)
    await sessions.close(first.uuid)
    await sessions.close(first.uuid)
    for holder in (sessions, Sessions(db, GlobalSettings(db))):
        assert not await is_live(holder, first.uuid)
        assert await is_live(holder, second.uuid)


async def test_all_sessions_of_an_account_end_together(sessions: Sessions, db: Database) -> None:
    mine = [await sessions.open(ADMIN, admin=True) for _ in range(3)]
    theirs = await sessions.open(OTHER, admin=True)
    await sessions.close_account(ADMIN)
    for holder in (sessions, Sessions(db, GlobalSettings(db))):
        assert not any([await is_live(holder, session.uuid) for session in mine])
        assert await is_live(holder, theirs.uuid)


class LateDatabase:
    """A database whose next answer to a `read` or a `write`, as `late` says, arrives when it is let go."""

    def __init__(self, db: Database, late: str) -> None:
        self._db, self._late = db, late
        self.answered, self.go_on = asyncio.Event(), asyncio.Event()

    async def read(self, *work: Any) -> Any:
        return await self._answer("read", await self._db.read(*work))

    async def write(self, *work: Any) -> Any:
        return await self._answer("write", await self._db.write(*work))

    async def _answer(self, kind: str, answer: Any) -> Any:
        if kind == self._late and not self.answered.is_set():
            self.answered.set()
            await self.go_on.wait()
        return answer


Begin = Callable[[Sessions, str], Awaitable[Any]]


@pytest.mark.parametrize("end", [Sessions.close, Sessions.close_account])
@pytest.mark.parametrize(
    ("late", "begin"),
    [
        ("read", lambda sessions, uuid: sessions.check(uuid, slide=False)),
        ("write", lambda sessions, uuid: sessions.check(uuid)),
        ("write", lambda sessions, uuid: sessions.renew(uuid, None)),
    ],
    ids=["read", "slid", "renewed"],
)
async def test_a_session_that_is_ended_while_it_is_looked_at_is_dead(
    sessions: Sessions, db: Database, clock: Clock, late: str, begin: Begin, end: Begin
) -> None:
    session = await sessions.open(ADMIN, admin=True)
    clock.now_s += 3600
    late_db = LateDatabase(db, late)
    others = Sessions(late_db, GlobalSettings(db))  # type: ignore[arg-type]
    looking = asyncio.ensure_future(begin(others, session.uuid))
    await late_db.answered.wait()
    await end(others, session.uuid if end is Sessions.close else ADMIN)
    late_db.go_on.set()
    await looking
    assert not await is_live(others, session.uuid)


@pytest.mark.parametrize("admin", [True, False])
async def test_a_session_remembers_whose_it_is(sessions: Sessions, db: Database, admin: bool) -> None:
    session = await sessions.open(OTHER, admin=admin)
    assert await Sessions(db, GlobalSettings(db)).check(session.uuid) == session
    assert (session.account_uuid, session.admin) == (OTHER, admin)


async def test_an_account_has_500_live_sessions_at_the_most(
    sessions: Sessions, clock: Clock, db: Database
) -> None:
    assert SESSIONS_PER_ACCOUNT == 500
    opened = [await sessions.open(ADMIN, admin=True) for _ in range(SESSIONS_PER_ACCOUNT)]
    with pytest.raises(HardpointError) as caught:
        await sessions.open(ADMIN, admin=True)
    assert caught.value.code == "ID.1006"
    assert caught.value.details.startswith("the account has 500 live sessions")
    await sessions.open(OTHER, admin=True)
    await sessions.close(opened[0].uuid)
    await sessions.open(ADMIN, admin=True)
    clock.now_s += SESSION_TIMEOUT_S
    await sessions.open(ADMIN, admin=True)  # expired ones do not count


async def test_expired_sessions_are_forgotten_and_live_ones_kept(
    sessions: Sessions, clock: Clock, db: Database
) -> None:
    await sessions.open(ADMIN, admin=True)
    clock.now_s += SESSION_TIMEOUT_S
    live = await sessions.open(ADMIN, admin=True)
    await sessions.purge()
    assert len(await db.read(lambda c: c.execute(select(session_table)).all())) == 1
    assert await is_live(sessions, live.uuid)


async def test_the_database_does_not_hold_what_a_caller_sends(sessions: Sessions, db: Database) -> None:
    session = await sessions.open(ADMIN, admin=True)

    def dump(connection: Connection) -> str:
        return str(connection.execute(text("SELECT * FROM session")).all())

    assert session.uuid not in await db.read(dump)
