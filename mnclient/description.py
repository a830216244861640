"""What the client knows of the API: the description that it ships, and that of the node it talks to."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("api_description.json")

QUERY_OPTIONS = (
    ("conditions", "List", "conditions that rows must meet, all of them: name=web, cpuNum>4"),
    ("limit", "Integer", "the most rows to return (1000 when it is not given)"),
    ("start", "Integer", "the number of rows to skip"),
    ("count", "Boolean", "return the number of rows instead of the rows"),
    ("groupBy", "String", "a field to group by"),
    ("replyWithCount", "Boolean", "return the number of all rows beside the page"),
    ("sortBy", "String", "a field to sort by"),
    ("sortDirection", "String", "asc or desc"),
    ("fields", "List", "the fields to return"),
)


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operation. `enum` empty: any value of its type."""

    name: str
    type: str
    required: bool = False
    description: str = ""
    items: str = "String"
    enum: tuple[str, ...] = ()
    secret: bool = False
    default: object = None


@dataclass(frozen=True)
class Field:
    """A field of a resource."""

    name: str
    type: str
    description: str = ""
    enum: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """An operation: how it is sent and what it takes."""

    name: str
    kind: str
    method: str
    job: bool
    paths: tuple[str, ...]
    wrapper: str | None
    session: bool
    reply: str | None
    description: str
    parameters: Mapping[str, Parameter]
    returns: tuple[Field, ...] = ()
    """Keys of a reply that is no resource."""
    served: bool = True
    """False when the node that the client talks to does not know it."""

    @property
    def is_query(self) -> bool:
        """Whether it takes conditions."""
        return self.kind == "query"


@dataclass(frozen=True)
class Resource:
    """A resource: its fields, and by the name of each join the resource that it leads to."""

    name: str
    fields: Mapping[str, Field]
    relations: Mapping[str, str]


@dataclass(frozen=True)
class Description:
    """All operations and resources by name. `version` is that of the node, empty for the shipped one."""

    operations: Mapping[str, Operation]
    resources: Mapping[str, Resource]
    version: str = ""
    _queries: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for operation in self.operations.values():
            if operation.is_query and operation.reply:
                self._queries.setdefault(operation.reply, operation.name)

    def query_of(self, resource: str) -> Operation | None:
        """Return the operation that queries a resource."""
        name = self._queries.get(resource)
        return self.operations[name] if name else None

    def follow(self, resource: str | None, hops: Iterable[str]) -> Resource | None:
        """Return the resource that joins lead to, None when one of them does not exist."""
        found = self.resources.get(resource or "")
        for hop in hops:
            found = self.resources.get(found.relations.get(hop, "")) if found else None
        return found

    def referred(self, operation: Operation, parameter: str) -> str | None:
        """Return the resource whose uuid a parameter holds: `zoneUuid` -> Zone, `uuid` by the operation."""
        stem = re.sub(r"Uuids?$", "", parameter)
        if parameter in ("uuid", "resourceUuid"):
            return None if parameter == "resourceUuid" else self._subject(operation)
        return self.named_by(stem) if stem != parameter else None

    def named_by(self, stem: str) -> str | None:
        """Return the resource that a name ends with: `lastHost` -> Host; the longest that fits."""
        fits = [r for r in self.resources if stem.lower().endswith(r.lower())]
        return max(fits, key=len, default=None)

    def _subject(self, operation: Operation) -> str | None:
        if operation.reply in self.resources:
            return operation.reply
        collection = operation.paths[0].split("/{", maxsplit=1)[0]
        for query in self.operations.values():
            if query.is_query and query.paths[0] == collection:
                return query.reply
        return max((r for r in self.resources if r in operation.name), key=len, default=None)


def parse(raw: Mapping[str, Any]) -> Description:
    """Return the description in JSON that `python -m mn describe` wrote; what it does not know it
    leaves aside.
    """
    operations = {name: _operation(name, value) for name, value in raw["operations"].items()}
    resources = {name: _resource(name, value) for name, value in raw["resources"].items()}
    return Description(operations, resources, str(raw.get("version", "")))


@cache
def shipped() -> Description:
    """Return the description of the API that this client was made for."""
    return parse(json.loads(SHIPPED.read_text()))


def merge(own: Description, nodes: Description) -> Description:
    """Return what can be called on a node: its own description, and what only the client knows as not
    served.
    """
    missing = {
        name: replace(operation, served=False)
        for name, operation in own.operations.items()
        if name not in nodes.operations
    }
    operations = dict(sorted({**nodes.operations, **missing}.items()))
    return Description(operations, {**own.resources, **nodes.resources}, nodes.version)


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'name'?`, or nothing."""
    meant = closest(word, known)
    return f"; did you mean '{meant}'?" if meant else ""


def query_parameters() -> dict[str, Parameter]:
    """Return what all queries take beside conditions."""
    found = {name: Parameter(name, kind, description=text) for name, kind, text in QUERY_OPTIONS}
    found["sortDirection"] = replace(found["sortDirection"], enum=("asc", "desc"))
    return found


def _operation(name: str, raw: Mapping[str, Any]) -> Operation:
    parameters = {p["name"]: _parameter(p) for p in raw["parameters"]}
    if raw["kind"] == "query":
        parameters = {**query_parameters(), **parameters}
    for path in raw["paths"]:
        for placeholder in placeholders(path):
            if raw["kind"] != "query":
                parameters.setdefault(placeholder, Parameter(placeholder, "String", required=True))
    return Operation(
        name=name,
        kind=raw["kind"],
        method=raw["method"],
        job=raw["job"],
        paths=tuple(raw["paths"]),
        wrapper=raw.get("wrapper"),
        session=raw["session"],
        reply=raw.get("reply"),
        description=raw.get("description", ""),
        parameters=parameters,
        returns=tuple(_field(f) for f in raw.get("returns", ())),
    )


def placeholders(path: str) -> Iterator[str]:
    """Return the names of a path's placeholders."""
    return (m[1] for m in re.finditer(r"\{(\w+)\}", path))


def _parameter(raw: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=raw["name"],
        type=raw["type"],
        required=raw.get("required", False),
        description=raw.get("description", ""),
        items=raw.get("items", "String"),
        enum=tuple(str(value) for value in raw.get("enum", ())),
        secret=raw.get("secret", False),
        default=raw.get("default"),
    )


def _resource(name: str, raw: Mapping[str, Any]) -> Resource:
    fields = {f["name"]: _field(f) for f in raw["fields"]}
    return Resource(name, fields, dict(raw.get("relations", {})))


def _field(raw: Mapping[str, Any]) -> Field:
    return Field(raw["name"], raw["type"], raw.get("description", ""), tuple(raw.get("enum", ())))
