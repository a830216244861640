"""From a request's parameters to an operation: every fault is named, with what would be right."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec

from agentkit.errors import Blame, HardpointError
from mn.rest.operation import Operation
from mn.rest.types import HostAddress, Secret, StateEvent, decoder_hook


def bind(operation: type[Operation], given: Mapping[str, object], *, lax: bool) -> Operation:
    """Return the operation with its parameters; `lax` takes numbers and truth values as texts (query
    strings).

    Texts are trimmed except in secrets. Unknown parameters are left aside. Raises HardpointError (SYS.1007)
    that names every parameter that is missing or wrong, and what the operation's own `check` raises.
    """
    if lax:
        given = _with_maps(operation, given)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in fields_of(operation):
        name = field.encode_name
        if given.get(name) is None:
            if field.required:
                faults.append(f"'{name}' is missing: give {describe(field.type)}")
            continue
        try:
            value = _prepare(given[name], field.type, lax=lax)
            values[field.name] = msgspec.convert(value, field.type, strict=not lax, dec_hook=decoder_hook)
        except (msgspec.ValidationError, ValueError, LookupError):
            shown = "*****" if Secret in _alternatives(field.type) else _shown(given[name])
            faults.append(f"'{name}' is {shown}: give {describe(field.type)}")
    if faults:
        raise bad_request(f"{operation.__name__}: parameter {', parameter '.join(faults)}", "")
    bound = operation(**values)
    bound.check()
    return bound


@cache
def fields_of(operation: type[Operation]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return an operation's parameters; msgspec evaluates all annotations anew when it is asked."""
    return msgspec.structs.fields(operation)


def left_aside(operation: type[Operation], given: Iterable[str]) -> list[str]:
    """Return the names among `given` that are no parameters of the operation."""
    known = {field.encode_name: field for field in msgspec.structs.fields(operation)}
    maps = {name for name, field in known.items() if dict in map(_origin, _alternatives(field.type))}
    return [name for name in given if name not in known and name.partition(".")[0] not in maps]


def bad_request(details: str, remedy: str) -> HardpointError:
    """Return the error of a request that is wrong in itself."""
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)


def whole_numbers(value: Any) -> Any:
    """Return JSON with whole floats as integers (`22.0` is 22), as some clients write all numbers."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return value


def query_values(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return a query string's values by key, `key.0=a&key.1=b` under `key`."""
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        stem, dot, index = key.rpartition(".")
        values.setdefault(stem if dot and index.isdigit() else key, []).append(value)
    return values


def _with_maps(operation: type[Operation], given: Mapping[str, object]) -> Mapping[str, object]:
    """Return a query string's values with `map.key=value` gathered under `map`."""
    gathered = dict(given)
    for field in msgspec.structs.fields(operation):
        if dict not in map(_origin, _alternatives(field.type)):
            continue
        stem = field.encode_name + "."
        items = {k.removeprefix(stem): v for k, v in given.items() if k.startswith(stem)}
        if items:
            gathered[field.encode_name] = {
                k: v[0] if isinstance(v, list) and len(v) == 1 else v for k, v in items.items()
            }
    return gathered


def _origin(kind: Any) -> Any:
    return get_origin(kind) or kind


def _prepare(value: Any, kind: Any, *, lax: bool) -> Any:
    alternatives = _alternatives(kind)
    is_list = any(get_origin(a) in (list, set, frozenset) for a in alternatives)
    if lax and isinstance(value, list):
        if is_list:
            return [part.strip() for text in value for part in text.split(",") if part.strip()]
        if len(value) > 1:
            raise ValueError(value)
        value = value[0]
    if isinstance(value, str) and Secret not in alternatives:
        return value.strip()
    if isinstance(value, list) and is_list:
        return [item.strip() if isinstance(item, str) else item for item in value]
    return value


def _alternatives(kind: Any) -> tuple[Any, ...]:
    kind = _bare(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(_bare(a) for a in get_args(kind) if a is not type(None))
    return (kind,)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is typing.Annotated else kind


def describe(kind: Any) -> str:
    """Return what a parameter's type takes, in words."""
    for part in (kind, *get_args(kind)):
        for meta in get_args(part)[1:] if get_origin(part) is typing.Annotated else ():
            if isinstance(meta, msgspec.Meta) and meta.description:
                return meta.description
    first = _alternatives(kind)[0]
    if isinstance(first, type) and issubclass(first, (HostAddress, Secret, StateEvent)):
        return str(first.description)
    if get_origin(first) is typing.Literal:
        return "one of " + ", ".join(str(a) for a in get_args(first))
    if get_origin(first) in (list, set, frozenset):
        return f"a list, each item {describe(get_args(first)[0])}"
    return {str: "a text", int: "a whole number", bool: "true or false", dict: "an object"}.get(
        first, "a value"
    )


_C1_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def _shown(value: object) -> str:
    """Return a value as JSON that is fit for a terminal: without a control character."""
    text = msgspec.json.encode(value).decode().translate(_C1_CONTROLS)
    return text if len(text) <= 80 else f"{text[:77]}..."
