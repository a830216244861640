from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mn.db.engine import Database
from mn.db.open import open_database
from tests import postgres

OpenDatabase = Callable[[], Database]


@pytest.fixture
def copied_database() -> Callable[[], str]:
    """What a PostgreSQL database of a test is a copy of."""
    return postgres.migrated


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, copied_database: Callable[[], str]) -> Iterator[str]:
    """What `database_url` is set to: nothing for SQLite, else a PostgreSQL database with tables."""
    if request.param == "sqlite":
        yield ""
        return
    with postgres.database(copied_database()) as url:
        yield url


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> OpenDatabase:
    """A function that opens one and the same database, as each start of a node does."""
    return lambda: open_database(database_url, tmp_path / "db")
