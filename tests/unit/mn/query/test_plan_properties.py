"""The planner against an evaluator that goes over the rows one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Connection, MetaData, String, Table, delete, insert

from mn.db.functions import format_date
from mn.db.schema import Document, Instant, identity_columns, uuid_column
from mn.query.parse import Condition, Operator, Query
from mn.query.plan import run_query
from mn.query.resource import Relation, Resource

metadata = MetaData()
shelf_table = Table("shelf", metadata, *identity_columns("shelf"), Column("name", String(50)))
book_table = Table(
    "book",
    metadata,
    *identity_columns("book"),
    uuid_column("shelf_uuid"),
    Column("name", String(50)),
    Column("page_count", BigInteger),
    Column("lent", Boolean),
    Column("bought_on", Instant),
    Column("extra", Document(none_as_null=True)),
)
SHELF = Resource("Shelf", shelf_table)
BOOK = Resource("Book", book_table, {"shelf": Relation(lambda: SHELF, "shelfUuid", "uuid")})
SHELF.relations["book"] = Relation(lambda: BOOK, "uuid", "shelfUuid")

Row = dict[str, Any]
LETTERS = "aAbéÉжЖΣσςKkKſ%_.*+?^$[](){}|\\'\", \n\t"
texts = st.text(alphabet=LETTERS, max_size=4) | st.text(alphabet="ab%_", max_size=8)
moments = st.integers(0, 4_000_000_000)
numbers = st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63)])
SHELVES = ["1" * 32, "2" * 32, "3" * 32]

books = st.lists(
    st.fixed_dictionaries(
        {
            "shelfUuid": st.none() | st.sampled_from(SHELVES),
            "name": st.none() | texts,
            "pageCount": st.none() | numbers,
            "lent": st.none() | st.booleans(),
            "boughtOn": st.none() | moments,
            "extra": st.none() | st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=1),
        }
    ),
    max_size=8,
).map(lambda rows: [{"uuid": f"{n:032x}", **row} for n, row in enumerate(rows)])
shelves = st.lists(st.none() | texts, min_size=2, max_size=2).map(
    lambda names: [{"uuid": u, "name": n} for u, n in zip(SHELVES, names, strict=False)]
)


def _date(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


VALUES = {
    "name": texts,
    "pageCount": numbers.map(str),
    "lent": st.sampled_from(["true", "false", "TRUE"]),
    "boughtOn": moments.map(_date),
}
NULLS = (Operator.IS_NULL, Operator.NOT_NULL)
LIKES = (Operator.LIKE, Operator.NOT_LIKE)
LISTS = (Operator.IN, Operator.NOT_IN)


@st.composite
def conditions(draw: st.DrawFn, hops: tuple[str, ...] = ()) -> Condition:
    name = "name" if hops and hops[-1] == "shelf" else draw(st.sampled_from([*VALUES, "extra"]))
    operator = draw(st.sampled_from(NULLS if name == "extra" else tuple(Operator)))
    if operator in NULLS:
        value = ""
    elif operator in LIKES:
        value = draw(texts if name != "boughtOn" else st.sampled_from(["%AM", "jan%", "%", "%, 20__ %"]))
    elif operator in LISTS:
        value = ",".join(draw(st.lists(VALUES[name], min_size=1, max_size=3)))
    else:
        value = draw(VALUES[name])
    return Condition("as written", hops, name, operator, value)


def _convert(name: str, text: str) -> Any:
    if name == "pageCount":
        return max(-(2**63 - 1), int(text))
    if name == "lent":
        return text.lower() == "true"
    if name == "boughtOn":
        return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    return text


def _like(pattern: str, text: str) -> bool:
    @lru_cache(None)
    def rest(p: int, t: int) -> bool:
        if p == len(pattern):
            return t == len(text)
        if pattern[p] == "%":
            return any(rest(p + 1, end) for end in range(t, len(text) + 1))
        same = t < len(text) and (pattern[p] == "_" or pattern[p].casefold() == text[t].casefold())
        return same and rest(p + 1, t + 1)

    return rest(0, 0)


def _shown(name: str, value: Any) -> str:
    if name == "boughtOn":
        return str(format_date(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def holds(row: Row, condition: Condition) -> bool:
    """Say whether a row meets a condition on its own field; a null meets nothing but `is null`."""
    value, operator, name = row[condition.field], condition.operator, condition.field
    if operator in NULLS:
        return (value is None) == (operator is Operator.IS_NULL)
    if value is None:
        return False
    if operator in LIKES:
        return _like(condition.value, _shown(name, value)) == (operator is Operator.LIKE)
    if operator in LISTS:
        among = value in [_convert(name, part) for part in condition.value.split(",")]
        return among == (operator is Operator.IN)
    other = _convert(name, condition.value)
    return {
        Operator.EQUAL: value == other,
        Operator.NOT_EQUAL: value != other,
        Operator.GREATER: value > other,
        Operator.LESS: value < other,
        Operator.GREATER_EQUAL: value >= other,
        Operator.LESS_EQUAL: value <= other,
    }[operator]


def inventory(row: Row, fields: tuple[str, ...] = ()) -> Row:
    """Return a row as the API shows it."""
    names = fields or tuple(row)
    shown = {n: format_date(row[n]) if n == "boughtOn" else row[n] for n in names}
    return {n: value for n, value in shown.items() if value is not None}


def fill(connection: Connection, book_rows: list[Row], shelf_rows: list[Row]) -> None:
    metadata.create_all(connection)
    for resource, rows in ((BOOK, book_rows), (SHELF, shelf_rows)):
        connection.execute(delete(resource.table))
        columns = {name: field.column.name for name, field in resource.fields.items()}
        for row in rows:
            connection.execute(insert(resource.table), {columns[n]: value for n, value in row.items()})


def inventories(connection: Connection, resource: Resource, query: Query) -> list[Row]:
    found: list[Row] = json.loads(run_query(connection, resource, query))["inventories"]
    return found


many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(books, st.lists(conditions(), min_size=1, max_size=3))
def test_conditions_choose_the_rows_that_meet_all_of_them(
    connection: Connection, rows: list[Row], wanted: list[Condition]
) -> None:
    fill(connection, rows, [])
    expected = [inventory(row) for row in rows if all(holds(row, c) for c in wanted)]
    query = Query(conditions=tuple(wanted))
    assert inventories(connection, BOOK, query) == expected
    assert json.loads(run_query(connection, BOOK, replace(query, count=True))) == {"total": len(expected)}


@many
@given(books, shelves, conditions(("shelf",)), conditions(("book",)))
def test_conditions_on_related_rows_ask_whether_one_of_them_meets_it(
    connection: Connection,
    rows: list[Row],
    shelf_rows: list[Row],
    on_shelf: Condition,
    on_book: Condition,
) -> None:
    fill(connection, rows, shelf_rows)

    def shelves_of(row: Row) -> list[Row]:
        return [s for s in shelf_rows if s["uuid"] == row["shelfUuid"]]

    def books_of(shelf: Row) -> list[Row]:
        return [b for b in rows if b["shelfUuid"] == shelf["uuid"]]

    expected = [inventory(b) for b in rows if any(holds(s, on_shelf) for s in shelves_of(b))]
    assert inventories(connection, BOOK, Query(conditions=(on_shelf,))) == expected
    expected = [inventory(s) for s in shelf_rows if any(holds(b, on_book) for b in books_of(s))]
    assert inventories(connection, SHELF, Query(conditions=(on_book,))) == expected


@many
@given(
    books,
    st.sampled_from(["name", "pageCount", "lent", "boughtOn", "uuid"]),
    st.booleans(),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_sorting_and_paging_cut_one_sequence(
    connection: Connection, rows: list[Row], field: str, descending: bool, start: int, limit: int
) -> None:
    fill(connection, rows, [])
    lowest = "" if field in ("name", "uuid") else 0
    ordered = sorted(rows, key=lambda r: (r[field] is not None, lowest if r[field] is None else r[field]))
    if descending:
        ordered.reverse()
    query = Query(sort=field, descending=descending, start=start, limit=limit, reply_with_count=True)
    reply = json.loads(run_query(connection, BOOK, query))
    assert reply == {
        "inventories": [inventory(row) for row in ordered[start : start + limit]],
        "total": len(rows),
    }


@many
@given(books, conditions(), st.sampled_from(["name", "pageCount", "lent", "boughtOn"]))
def test_grouping_shows_one_row_for_each_value_among_those_that_match(
    connection: Connection, rows: list[Row], condition: Condition, field: str
) -> None:
    fill(connection, rows, [])
    firsts: dict[Any, Row] = {}
    for row in rows:
        if holds(row, condition):
            firsts.setdefault(row[field], row)
    query = Query(conditions=(condition,), group_by=field)
    assert inventories(connection, BOOK, query) == [inventory(row) for row in firsts.values()]
    assert json.loads(run_query(connection, BOOK, replace(query, count=True))) == {"total": len(firsts)}


@many
@given(books, st.lists(st.sampled_from(list(BOOK.fields)), min_size=1, max_size=9))
def test_only_the_fields_that_were_asked_for_are_shown_once_each_in_their_order(
    connection: Connection, rows: list[Row], fields: list[str]
) -> None:
    fill(connection, rows, [])
    found = inventories(connection, BOOK, Query(fields=tuple(fields)))
    assert found == [inventory(row, tuple(fields)) for row in rows]
    for row in found:
        assert list(row) == [name for name in dict.fromkeys(fields) if name in row]
