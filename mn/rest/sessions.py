"""Sessions: slide with every call, are capped per account, survive a restart; only their digest is stored."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from agentkit.errors import Blame, HardpointError
from mn.db.engine import Database
from mn.db.global_settings import SESSION_TIMEOUT, SESSIONS_PER_ACCOUNT, GlobalSettings
from mn.db.schema import Instant, metadata, new_uuid, now_s, private, uuid_column

log = logging.getLogger(__name__)

SLIDE_GRANULARITY_S = 60
"""A session's new end is written when it has moved by this much."""

session_table = Table(
    "session",
    metadata,
    private("digest", String(64), primary_key=True),
    uuid_column("account_uuid", nullable=False, index=True),
    Column("admin", Boolean, nullable=False),
    Column("expire_date", Instant, nullable=False, index=True),
    Column("create_date", Instant, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Session:
    """A live session. `uuid` is the bearer's secret; times in seconds since 1970."""

    uuid: str
    account_uuid: str
    admin: bool
    create_date: int
    expire_date: int


class Sessions:
    """Opens, checks and ends sessions."""

    def __init__(self, db: Database, settings: GlobalSettings) -> None:
        self._db = db
        self._settings = settings
        self._cache: dict[str, Session] = {}
        self._ended = 0
        """Counts the times that sessions were ended: what was read before one is not cached after it."""

    async def open(self, account_uuid: str, *, admin: bool) -> Session:
        """Return a new session. Raises HardpointError (ID.1006) when the account has too many."""
        now, ended = now_s(), self._ended
        session = Session(new_uuid(), account_uuid, admin, now, now + self._lifetime_s())
        await self._db.write(_insert, session, int(self._settings[SESSIONS_PER_ACCOUNT]))
        self._remember(session, ended)
        return session

    async def check(self, uuid: str, *, slide: bool = True) -> Session:
        """Return a live session and move its end. Raises HardpointError (ID.1001) when there is none."""
        now, ended = now_s(), self._ended
        session = self._cache.get(uuid) or await self._db.read(_load, uuid)
        if session is None or session.expire_date <= now:
            self._cache.pop(uuid, None)
            raise HardpointError(
                "ID.1001",
                "Invalid session",
                "the session does not exist or has expired",
                remedy="log in again and use the new session's uuid",
                blame=Blame.CALLER,
            )
        end = now + self._lifetime_s()
        if slide and end - session.expire_date >= SLIDE_GRANULARITY_S:
            session = replace(session, expire_date=end)
            await self._db.write(_slide, uuid, end)
        self._remember(session, ended)
        return session

    async def renew(self, uuid: str, duration_s: int | None) -> Session:
        """Move a live session's end to `duration_s` from now, None: as a new one's. Raises HardpointError
        (ID.1001) when there is none.
        """
        ended = self._ended
        known = await self.check(uuid, slide=False)
        session = replace(known, expire_date=now_s() + (duration_s or self._lifetime_s()))
        await self._db.write(_slide, uuid, session.expire_date)
        self._remember(session, ended)
        return session

    def _remember(self, session: Session, ended: int) -> None:
        """Cache a session, unless some were ended since `ended` was noted: it may be one of them."""
        if ended == self._ended:
            self._cache[session.uuid] = session
        else:
            self._cache.pop(session.uuid, None)

    def _lifetime_s(self) -> int:
        return int(self._settings[SESSION_TIMEOUT])

    async def close(self, uuid: str) -> None:
        """End a session; nothing happens when there is none."""
        try:
            await self._db.write(_delete, uuid)
        finally:
            self._forget(lambda session: session.uuid == uuid)

    async def close_account(self, account_uuid: str) -> None:
        """End all sessions of an account."""
        try:
            await self._db.write(_delete_account, account_uuid)
        finally:
            self._forget(lambda session: session.account_uuid == account_uuid)

    def _forget(self, ended: Callable[[Session], bool]) -> None:
        """Drop sessions whose rows are gone from the cache, and keep out of it who read these rows before."""
        self._ended += 1
        self._cache = {u: s for u, s in self._cache.items() if not ended(s)}

    async def purge(self) -> None:
        """Forget expired sessions."""
        now = now_s()
        self._cache = {u: s for u, s in self._cache.items() if s.expire_date > now}
        await self._db.write(_purge, now)


def _digest(uuid: str) -> str:
    return hashlib.sha256(uuid.encode()).hexdigest()


_COUNT = select(func.count()).where(
    session_table.c.account_uuid == bindparam("account"), session_table.c.expire_date > bindparam("now")
)


def _insert(connection: Connection, session: Session, most: int) -> None:
    count = connection.execute(
        _COUNT, {"account": session.account_uuid, "now": session.create_date}
    ).scalar_one()
    if count >= most:
        raise HardpointError(
            "ID.1006",
            "Too many sessions",
            f"the account has {count} live sessions, the most that are allowed",
            remedy="log out of sessions that are not used, or wait until they expire",
            blame=Blame.CALLER,
        )
    row = {
        "digest": _digest(session.uuid),
        "account_uuid": session.account_uuid,
        "admin": session.admin,
        "expire_date": session.expire_date,
        "create_date": session.create_date,
    }
    connection.execute(insert(session_table), row)


def _load(connection: Connection, uuid: str) -> Session | None:
    query = select(session_table).where(session_table.c.digest == _digest(uuid))
    row = connection.execute(query).first()
    return Session(uuid, row.account_uuid, row.admin, row.create_date, row.expire_date) if row else None


def _slide(connection: Connection, uuid: str, end: int) -> None:
    query = update(session_table).where(session_table.c.digest == _digest(uuid)).values(expire_date=end)
    connection.execute(query)


def _delete(connection: Connection, uuid: str) -> None:
    connection.execute(delete(session_table).where(session_table.c.digest == _digest(uuid)))


def _delete_account(connection: Connection, account_uuid: str) -> None:
    connection.execute(delete(session_table).where(session_table.c.account_uuid == account_uuid))


def _purge(connection: Connection, now: int) -> None:
    connection.execute(delete(session_table).where(session_table.c.expire_date <= now))
