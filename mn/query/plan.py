"""From a query to SQL: one SELECT finds the rows' numbers, another around it builds their JSON."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Select,
    String,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.sql import FromClause

from mn.db.dialect import joined, sorted_by
from mn.db.schema import Document
from mn.query.conditions import TAG_KINDS, condition_sql, field_of, is_text
from mn.query.parse import MAX_NUMBER, Operator, Query
from mn.query.resource import Field, Relation, Resource
from mn.query.rows import row_json, sure_first, with_list


def run_query(connection: Connection, resource: Resource, query: Query) -> str:
    """Return the reply of a query as JSON: `inventories`, `total` or both."""
    if query.count:
        return f'{{"total":{connection.execute(plan_count(resource, query)).scalar_one()}}}'
    rows = connection.execute(plan_rows(resource, query, connection.dialect)).scalar_one() or ""
    if query.reply_with_count:
        total = connection.execute(plan_count(resource, query)).scalar_one()
        return f'{{"inventories":[{rows}],"total":{total}}}'
    return f'{{"inventories":[{rows}]}}'


def load_one(connection: Connection, resource: Resource, uuid: str) -> str | None:
    """Return the inventory of one resource as JSON, None when it does not exist."""
    if not is_text(uuid):
        return None
    row: str | None = connection.execute(_plan_one(resource), {"uuid": uuid}).scalar_one_or_none()
    return row


@cache
def _plan_one(resource: Resource) -> Select[Any]:
    table = resource.table
    return select(_whole_row(resource)).where(table.c.uuid == bindparam("uuid"), _belongs(resource, table))


def plan_rows(resource: Resource, query: Query, dialect: Dialect) -> Select[Any]:
    """Return the SELECT of one value: the rows' JSON objects, joined by commas.

    Only the rows that are shown are made into JSON, and only numbers are sorted.
    """
    table = resource.table
    chosen = [field_of(resource, name, "fields") for name in dict.fromkeys(query.fields)]
    row = row_json(chosen, table) if chosen else _whole_row_text(resource, dialect)
    numbers = plan_numbers(resource, query)
    rows = (
        select(row.label("row"))
        .select_from(table)
        .where(table.c.seq.in_(numbers))
        .order_by(*_order(resource, table, query))
    )
    return select(joined(rows.subquery().c.row))


def plan_numbers(resource: Resource, query: Query) -> Select[Any]:
    """Return the SELECT of the numbers (`seq`) of the rows that are shown."""
    table = resource.table.alias("found")
    order = _order(resource, table, query)
    if query.sort is None and _is_found_by_index(query):
        order = [sorted_by(table.c.seq)]
    found = select(table.c.seq).where(_where(resource, table, query)).order_by(*order)
    return found.limit(min(query.limit, MAX_NUMBER)).offset(query.start)


def _is_found_by_index(query: Query) -> bool:
    """Say whether an index finds the rows, but not in the order they came as it does for equal values."""
    own = {c.operator for c in query.conditions if not c.hops and c.field not in TAG_KINDS}
    if own & {Operator.EQUAL, Operator.IS_NULL}:
        return False
    return bool(own & _INDEXED) or any(c.hops or c.field in TAG_KINDS for c in query.conditions)


_INDEXED = {
    Operator.IN,
    Operator.GREATER,
    Operator.GREATER_EQUAL,
    Operator.LESS,
    Operator.LESS_EQUAL,
}


def plan_count(resource: Resource, query: Query) -> Select[Any]:
    """Return the SELECT of the number of rows that match, whatever limit and start say."""
    table = resource.table.alias("found")
    return select(func.count()).select_from(table).where(_where(resource, table, query))


def _where(resource: Resource, table: FromClause, query: Query) -> ColumnElement[bool]:
    if query.group_by is None:
        return _matches(resource, table, query)
    grouped = resource.table.alias("grouped")
    column = _sortable(field_of(resource, query.group_by, "groupBy"), grouped)
    firsts = select(func.min(grouped.c.seq)).where(_matches(resource, grouped, query)).group_by(column)
    return table.c.seq.in_(firsts)


def _matches(resource: Resource, table: FromClause, query: Query) -> ColumnElement[bool]:
    conditions = (condition_sql(resource, table, condition) for condition in query.conditions)
    return and_(_belongs(resource, table), *conditions)


def _belongs(resource: Resource, table: FromClause) -> ColumnElement[bool]:
    only = resource.only or {}
    return and_(true(), *(table.c[name] == value for name, value in only.items()))


def _order(resource: Resource, table: FromClause, query: Query) -> list[Any]:
    """Return what rows are ordered by: null comes before all values, equal ones in the order they came."""
    if query.sort is None:
        return [table.c.seq]
    field = field_of(resource, query.sort, "sort")
    column = _sortable(field, table)
    if query.descending:
        return [column.desc().nulls_last() if field.column.nullable else column.desc(), table.c.seq.desc()]
    return [column.asc().nulls_first() if field.column.nullable else column.asc(), table.c.seq]


def _sortable(field: Field, table: FromClause) -> Any:
    column = table.c[field.column.name]
    return cast(column, Text) if isinstance(field.column.type, Document) else column


@cache
def _whole_row(resource: Resource) -> ColumnElement[str]:
    """Return the JSON object of all fields; making it takes longer than running it on a row does."""
    row = row_json(sure_first(resource.fields.values()), resource.table)
    for name, relation in resource.lists.items():
        row = with_list(row, name, _list_of(resource, relation))
    return row


def _list_of(resource: Resource, relation: Relation) -> ColumnElement[str]:
    """Return the rows that belong to one of `resource` as JSON objects with commas between them."""
    target = relation.target()
    local = resource.fields[relation.local].column.name
    # A text, so that the table does not become one that is selected from.
    mine = literal_column(f"{resource.table.name}.{local}", String)
    remote = target.fields[relation.remote].column
    row = _whole_row(target)
    return select(joined(row)).where(remote == mine).scalar_subquery()


@cache
def _whole_row_text(resource: Resource, dialect: Dialect) -> ColumnElement[str]:
    """Return the same as a text: SQLAlchemy looks at every part of a statement each time; this is long."""
    return literal_column(str(_whole_row(resource).compile(dialect=dialect)), String)
