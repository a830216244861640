"""Nasty conditions, kept in corpus/: each is answered or refused in words, by both databases alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from agentkit.errors import HardpointError
from mn import facilities
from mn.db.schema import metadata
from mn.facilities.hosts.tables import HOST
from mn.query.parse import parse_query
from mn.query.plan import run_query

CORPUS = [
    line
    for file in sorted((Path(__file__).parent / "corpus").glob("*.txt"))
    for line in file.read_text().splitlines()
]
CORPUS += ["name=\0", "name>\0", "name?=a,\0", "name=\ud800", "name~=\udfff%"]
CORPUS += ["name=" + "x" * 70000, "a." * 500 + "b=c"]
PARAMETERS = ["sort", "groupBy", "fields", "limit", "start", "count", "replyWithCount"]


@pytest.fixture
def hosts(connection: Connection) -> Connection:
    facilities.load()
    metadata.create_all(connection)
    return connection


def answer(connection: Connection, **parameters: list[str]) -> str:
    """Return the rows or the refusal; anything else is raised and fails the test."""
    refusal: HardpointError | None = None
    found = "{}"
    try:
        found = run_query(connection, HOST, parse_query(parameters))
    except HardpointError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code == "SYS.1007"
        assert refusal.details
        assert refusal.remedy
        return refusal.details
    assert set(json.loads(found)) <= {"inventories", "total"}
    return found


def test_every_condition_is_answered_or_refused(hosts: Connection) -> None:
    for condition in CORPUS:
        answer(hosts, q=[condition])
        answer(hosts, q=[condition], count=["true"])
        answer(hosts, q=[f"cluster.{condition}", condition], groupBy=["state"], sort=["-name"])


def test_every_parameter_is_taken_or_refused(hosts: Connection) -> None:
    for value in CORPUS:
        for name in PARAMETERS:
            answer(hosts, **{name: [value]})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from([*HOST.fields, "cluster.name", "zone.__userTag__", "__systemTag__"]),
            st.sampled_from(["=", "!=", ">", "<=", "?=", "!?=", "~=", "!~="]),
            st.text(max_size=8),
        ),
        max_size=3,
    )
)
def test_conditions_made_up_of_anything_are_answered_or_refused(
    hosts: Connection, conditions: list[str]
) -> None:
    answer(hosts, q=conditions)
