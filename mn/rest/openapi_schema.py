"""From parameters' types and resources' columns to JSON schemas, each with its description."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import msgspec
from sqlalchemy import String

from mn.db.schema import Document, Instant
from mn.query.resource import Field, Relation, Resource
from mn.rest.operation import Operation
from mn.rest.parameters import describe
from mn.rest.types import HostAddress, HostStateEvent, Secret, StateEvent, StorageStateEvent

_TEXTS = {
    "uuid": "UUID of the resource",
    "resourceUuid": "UUID for the new resource; one is made when it is left out",
    "systemTags": "system tags for the resource; they may also stand beside the parameters",
    "userTags": "user tags for the resource; they may also stand beside the parameters",
    "sessionUuid": "UUID of the session",
    "accountName": "name of the account",
    "deleteMode": "Permissive stops at the first refusal, Enforcing goes on whatever happens",
    "password": "password; it is stored encrypted and never shown",
    "stateEvent": "what to do to the state",
}
"""What parameters are that occur everywhere, where no column of the operation's resource says it."""


def parameter_text(operation: type[Operation], name: str, kind: Any) -> str:
    """Return what a parameter is and what it may hold: its own description, or its column's comment, or
    what the name always means, and then its type's words.
    """
    bounds = describe(kind)
    resource = operation.spec.reply
    meaning = ""
    if name in ("systemTags", "userTags", "resourceUuid"):
        return _TEXTS[name]
    if resource and name in resource.fields:
        meaning = resource.fields[name].column.comment or ""
    meaning = meaning or _TEXTS.get(name, "")
    return f"{meaning}: {bounds}" if meaning else bounds


def field_schema(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """Return the schema of a parameter, without None: it is left out instead."""
    schema = type_schema(field.type)
    if field.default is not msgspec.NODEFAULT and field.default is not None:
        schema["default"] = msgspec.to_builtins(field.default)
    return schema


def type_schema(kind: Any) -> dict[str, Any]:
    """Return the schema of a type, self-contained."""
    schema = msgspec.json.schema(_without_none(kind), schema_hook=_schema_hook)
    definitions = schema.pop("$defs", {})
    resolved: dict[str, Any] = _resolve(schema, definitions)
    return resolved


def resource_schema(resource: Resource) -> dict[str, Any]:
    """Return the schema of a resource's inventory."""
    return {
        "type": "object",
        "description": f"{resource.name} as the API shows it; fields without a value are left out.",
        "properties": {
            **{name: _column_schema(field) for name, field in resource.fields.items()},
            **{name: _list_schema(relation) for name, relation in resource.lists.items()},
        },
    }


def _list_schema(relation: Relation) -> dict[str, Any]:
    target = relation.target()
    meaning = f"its rows of {target.name}"
    return {"type": "array", "description": meaning, "items": {"type": "object", "title": target.name}}


_COLUMN_TYPES: dict[str, dict[str, Any]] = {
    "Timestamp": {"type": "string", "examples": ["Jan 6, 2017 3:51:16 AM"]},
    "Object": {},
    "boolean": {"type": "boolean"},
    "Long": {"type": "integer"},
    "String": {"type": "string"},
}


def _column_schema(field: Field) -> dict[str, Any]:
    column = field.column
    schema = dict(_COLUMN_TYPES[field.api_type])
    if isinstance(column.type, String) and column.type.length:
        schema["maxLength"] = column.type.length
    if isinstance(column.type, Instant):
        schema["description"] = f"{column.comment or ''} (UTC)".strip()
    elif column.comment:
        schema["description"] = column.comment
    if isinstance(column.type, Document):
        schema.pop("type", None)
    return schema


def _without_none(kind: Any) -> Any:
    """Return `X` of `X | None`; None is how a parameter is left out."""
    if type(None) not in get_args(kind) or get_origin(kind) is None:
        return kind
    kept = tuple(a for a in get_args(kind) if a is not type(None))
    joined = kept[0]
    for more in kept[1:]:
        joined |= more
    return joined


def _schema_hook(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "string", "format": "password", "minLength": 1}
    if kind is HostStateEvent:
        return {"type": "string", "examples": ["enable", "disable", "maintain"]}
    if kind is StorageStateEvent:
        return {"type": "string", "examples": ["enable", "disable", "maintain", "deleting"]}
    if kind is StateEvent:
        return {"type": "string", "examples": ["enable", "disable"]}
    if kind is HostAddress:
        return {"type": "string", "minLength": 1, "maxLength": 255}
    raise NotImplementedError(kind)


def _resolve(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_resolve(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        rest = {k: v for k, v in schema.items() if k != "$ref"}
        return {**_resolve(definitions[reference.rpartition("/")[2]], definitions), **rest}
    return {key: _resolve(value, definitions) for key, value in schema.items()}
