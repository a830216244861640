"""From what a person types to the call of an operation: `QueryHost cluster.name=c1 limit=10`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnclient.description import Description, Operation, Parameter, suggestion
from mnclient.errors import RequestError

OPERATORS = ("!?=", "!~=", "?=", "~=", "!=", ">=", "<=", "=", ">", "<")
_PATH = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
_ASSIGNMENT = re.compile(
    rf"({_PATH})({'|'.join(re.escape(operator) for operator in OPERATORS)})(.*)", re.DOTALL
)
_HASHED = re.compile("[0-9a-fA-F]{128}")
_BLANK = re.compile(r"[\s\"'\\]|^$")

CLIENT_OPTIONS = ("timeout",)
"""What the client takes for itself in a command: seconds to wait for the result."""


class UnknownNameError(RequestError):
    """An operation or a parameter that the client does not know; the node may."""


@dataclass(frozen=True)
class Word:
    """A word of a line without its quotes; `start` is where it begins. `is_open`: a quote is not closed."""

    text: str
    start: int
    is_open: bool = False


@dataclass
class Command:
    """A call of an operation, its values of the types that the API takes."""

    operation: Operation
    values: dict[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None


def split(line: str) -> list[Word]:
    """Return the words of a line: quotes hold blanks together, so do the brackets of a JSON value."""
    words: list[Word] = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        word, position = _word(line, position)
        words.append(word)
    return words


def _word(line: str, start: int) -> tuple[Word, int]:
    text, quote, position = "", "", start
    while position < len(line):
        char = line[position]
        if quote:
            if char == "\\" and quote == '"' and line[position + 1 : position + 2] in ('"', "\\"):
                position += 1
                text += line[position]
            elif char == quote:
                quote = ""
            else:
                text += char
        elif char.isspace():
            break
        elif char in "{[" and text.endswith("="):
            end = _json_end(line, position)
            text, position = text + line[position:end], end - 1
        elif char in "\"'":
            quote = char
        else:
            text += char
        position += 1
    return Word(text, start, is_open=bool(quote)), position


def _json_end(line: str, start: int) -> int:
    depth, in_text, position = 0, False, start
    while position < len(line):
        char = line[position]
        if in_text:
            position += char == "\\"
            in_text = char != '"'
        elif char == '"':
            in_text = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return len(line)


def quoted(text: str) -> str:
    """Return a value as it is to be typed: in quotes when it holds blanks."""
    if not _BLANK.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def assignment(word: str) -> tuple[str, str, str] | None:
    """Return name, operator and value of `name!=x`; None when there is no operator."""
    match = _ASSIGNMENT.fullmatch(word)
    return (match[1], match[2], match[3]) if match else None


def find_operation(name: str, description: Description) -> Operation:
    """Return an operation, whatever the case of its name. Raises UnknownNameError."""
    operation = description.operations.get(name)
    if operation is None:
        by_lower = {known.lower(): known for known in description.operations}
        found = by_lower.get(name.lower())
        if found is None:
            hint = suggestion(name, description.operations)
            raise UnknownNameError(f"there is no operation '{name}'{hint}")
        operation = description.operations[found]
    return operation


def parse(words: Sequence[str], description: Description) -> Command:
    """Return the call that words make. Raises RequestError naming the word that is wrong."""
    operation = find_operation(words[0], description)
    command = Command(operation)
    for word in _joined(words[1:]):
        assigned = assignment(word)
        if assigned is None:
            if operation.is_query and re.fullmatch(rf"{_PATH} (is|not) null", word):
                command.values.setdefault("conditions", []).append(word)
                continue
            raise RequestError(f"'{word}' is not understood: write parameter=value")
        _assign(command, *assigned)
    return command


def _joined(words: Sequence[str]) -> list[str]:
    """Join `vmInstanceUuid not null` to one word."""
    joined: list[str] = []
    for word in words:
        if word.lower() == "null" and len(joined) > 1 and joined[-1].lower() in ("is", "not"):
            test = joined.pop().lower()
            joined[-1] = f"{joined[-1]} {test} null"
        else:
            joined.append(word)
    return joined


def _assign(command: Command, name: str, operator: str, value: str) -> None:
    operation = command.operation
    parameter = operation.parameters.get(name)
    if name in CLIENT_OPTIONS and parameter is None and operator == "=":
        command.timeout_s = _number(name, value, float)
        if command.timeout_s <= 0:
            raise RequestError(f"'{name}' is '{value}': give a number of seconds")
    elif parameter is not None and operator == "=" and name != "conditions":
        _set(command.values, parameter, value)
    elif operation.is_query and name == "sort" and operator == "=":
        command.values["sortBy"] = value.lstrip("+- ")
        command.values["sortDirection"] = "desc" if value.startswith("-") else "asc"
    elif operation.is_query:
        condition = f"{name}{operator}{like(value) if operator.endswith('~=') else value}"
        command.values.setdefault("conditions", []).append(condition)
    elif parameter is not None:
        raise RequestError(f"{operation.name}: '{name}{operator}': a parameter takes '=' only")
    else:
        hint = suggestion(name, operation.parameters)
        known = ", ".join(operation.parameters)
        raise UnknownNameError(f"{operation.name}: there is no parameter '{name}'{hint} (known: {known})")


def like(value: str) -> str:
    """Return a pattern that matches anywhere in a text, unless the value is a pattern already."""
    return value if "%" in value or "_" in value else f"%{value}%"


def _set(values: dict[str, Any], parameter: Parameter, text: str) -> None:
    value = _converted(parameter, text)
    if parameter.type == "List":
        values[parameter.name] = [*values.get(parameter.name, []), *value]
    elif parameter.name in values:
        raise RequestError(f"'{parameter.name}' is given twice")
    else:
        values[parameter.name] = value


def _converted(parameter: Parameter, text: str) -> Any:
    convert = _CONVERSIONS.get(parameter.type)
    if convert is None:
        return _matching_case(parameter, text)
    return convert(parameter, text)


def _matching_case(parameter: Parameter, text: str) -> str:
    """Return an enum's value as the API writes it, any other text as it is."""
    by_lower = {choice.lower(): choice for choice in parameter.enum}
    return by_lower.get(text.lower(), text)


def _number(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise RequestError(f"'{name}' is '{text}': give a number") from None


def _truth(parameter: Parameter, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise RequestError(f"'{parameter.name}' is '{text}': give true or false")
    return text.lower() == "true"


def _list(parameter: Parameter, text: str) -> list[Any]:
    if text.startswith("["):
        value = _json(parameter, text)
        return value if isinstance(value, list) else [value]
    if text.startswith("{"):
        return [_json(parameter, text)]
    return [_converted(_item(parameter), part.strip()) for part in text.split(",") if part.strip()]


def _item(parameter: Parameter) -> Parameter:
    return Parameter(parameter.name, parameter.items, enum=parameter.enum)


def _map(parameter: Parameter, text: str) -> dict[str, Any]:
    value = _json(parameter, text)
    if not isinstance(value, dict):
        raise RequestError(f'\'{parameter.name}\' is no map: give JSON, {{"key": "value"}}')
    return value


def _json(parameter: Parameter, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise RequestError(f"'{parameter.name}' is no JSON: {error}") from None


_CONVERSIONS: dict[str, Callable[[Parameter, str], Any]] = {
    "Integer": lambda p, text: _number(p.name, text, int),
    "Long": lambda p, text: _number(p.name, text, int),
    "Double": lambda p, text: _number(p.name, text, float),
    "Boolean": _truth,
    "List": _list,
    "Map": _map,
}

_SECRET_WORD = re.compile(
    r"(\b\w*(?:password|secret)\w*)(\s*=\s*)(\"(?:\\.|[^\"])*\"?|'[^']*'?|\S+)", re.IGNORECASE
)


def without_secrets(line: str) -> str:
    """Return a line for the history: passwords are stars."""
    return _SECRET_WORD.sub(lambda m: f"{m[1]}{m[2]}*****", line)


def is_hashed(password: str) -> bool:
    """Whether a password is a SHA-512 already."""
    return bool(_HASHED.fullmatch(password))
