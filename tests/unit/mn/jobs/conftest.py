from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.mn.conftest import OpenDatabase
from tests.unit.mn.jobs.house import House


@pytest.fixture
async def house(opened: OpenDatabase) -> AsyncIterator[House]:
    made = House(opened)
    await made.start(prepare=True)
    yield made
    assert made.engine
    await made.engine.stop()
    made.db.close()
