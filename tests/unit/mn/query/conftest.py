from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, StaticPool, create_engine, event

from mn.db.functions import register_functions
from tests import postgres


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[Connection]:
    with postgres.database() as url, postgres.connected(url) as forwarded:
        yield forwarded


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """An empty database with the functions that the planner uses."""
    if request.param == "postgresql":
        forwarded: Connection = request.getfixturevalue("_postgresql")
        yield forwarded
        forwarded.rollback()  # tables included
        return
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda raw, _record: register_functions(raw))
    with engine.connect() as connection:
        yield connection
    engine.dispose()
