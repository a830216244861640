"""Which database the settings ask for."""

from __future__ import annotations

from pathlib import Path

from mn.db.engine import Database
from mn.db.sqlite import SqliteDatabase


def open_database(url: str, file: Path) -> Database:
    """Return the PostgreSQL database of a URL, SQLite's `file` when it is empty; nothing is opened yet.

    Raises HardpointError (SYS.1007) for a URL that is none of PostgreSQL.
    """
    if not url:
        return SqliteDatabase(file)
    from mn.db.postgresql import PostgresDatabase  # late: asyncpg is loaded where it is used only

    return PostgresDatabase(url)
