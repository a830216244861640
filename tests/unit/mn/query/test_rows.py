"""What the JSON of a row looks like, made by the database."""

import json

import pytest
from sqlalchemy import BigInteger, Boolean, Column, MetaData, String, Table, insert

from mn.db.schema import Document, Instant, identity_columns, private
from mn.query.parse import parse_query
from mn.query.plan import load_one, run_query
from mn.query.resource import Resource

metadata = MetaData()
thing_table = Table(
    "thing",
    metadata,
    *identity_columns("thing"),
    Column("name", String(255)),
    Column("size", BigInteger, nullable=False),
    Column("spare_size", BigInteger),
    Column("is_big", Boolean, nullable=False),
    Column("is_old", Boolean),
    Column("notes", Document, nullable=False),
    Column("more_notes", Document),
    private("secret", String(10)),
    Column("create_date", Instant, nullable=False),
    Column("end_date", Instant),
)
THING = Resource("Thing", thing_table)
FULL = {
    "uuid": "full",
    "name": 'a "name", with }{ \\ and\na ␤',
    "size": 2**60,
    "spare_size": 0,
    "is_big": True,
    "is_old": False,
    "notes": {"kept": None, "in": {"kept": None}, "list": [None, {"kept": None}], "end": "}"},
    "more_notes": {"a": []},
    "secret": "hidden",
    "create_date": 0,
    "end_date": 1_500_000_000,
}
EMPTY = {"uuid": "empty", "size": 0, "is_big": False, "notes": [], "create_date": 0}
FULL_SHOWN = {
    "uuid": "full",
    "name": FULL["name"],
    "size": 2**60,
    "spareSize": 0,
    "isBig": True,
    "isOld": False,
    "notes": FULL["notes"],
    "moreNotes": {"a": []},
    "createDate": "Jan 1, 1970 12:00:00 AM",
    "endDate": "Jul 14, 2017 2:40:00 AM",
}
EMPTY_SHOWN = {
    "uuid": "empty",
    "size": 0,
    "isBig": False,
    "notes": [],
    "createDate": "Jan 1, 1970 12:00:00 AM",
}


@pytest.fixture
def connection(connection):
    metadata.create_all(connection)
    connection.execute(insert(thing_table), FULL)
    connection.execute(insert(thing_table), EMPTY)
    return connection


def test_a_row_shows_its_public_fields_and_leaves_nulls_out(connection):
    assert json.loads(load_one(connection, THING, "full")) == FULL_SHOWN
    assert json.loads(load_one(connection, THING, "empty")) == EMPTY_SHOWN
    assert load_one(connection, THING, "absent") is None


def test_nulls_inside_a_document_belong_to_whoever_wrote_it(connection):
    assert json.loads(load_one(connection, THING, "full"))["notes"] == FULL["notes"]


def test_a_document_that_is_json_null_is_left_out_like_one_that_is_not_there(connection):
    connection.execute(insert(thing_table), {**EMPTY, "uuid": "null", "notes": None, "more_notes": None})
    assert (
        connection.exec_driver_sql("SELECT CAST(notes AS TEXT) FROM thing WHERE uuid = 'null'").scalar()
        == "null"
    )
    shown = json.loads(load_one(connection, THING, "null"))
    assert "notes" not in shown
    assert "moreNotes" not in shown


def test_a_list_shows_the_rows_in_their_order(connection):
    shown = json.loads(run_query(connection, THING, parse_query({})))
    assert shown == {"inventories": [FULL_SHOWN, EMPTY_SHOWN]}


@pytest.mark.parametrize(
    ("fields", "full", "empty"),
    [
        ("size", {"size": 2**60}, {"size": 0}),
        ("name", {"name": FULL["name"]}, {}),
        ("spareSize,isOld", {"spareSize": 0, "isOld": False}, {}),
        ("notes", {"notes": FULL["notes"]}, {"notes": []}),
        ("endDate,notes", {"endDate": FULL_SHOWN["endDate"], "notes": FULL["notes"]}, {"notes": []}),
        ("size,size,notes,notes", {"size": 2**60, "notes": FULL["notes"]}, {"size": 0, "notes": []}),
        ("name,size", {"name": FULL["name"], "size": 2**60}, {"size": 0}),
    ],
)
def test_chosen_fields_show_alone(connection, fields, full, empty):
    shown = json.loads(run_query(connection, THING, parse_query({"fields": [fields]})))
    assert shown == {"inventories": [full, empty]}


def test_a_field_that_is_asked_for_twice_is_shown_once(connection):
    text = run_query(connection, THING, parse_query({"fields": ["size,size", "size"], "limit": ["1"]}))
    assert text == f'{{"inventories":[{{"size":{2**60}}}]}}'
