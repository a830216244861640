"""From a condition to SQL: subselects follow the relations, tags are one more relation."""

from __future__ import annotations

import difflib
import operator as operators
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    String,
    Text,
    bindparam,
    case,
    cast,
    false,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.sql import FromClause

from mn.db.dialect import date_text, like
from mn.db.schema import Document, Instant
from mn.db.tags import SYSTEM, USER, tag_table
from mn.query.parse import MAX_NUMBER, Condition, Operator, bad_query
from mn.query.resource import Field, Resource

TAG_KINDS = {"__systemTag__": SYSTEM, "__userTag__": USER}
"""Conditions on the tags of a resource, as if each were a field."""

MAX_VALUES = 1000
"""Values of one `?=` condition."""

_POSITIVE = {
    Operator.NOT_EQUAL: Operator.EQUAL,
    Operator.NOT_IN: Operator.IN,
    Operator.NOT_LIKE: Operator.LIKE,
    Operator.IS_NULL: Operator.NOT_NULL,
}


def condition_sql(resource: Resource, table: FromClause, condition: Condition) -> ColumnElement[bool]:
    """Return a condition on the rows of `table`, which holds the resource.

    Raises HardpointError (SYS.1007) when it names what there is not, or a value that its field cannot have.
    """
    _refuse_loop(resource, condition)
    return _follow(resource, table, condition, condition.hops)


def field_of(resource: Resource, name: str, where: str) -> Field:
    """Return a field by its API name. Raises HardpointError (SYS.1007), which names the closest one."""
    field = resource.fields.get(name)
    if field is not None:
        return field
    first, _, rest = name.partition(".")
    if name in TAG_KINDS:
        remedy = f"tags can be asked for in conditions: q={name}=<tag>"
    elif first in resource.relations and not where.startswith("condition"):
        remedy = f"only fields of {resource.name} itself: {', '.join(resource.fields)}"
    elif first in resource.relations and not rest:
        remedy = f"'{name}' is a relation, write {name}.<field>; fields: {', '.join(resource.fields)}"
    else:
        remedy = choices(name, resource.fields, "fields")
    raise bad_query(f"{where}: {resource.name} has no field '{name}'", remedy)


def choices(name: str, known: Iterable[str], what: str) -> str:
    """Return the remedy for a name that is unknown: the closest one and all there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}{what}: {', '.join(known) or 'none'}"


def _target(resource: Resource, hop: str, condition: Condition) -> Resource:
    relation = resource.relations.get(hop)
    if relation is None:
        raise bad_query(
            f"condition '{condition.text}': {resource.name} has no relation '{hop}'",
            choices(hop, resource.relations, "relations"),
        )
    return relation.target()


def _refuse_loop(root: Resource, condition: Condition) -> None:
    """Refuse a path that comes back to where it has been, naming the path without the loop."""
    path: list[tuple[str, Resource]] = [("", root)]
    loop = ""
    for at, hop in enumerate(condition.hops):
        target = _target(path[-1][1], hop, condition)
        seen = next((n for n, (_, resource) in enumerate(path) if resource is target), None)
        if seen is None:
            path.append((hop, target))
            continue
        del path[seen + 1 :]
        start = root.name[:1].lower() + root.name[1:]
        loop = loop or f"{'.'.join((start, *condition.hops[: at + 1]))} comes back to {target.name}"
    if loop:
        end = condition.text[len(".".join(condition.hops)) + 1 :]
        short = ".".join([hop for hop, _ in path[1:]] + [end])
        raise bad_query(f"condition '{condition.text}': {loop}", f"write {short}")


def _follow(
    resource: Resource, table: FromClause, condition: Condition, hops: tuple[str, ...]
) -> ColumnElement[bool]:
    if not hops:
        if condition.field in TAG_KINDS:
            return _tagged(table, condition)
        field = field_of(resource, condition.field, f"condition '{condition.text}'")
        return _compare(field, table.c[field.column.name], condition, condition.operator)
    relation = resource.relations[hops[0]]
    target = relation.target()
    related = target.table.alias()
    local = table.c[resource.fields[relation.local].column.name]
    remote = related.c[target.fields[relation.remote].column.name]
    # An uncorrelated subselect lets SQLite begin with what the condition finds; EXISTS would try all rows.
    return local.in_(select(remote).where(_follow(target, related, condition, hops[1:])))


def _tagged(table: FromClause, condition: Condition) -> ColumnElement[bool]:
    """Say whether some tag meets the condition; for its negative operators, whether none does."""
    tag = tag_table.alias()
    field = Field(condition.field, tag_table.c.tag)
    positive = _POSITIVE.get(condition.operator, condition.operator)
    wanted = tag.c.type == TAG_KINDS[condition.field]
    owners = select(tag.c.resource_uuid).where(wanted, _compare(field, tag.c.tag, condition, positive))
    found = table.c.uuid.in_(owners)
    return found if positive is condition.operator else not_(found)


def _compare(field: Field, column: Any, condition: Condition, operator: Operator) -> ColumnElement[bool]:
    kind = field.column.type
    if operator in (Operator.IS_NULL, Operator.NOT_NULL):
        empty = column.is_(None)
        if isinstance(kind, Document):
            empty = or_(empty, cast(column, Text) == "null")
        return empty if operator is Operator.IS_NULL else not_(empty)  # type: ignore[no-any-return]
    if field.column.info.get("members"):
        return _has_member(column, condition, operator)
    if isinstance(kind, Document):
        raise bad_query(
            f"condition '{condition.text}': {field.name} is an object", "compare it with null only"
        )
    if not is_text(condition.value):
        return _compare_no_text(column, condition, operator)
    if operator in (Operator.LIKE, Operator.NOT_LIKE):
        matches = like(_as_text(field, column), condition.value)
        return matches if operator is Operator.LIKE else not_(matches)
    bound = BigInteger() if isinstance(kind, Integer) else String() if isinstance(kind, String) else kind
    if operator in (Operator.IN, Operator.NOT_IN):
        values = _values(field, condition)
        among = bindparam("values", values, type_=bound, expanding=True, unique=True)
        return column.in_(among) if operator is Operator.IN else column.not_in(among)  # type: ignore[no-any-return]
    value = literal(_value(field, condition.value, condition), bound)
    return _COMPARE[operator](column, value)  # type: ignore[no-any-return]


def _has_member(column: Any, condition: Condition, operator: Operator) -> ColumnElement[bool]:
    """Say whether a list of uuids has one of those that are given; for negative operators, none of them."""
    positive = _POSITIVE.get(operator, operator)
    if positive not in (Operator.EQUAL, Operator.IN):
        raise bad_query(
            f"condition '{condition.text}': {condition.field} is a list",
            "use =, !=, ?= or !?= with what it has",
        )
    wanted = condition.value.split(",") if positive is Operator.IN else [condition.value]
    text = cast(column, Text)
    found = or_(false(), *(text.contains(f'"{value}"', autoescape=True) for value in wanted[:MAX_VALUES]))
    return found if positive is operator else not_(found)


_COMPARE: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: operators.eq,
    Operator.NOT_EQUAL: operators.ne,
    Operator.GREATER: operators.gt,
    Operator.LESS: operators.lt,
    Operator.GREATER_EQUAL: operators.ge,
    Operator.LESS_EQUAL: operators.le,
}

_DATE_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "%b %d, %Y %I:%M:%S %p")


def _values(field: Field, condition: Condition) -> Sequence[Any]:
    parts = condition.value.split(",")
    if len(parts) > MAX_VALUES:
        raise bad_query(
            f"condition on '{condition.field}' has {len(parts)} values", f"give up to {MAX_VALUES:,} at once"
        )
    return [_value(field, part, condition) for part in parts]


def _value(field: Field, given: str, condition: Condition) -> Any:
    """Return a condition's value as the column holds it."""
    kind = field.column.type
    if isinstance(kind, Instant):
        for form in _DATE_FORMS:
            try:
                return int(datetime.strptime(given, form).replace(tzinfo=UTC).timestamp())
            except ValueError:
                continue
        wanted = "a date such as 2017-01-06 03:51:16 (UTC)"
    elif isinstance(kind, Boolean):
        if given.lower() in ("true", "false"):
            return given.lower() == "true"
        wanted = "true or false"
    elif isinstance(kind, Integer):
        if match := re.fullmatch(r"([+-]?\d{1,19})(?:\.0+)?", given, re.ASCII):
            return max(-MAX_NUMBER, min(int(match[1]), MAX_NUMBER))
        wanted = "a whole number"
    else:
        return given
    raise bad_query(f"condition '{condition.text}': '{given}' is no value of {field.name}", f"give {wanted}")


def is_text(given: str) -> bool:
    """Say whether a database can hold a text: none holds U+0000 and halves of characters."""
    return "\0" not in given and not any("\ud800" <= character <= "\udfff" for character in given)


def _compare_no_text(column: Any, condition: Condition, operator: Operator) -> ColumnElement[bool]:
    """Return a condition whose value nothing can be equal to."""
    if operator in (Operator.EQUAL, Operator.LIKE):
        return false()
    if operator in (Operator.NOT_EQUAL, Operator.NOT_LIKE):
        return column.is_not(None)  # type: ignore[no-any-return]
    path = ".".join((*condition.hops, condition.field))
    raise bad_query(f"condition on '{path}': a value has a character that no text has", "leave out U+0000")


def _as_text(field: Field, column: Any) -> Any:
    match field.column.type:
        case Instant():
            return date_text(column)
        case Boolean():
            return case((column == true(), "true"), (column == false(), "false"))
        case Integer():
            return cast(column, String)
    return column
