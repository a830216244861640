"""What is PostgreSQL's own: the node's lock, refusals in words, a server that goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, literal, select

from agentkit.errors import HardpointError
from mn.db.dialect import like
from mn.db.functions import like as python_like
from mn.db.open import open_database
from mn.db.postgresql import PostgresDatabase
from mn.db.postgresql_errors import check_server, place
from tests import postgres

metadata = MetaData()
note_table = Table("note", metadata, Column("id", Integer, primary_key=True), Column("text", String(5)))


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.database() as url:
        yield url


def refused(url: str) -> HardpointError:
    db = PostgresDatabase(url)
    try:
        with pytest.raises(HardpointError) as caught:
            db.prepare(metadata.create_all)
    finally:
        db.close()
    assert postgres.PASSWORD not in f"{caught.value} {caught.value.details} {caught.value.remedy}"
    return caught.value


def add(connection: Any, number: int, text: str = "") -> None:
    connection.execute(insert(note_table), {"id": number, "text": text})


def count(connection: Any) -> int:
    return len(connection.execute(select(note_table)).all())


async def test_a_second_node_on_one_database_is_refused_and_told_who_has_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mn.db.postgresql.LOCK_WAIT_S", 0.3)
    first = PostgresDatabase(url)
    first.prepare(metadata.create_all)
    first.start()
    error = await asyncio.to_thread(refused, url)
    assert error.details.startswith("another management node (hardpoint mn ")
    assert "uses the database" in error.details
    assert "stop it first" in error.remedy
    await first.write(add, 1)
    first.close()
    second = PostgresDatabase(url)
    second.prepare(metadata.create_all)
    assert await second.read(count) == 1
    second.close()


def test_a_start_waits_for_the_lock_of_a_node_that_is_ending(url: str) -> None:
    first, second = PostgresDatabase(url), PostgresDatabase(url)
    first.prepare(metadata.create_all)
    first._loop.call_soon_threadsafe(
        lambda: first._loop.call_later(0.5, lambda: first._loop.create_task(first._drop_writer()))
    )
    second.prepare(metadata.create_all)
    second.close()
    first.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda u: u.replace(postgres.PASSWORD, "wrong-" + postgres.PASSWORD[:3]), "does not let the user"),
        (lambda u: u.replace("//admin:", "//nobody:"), "does not let the user"),
        (lambda u: u.replace("@/test_", "@/absent_"), "does not exist"),
        (lambda u: u.split("?")[0] + "?host=/nowhere", "cannot be reached"),
        (lambda u: u.split("?")[0].replace("@/", "@127.0.0.1:1/"), "cannot be reached"),
    ],
)
def test_a_database_that_cannot_be_connected_to_is_named_with_the_reason(
    url: str, change: Any, words: str
) -> None:
    error = refused(change(url))
    assert (error.code, error.remedy != "") == ("SYS.1000", True)
    assert words in error.details


def test_a_user_without_the_right_to_make_tables_is_told_which_to_give(url: str) -> None:
    name = place(url).rpartition("/")[2]
    server = postgres.server()
    server.execute("DROP ROLE IF EXISTS weak", f"CREATE ROLE weak LOGIN PASSWORD '{postgres.PASSWORD}'")
    error = refused(server.url(name, "weak"))
    assert "permission denied for schema public" in error.details
    assert "GRANT CREATE" in error.remedy


def test_a_database_in_another_encoding_is_refused() -> None:
    server = postgres.server()
    name = server.create("template0", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    assert "has the encoding LATIN1" in refused(server.url(name)).details
    server.drop(name)


@pytest.mark.parametrize(
    ("version", "standby", "words"),
    [(130008, False, "is PostgreSQL 13"), (150004, True, "is a standby, which takes no writes")],
)
def test_an_old_server_and_a_standby_are_refused(version: int, standby: bool, words: str) -> None:
    server: Any = SimpleNamespace(version=version, encoding="UTF8", standby=standby)
    with pytest.raises(HardpointError, match=words):
        check_server("h:5432/d", server)


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "postgresql://h", "h/d", "postgresql://h:port/d", "sqlite:///f"]
)
def test_what_is_no_url_of_postgresql_is_refused_without_showing_it(url: str, tmp_path: Any) -> None:
    with pytest.raises(HardpointError) as caught:
        open_database(url, tmp_path / "db")
    assert caught.value.code == "SYS.1007"
    assert url not in caught.value.details
    assert "postgresql://user:password@host/database" in caught.value.remedy


def test_the_place_of_a_database_shows_no_password() -> None:
    assert (
        place("postgresql://u:secret@db.example:6432/hardpoint?sslmode=require")
        == "db.example:6432/hardpoint"
    )
    assert place("postgresql://u@/x?host=/run/pg&password=secret") == "/run/pg:5432/x"


async def test_a_value_that_does_not_fit_is_the_callers_fault(url: str) -> None:
    db = PostgresDatabase(url)
    db.prepare(metadata.create_all)
    db.start()
    for number, text in enumerate(("too long", "a\0b")):
        with pytest.raises(HardpointError) as caught:
            await db.write(add, number, text)
        assert caught.value.code == "SYS.1007"
        assert "the database refused a value" in caught.value.details
    await db.write(add, 3, "fits")
    assert await db.read(count) == 1
    db.close()


async def test_writes_and_reads_go_on_when_the_server_has_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = postgres.Server()
    try:
        db = PostgresDatabase(server.url(server.create()))
        db.prepare(metadata.create_all)
        db.start()
        with caplog.at_level(logging.DEBUG):
            for number in range(3):
                await db.write(add, number)
                await db.read(count)
                await asyncio.to_thread(server.restart)
            await asyncio.gather(*(db.write(add, number) for number in range(3, 20)))
        assert await db.read(count) == 20
        assert "database connection lost" in caplog.text
        assert postgres.PASSWORD not in caplog.text
        db.close()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    with postgres.database() as url, postgres.connected(url) as connection:
        yield connection


texts = st.text(alphabet="aAbBéÉßẞжЖΣσςKkKſsSİiıI%_.\\'\"[](){}*+?^$ \n", max_size=6) | st.text(
    alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=4
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts, texts)
def test_like_finds_the_same_on_both_databases(connection: Any, pattern: str, value: str) -> None:
    found = connection.execute(select(like(literal(value), pattern))).scalar()
    assert found == bool(python_like(pattern, value))
    assert connection.execute(select(like(literal(value), value.swapcase()))).scalar() == bool(
        python_like(value.swapcase(), value)
    )
