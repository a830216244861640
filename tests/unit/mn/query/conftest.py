from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, StaticPool, create_engine, event

from mn.db.functions import register_functions


@pytest.fixture
def connection() -> Iterator[Connection]:
    """An empty database in memory with the functions that the planner uses."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda raw, _record: register_functions(raw))
    with engine.connect() as connection:
        yield connection
    engine.dispose()
