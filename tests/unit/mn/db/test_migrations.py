from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

import mn.app
from agentkit.errors import HardpointError
from mn import facilities
from mn.db.migrations import upgrade
from mn.db.schema import metadata
from tests.unit.mn.conftest import OpenDatabase

assert mn.app.fleet_table.metadata is metadata
facilities.load()


@pytest.fixture
def copied_database() -> Callable[[], str]:
    """Databases here are empty ones."""
    return lambda: "template1"


def prepared(opened: OpenDatabase, upgrade: Any = upgrade) -> None:
    db = opened()
    try:
        db.prepare(upgrade)
    finally:
        db.close()


async def look(opened: OpenDatabase, fn: Any) -> Any:
    """Return what a function finds in the database."""
    db = opened()
    try:
        return await db.read(fn)
    finally:
        db.close()


async def test_the_migrations_lead_to_the_schema_that_the_code_declares(opened: OpenDatabase) -> None:
    def compare(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = [
            d
            for diff in compare_metadata(context, metadata)
            for d in (diff if isinstance(diff, list) else [diff])
        ]
        return [d for d in found if d[0] != "modify_comment"]  # the database has none

    prepared(opened)
    assert await look(opened, compare) == []


async def test_every_table_of_the_code_is_there_with_its_indexes(opened: OpenDatabase) -> None:
    def indexes(connection: Connection) -> dict[str, set[str | None]]:
        inspector = inspect(connection)
        return {n: {i["name"] for i in inspector.get_indexes(n)} for n in inspector.get_table_names()}

    prepared(opened)
    found = await look(opened, indexes)
    assert set(found) == {*metadata.tables, "alembic_version"}
    for name, table in metadata.tables.items():
        assert {index.name for index in table.indexes} <= found[name], name


async def test_upgrading_again_changes_nothing(opened: OpenDatabase) -> None:
    prepared(opened)
    before = await look(opened, schema)
    prepared(opened)
    assert await look(opened, schema) == before


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(opened: OpenDatabase) -> None:
    prepared(opened)
    prepared(opened, lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    before = await look(opened, schema)
    with pytest.raises(HardpointError) as caught:
        prepared(opened)
    assert caught.value.code == "SYS.1000"
    assert "at schema 9999, which this version does not know" in caught.value.details
    assert "newer one" in caught.value.remedy
    assert await look(opened, schema) == before


async def test_an_upgrade_that_fails_leaves_the_old_schema(opened: OpenDatabase) -> None:
    def half(connection: Connection) -> None:
        upgrade(connection)
        raise OSError("the power went")

    with pytest.raises(OSError, match="the power went"):
        prepared(opened, half)
    assert await look(opened, schema) == []
    prepared(opened)
    assert await look(opened, schema)


async def test_texts_are_ordered_by_their_characters_on_postgresql(
    opened: OpenDatabase, database_url: str
) -> None:
    if not database_url:
        return
    prepared(opened)
    query = text(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type IN ('character varying', 'text') AND collation_name IS DISTINCT FROM 'C'"
        " AND table_name <> 'alembic_version'"
    )
    assert await look(opened, lambda c: c.execute(query).all()) == []


def schema(connection: Connection) -> list[Any]:
    """Return all that the database says of its tables."""
    inspector = inspect(connection)
    names = sorted(inspector.get_table_names())
    return [
        (
            n,
            [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(n)],
            sorted(str(i["name"]) for i in inspector.get_indexes(n)),
        )
        for n in names
    ]


def test_a_file_of_the_database_is_where_the_settings_say(tmp_path: Path) -> None:
    from mn.db.open import open_database

    db = open_database("", tmp_path / "here")
    db.prepare(upgrade)
    db.close()
    assert (tmp_path / "here").is_file()
