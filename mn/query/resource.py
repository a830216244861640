"""What can be queried: a table, its fields as the API names them, and its relations to other resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import Boolean, Column, Integer, Table

from mn.db.schema import Document, Instant, camel


@dataclass(frozen=True)
class Field:
    """A field of a resource: its API name and its column."""

    name: str
    column: Column[object]

    @property
    def api_type(self) -> str:
        """The type as the manual writes it."""
        match self.column.type:
            case Instant():
                return "Timestamp"
            case Document():
                return "Object"
            case Boolean():
                return "boolean"
            case Integer():
                return "Long"
        return "String"


@dataclass(frozen=True)
class Relation:
    """A step of a join: rows of `target` whose `remote` field equals this resource's `local` field."""

    target: Callable[[], Resource]
    local: str
    remote: str


@dataclass(frozen=True, eq=False)
class Resource:
    """A queryable resource, equal to itself only. Private columns are neither shown nor filtered by.

    `only` are values that a row's columns must have to belong to it, when it is not the whole table.
    """

    name: str
    table: Table
    relations: dict[str, Relation] = field(default_factory=dict)
    only: dict[str, str] | None = None
    lists: dict[str, Relation] = field(default_factory=dict)
    """Other resources' rows that an inventory shows whole, by the key that has them."""

    def __post_init__(self) -> None:
        if not {"seq", "uuid"} <= set(self.table.columns.keys()):
            raise TypeError(f"table {self.table.name} of {self.name} lacks identity_columns()")
        _known[self.name] = self

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Return the public fields by API name, in the order of the table's columns."""
        public = (c for c in self.table.columns if not c.info.get("private"))
        return {camel(c.name): Field(camel(c.name), c) for c in public}


_known: dict[str, Resource] = {}


def known_resources() -> dict[str, Resource]:
    """Return all resources by name."""
    return _known
