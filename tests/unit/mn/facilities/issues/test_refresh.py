"""Issues begin, go on and end with what the checks find."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from mn import facilities
from mn.db.migrations import upgrade
from mn.facilities.hosts.tables import host_table
from mn.facilities.issues import refresh
from mn.facilities.issues.refresh import differs, refresh_issues, write_issues
from mn.facilities.issues.tables import issue_table
from tests.unit.mn.conftest import OpenDatabase
from tests.unit.mn.facilities.fleet import HOST, fill, new_connection, put_host


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        yield connection


def become(connection: Connection, status: str, **more: Any) -> None:
    connection.execute(update(host_table).where(host_table.c.uuid == HOST).values(status=status, **more))


def issues(connection: Connection) -> list[Any]:
    """The issues after the checks have run."""
    if differs(connection):
        write_issues(connection)
    assert not differs(connection)
    return list(connection.execute(select(issue_table)))


def test_an_issue_comes_with_its_remedy_and_goes_with_its_cause(connection: Connection) -> None:
    assert issues(connection) == []
    become(connection, "Disconnected")
    (issue,) = issues(connection)
    assert (issue.code, issue.resource_type, issue.resource_uuid) == ("HOST.DISCONNECTED", "Host", HOST)
    assert (issue.severity, issue.operation) == ("Critical", "ReconnectHost")
    assert "ReconnectHost" in issue.remedy
    become(connection, "Connected")
    assert issues(connection) == []


def test_an_issue_keeps_its_beginning_while_it_lasts_and_its_uuid_for_good(connection: Connection) -> None:
    become(connection, "Disconnected")
    (first,) = issues(connection)
    connection.execute(update(issue_table).values(since=5, last_op_date=5))
    (same,) = issues(connection)
    assert (same.since, same.last_op_date) == (5, 5)
    become(connection, "Disconnected", management_ip="elsewhere.example")
    (changed,) = issues(connection)
    assert "elsewhere.example" in changed.evidence
    assert (changed.uuid, changed.since) == (first.uuid, 5)
    assert changed.last_op_date > 5
    become(connection, "Connected")
    assert issues(connection) == []
    become(connection, "Disconnected")
    (again,) = issues(connection)
    assert again.uuid == first.uuid
    assert again.since > 5


def test_a_host_that_is_tried_anew_is_lost_since_the_same_time(connection: Connection) -> None:
    become(connection, "Disconnected")
    issues(connection)
    connection.execute(update(issue_table).values(since=5))
    become(connection, "Connecting")
    assert [issue.since for issue in issues(connection)] == [5]
    become(connection, "Connected")
    assert issues(connection) == []
    become(connection, "Connecting")
    assert issues(connection) == []


def test_issues_of_several_hosts_are_several(connection: Connection) -> None:
    put_host(connection, "b" * 32, status="Disconnected")
    become(connection, "Disconnected")
    found = issues(connection)
    assert {issue.resource_uuid for issue in found} == {HOST, "b" * 32}
    assert len({issue.uuid for issue in found}) == 2


async def test_looks_soon_after_another_are_none_and_an_unchanged_fleet_is_only_read(
    opened: OpenDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    facilities.load()
    db = opened()
    db.prepare(upgrade)
    db.start()
    try:
        await db.write(fill)
        written: list[Any] = []

        async def write(fn: Any) -> Any:
            written.append(fn)
            return await db.write(fn)

        watched = SimpleNamespace(read=db.read, write=write)
        services: Any = SimpleNamespace(db=watched, incarnation=uuid.uuid4().hex)
        monkeypatch.setattr(refresh, "FRESH_FOR_S", 3600.0)
        await refresh_issues(services)
        assert written == [], "a healthy fleet is only read"
        await db.write(become, "Disconnected")
        await refresh_issues(services)
        assert await db.read(codes) == [], "somebody has just looked"

        monkeypatch.setattr(refresh, "FRESH_FOR_S", 0.0)
        await refresh_issues(services)
        assert await db.read(codes) == ["HOST.DISCONNECTED"]
        before = len(written)
        await refresh_issues(services)
        assert len(written) == before, "the same again is only read"
        await db.write(become, "Connected")
        await refresh_issues(services)
        assert await db.read(codes) == []
    finally:
        db.close()


def codes(connection: Connection) -> list[str]:
    return list(connection.execute(select(issue_table.c.code)).scalars())
