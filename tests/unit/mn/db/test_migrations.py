from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text

import mn.app
from agentkit.errors import HardpointError
from mn import facilities
from mn.db.engine import Database
from mn.db.migrations import upgrade
from mn.db.schema import metadata


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at the newest schema."""
    assert mn.app.fleet_table.metadata is metadata
    facilities.load()
    path = tmp_path_factory.mktemp("migrated") / "db"
    Database(path).prepare(upgrade)
    return path


@pytest.fixture
def connection(migrated: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_the_migrations_lead_to_the_schema_that_the_code_declares(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    assert compare_metadata(context, metadata) == []


def test_every_table_of_the_code_is_there_with_its_indexes(connection: Connection) -> None:
    inspector = inspect(connection)
    assert set(inspector.get_table_names()) == {*metadata.tables, "alembic_version"}
    for name, table in metadata.tables.items():
        declared = {index.name for index in table.indexes}
        assert declared <= {index["name"] for index in inspector.get_indexes(name)}, name


def test_upgrading_again_changes_nothing(migrated: Path) -> None:
    before = _schema(migrated)
    Database(migrated).prepare(upgrade)
    assert _schema(migrated) == before


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    Database(path).prepare(upgrade)
    _execute(path, "UPDATE alembic_version SET version_num = '9999'")
    before = _schema(path)
    with pytest.raises(HardpointError) as caught:
        Database(path).prepare(upgrade)
    assert caught.value.code == "SYS.1000"
    assert "at schema 9999, which this version does not know" in caught.value.details
    assert "newer one" in caught.value.remedy
    assert _schema(path) == before


def test_an_upgrade_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "db"

    def half(connection: Connection) -> None:
        upgrade(connection)
        raise OSError("the power went")

    with pytest.raises(OSError, match="the power went"):
        Database(path).prepare(half)
    assert _schema(path) == []
    Database(path).prepare(upgrade)
    assert _schema(path)


def _schema(path: Path) -> list[str]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        found = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))
        statements = list(found.scalars())
    engine.dispose()
    return statements


def _execute(path: Path, statement: str) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
