"""The API as data, for clients: operations with their parameters, resources with their fields and joins."""

from __future__ import annotations

import json
import re
import types
import typing
from functools import cache
from typing import Any, get_args, get_origin

import msgspec

from mn.query.resource import Resource
from mn.rest.openapi_schema import parameter_text
from mn.rest.operation import Download, Operation, registry
from mn.rest.types import Secret

_VALUES = re.compile(r"[A-Z]\w*(?:, [A-Z]\w*)*(?:,? or [A-Z]\w*)?")
"""A column's comment that is nothing but the values it may have: `Enabled or Disabled`."""

_SHARED = ("resource_uuid", "system_tags", "user_tags")

_TYPES = {str: "String", int: "Integer", float: "Double", bool: "Boolean", list: "List", dict: "Map"}


@cache
def served() -> dict[str, msgspec.Raw]:
    """Return the description as a reply, made once: the registry does not change while a node runs."""
    return {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in describe().items()}


def describe() -> dict[str, Any]:
    """Return all operations and the resources that can be reached from them, by name.

    Left out is what is answered with a file: clients of this description expect JSON.
    """
    operations = {
        name: _operation(registry[name])
        for name in sorted(registry)
        if not issubclass(registry[name], Download)
    }
    resources: dict[str, Resource] = {}
    waiting = [r for r in (operation.spec.reply for operation in registry.values()) if r is not None]
    while waiting:
        resource = waiting.pop()
        if resource.name not in resources:
            resources[resource.name] = resource
            waiting += [relation.target() for relation in resource.relations.values()]
    return {
        "operations": operations,
        "resources": {name: _resource(resources[name]) for name in sorted(resources)},
    }


def render() -> str:
    """Return the description as the file that clients ship: a line for each parameter and field."""
    return _rendered(describe(), "") + "\n"


def _rendered(value: Any, indent: str) -> str:
    deeper = indent + " "
    line = json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict) and any(isinstance(v, dict) or _has_objects(v) for v in value.values()):
        items = (f"{deeper}{json.dumps(k)}: {_rendered(v, deeper)}" for k, v in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if _has_objects(value):
        return "[\n" + ",\n".join(deeper + _rendered(item, deeper) for item in value) + f"\n{indent}]"
    return line


def _has_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _operation(operation: type[Operation]) -> dict[str, Any]:
    spec = operation.spec
    fields = sorted(msgspec.structs.fields(operation), key=_rank)
    return {
        "description": _paragraph(operation.__doc__),
        "kind": spec.kind.value[0],
        "method": spec.kind.method,
        "job": spec.kind.is_job,
        "paths": list(spec.paths),
        "wrapper": spec.wrappers[0] if spec.wrappers else None,
        "session": spec.needs_session,
        "reply": spec.reply.name if spec.reply else None,
        "returns": [_returned(name, kind) for name, kind in spec.returns.items()],
        "parameters": [_parameter(operation, field) for field in fields],
    }


def _rank(field: msgspec.structs.FieldInfo) -> int:
    """What must be given first, what every operation takes last."""
    return 0 if field.required else 2 if field.name in _SHARED else 1


def _parameter(operation: type[Operation], field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    kinds = _alternatives(field.type)
    first = kinds[0]
    described: dict[str, Any] = {
        "name": field.encode_name,
        "type": _type_name(first),
        "required": field.required,
        "description": parameter_text(operation, field.encode_name, field.type),
    }
    if _type_name(first) == "List" and get_args(first):
        described["items"] = _type_name(_alternatives(get_args(first)[0])[0])
    if choices := _choices(first):
        described["enum"] = choices
    if Secret in kinds:
        described["secret"] = True
    if isinstance(field.default, str | int | float | bool):
        described["default"] = field.default
    return described


def _returned(name: str, kind: Any) -> dict[str, Any]:
    """Describe a key of a reply that is no resource."""
    texts = [m.description for m in get_args(kind)[1:] if isinstance(m, msgspec.Meta) and m.description]
    return {"name": name, "type": _type_name(_alternatives(kind)[0]), "description": "".join(texts[:1])}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types that a parameter may have, without None and annotations."""
    kind = _bare(kind)
    if get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(_bare(a) for a in get_args(kind) if a is not type(None))
    return (kind,)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is typing.Annotated else kind


def _choices(kind: Any) -> list[Any]:
    if get_origin(kind) in (list, set, frozenset):
        kind = _alternatives(get_args(kind)[0])[0]
    return list(get_args(kind)) if get_origin(kind) is typing.Literal else []


def _type_name(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is typing.Literal:
        return _TYPES.get(type(get_args(kind)[0]), "String")
    if origin in (set, frozenset, tuple):
        return "List"
    if origin in _TYPES:
        return _TYPES[origin]
    is_object = isinstance(origin, type) and issubclass(origin, msgspec.Struct)
    return "Map" if is_object or origin is types.MappingProxyType else "String"


def _resource(resource: Resource) -> dict[str, Any]:
    fields = []
    for field in resource.fields.values():
        comment = field.column.comment or ""
        described: dict[str, Any] = {"name": field.name, "type": field.api_type, "description": comment}
        values = re.split(r",? or |, ", comment)
        if _VALUES.fullmatch(comment) and len(values) > 1:
            described["enum"] = values
        fields.append(described)
    for name, relation in resource.lists.items():
        meaning = f"its rows of {relation.target().name}"
        fields.append({"name": name, "type": "List", "description": meaning})
    relations = {name: resource.relations[name].target().name for name in sorted(resource.relations)}
    return {"fields": fields, "relations": relations}


def _paragraph(docstring: str | None) -> str:
    return " ".join((docstring or "").split("\n\n")[0].split())
