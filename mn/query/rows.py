"""From a row to the JSON object that the API shows, built in SQL."""

from __future__ import annotations

import operator as operators
from collections.abc import Iterable
from functools import reduce
from typing import Any

from sqlalchemy import Boolean, ColumnElement, String, case, func, literal_column
from sqlalchemy.sql import FromClause

from mn.db.dialect import date_text, document_text, json_row, json_text, json_truth
from mn.db.schema import Document, Instant
from mn.query.resource import Field


def row_json(fields: Iterable[Field], table: FromClause) -> ColumnElement[str]:
    """Return an expression that makes a JSON object of a row and leaves nulls out.

    What is never null makes an object whose brace is cut off again, the rest follows where it is not null.
    json_patch would do the same for all fields at once, in half again the time, but would leave out nulls
    inside documents as well.
    """
    always: list[Any] = []
    sometimes: list[ColumnElement[str]] = []
    for field in fields:
        column = table.c[field.column.name]
        if isinstance(field.column.type, Document):
            # A document may be JSON's null, and its brace must not be cut off.
            shown = _text(f',"{field.name}":') + document_text(column)
            sometimes.append(func.coalesce(shown, _text(""), type_=String))
        elif field.column.nullable:
            shown = _text(f',"{field.name}":') + json_text(_json_value(field, column))
            sometimes.append(case((column.is_(None), _text("")), else_=shown))
        else:
            always += [_text(field.name), _json_value(field, column)]
    if not always:
        return _text("{") + func.substr(reduce(operators.add, sometimes), 2, type_=String) + _text("}")
    built: ColumnElement[str] = json_row(*always)
    if not sometimes:
        return built
    return reduce(operators.add, sometimes, func.rtrim(built, _text("}"), type_=String)) + _text("}")


def _text(constant: str) -> ColumnElement[str]:
    """Return a constant of this program as SQL; it has no quote in it."""
    return literal_column(f"'{constant}'", String)


def _json_value(field: Field, column: Any) -> Any:
    match field.column.type:
        case Instant():
            return date_text(column)
        case Boolean():
            return json_truth(column)
    return column
