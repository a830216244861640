"""From the parameters of a GET to a query: exact about operators, silent about tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agentkit.errors import Blame, HardpointError

DEFAULT_LIMIT = 1000
MAX_NUMBER = 2**63 - 1
MAX_CONDITIONS = 100


class Operator(StrEnum):
    """Operators of a condition."""

    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"
    GREATER_EQUAL = ">="
    LESS_EQUAL = "<="
    IN = "?="
    NOT_IN = "!?="
    LIKE = "~="
    NOT_LIKE = "!~="
    IS_NULL = "is null"
    NOT_NULL = "not null"


@dataclass(frozen=True, slots=True)
class Condition:
    """`hops` are the relations to follow from the root, `field` the field at their end."""

    text: str
    hops: tuple[str, ...]
    field: str
    operator: Operator
    value: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. `fields` empty: all."""

    conditions: tuple[Condition, ...] = ()
    limit: int = DEFAULT_LIMIT
    start: int = 0
    count: bool = False
    reply_with_count: bool = False
    group_by: str | None = None
    sort: str | None = None
    descending: bool = False
    fields: tuple[str, ...] = ()


_PATH = r"(?P<path>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
_COMPARISON = re.compile(_PATH + r"(?P<operator>!\?=|!~=|\?=|~=|!=|>=|<=|=|>|<)(?P<value>.*)", re.DOTALL)
_NULL_TEST = re.compile(_PATH + r"\s+(?P<test>is\s+null|not\s+null|is\s+not\s+null)\s*", re.IGNORECASE)
_SPACED = re.compile(_PATH + r"\s+[!?~<>=]")


def parse_condition(text: str) -> Condition:
    """Return one condition: the operator is the leftmost after the field and as long as can be.

    Raises HardpointError (SYS.1007) when there is no field or no operator.
    """
    if match := _COMPARISON.fullmatch(text):
        operator, value = Operator(match["operator"]), match["value"]
        if value == "null" and operator is Operator.EQUAL:
            operator, value = Operator.IS_NULL, ""
        elif value == "null" and operator is Operator.NOT_EQUAL:
            operator, value = Operator.NOT_NULL, ""
        return _condition(text, match["path"], operator, value)
    if match := _NULL_TEST.fullmatch(text):
        negative = "not" in match["test"].lower()
        return _condition(text, match["path"], Operator.NOT_NULL if negative else Operator.IS_NULL, "")
    if _SPACED.match(text):
        reason = "there is a space before its operator"
    elif re.match(_PATH, text):
        reason = "it has no operator"
    else:
        reason = "it does not begin with a field"
    raise bad_query(
        f"condition '{text}' is not understood: {reason}", f"write <field><operator><value>; {_LIST}"
    )


_LIST = "operators: = != > < >= <= ?= !?= ~= !~=, and =null, !=null"


def _condition(text: str, path: str, operator: Operator, value: str) -> Condition:
    *hops, last = path.split(".")
    return Condition(text, tuple(hops), last, operator, value)


def parse_query(parameters: Mapping[str, Sequence[str]]) -> Query:
    """Return the query of a query string; `parameters` holds all values of each key.

    Raises HardpointError (SYS.1007) naming the parameter that is wrong.
    """
    conditions = [*parameters.get("q", ()), *parameters.get("condition", ())]
    if len(conditions) > MAX_CONDITIONS:
        raise bad_query(f"{len(conditions)} conditions", f"give up to {MAX_CONDITIONS}")
    sort, descending = _sort(_single(parameters, "sort"))
    return Query(
        conditions=tuple(parse_condition(text) for text in conditions),
        limit=_number(parameters, "limit", DEFAULT_LIMIT),
        start=_number(parameters, "start", 0),
        count=_truth(parameters, "count"),
        reply_with_count=_truth(parameters, "replyWithCount"),
        group_by=_single(parameters, "groupBy") or None,
        sort=sort,
        descending=descending,
        fields=tuple(
            name.strip() for text in parameters.get("fields", ()) for name in text.split(",") if name.strip()
        ),
    )


def _sort(text: str | None) -> tuple[str | None, bool]:
    """`+name`, ` name` (a plus that was not escaped) and `name` ascend, `-name` descends."""
    if not text:
        return None, False
    return text.lstrip("+- ") or None, text.startswith("-")


def _single(parameters: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = parameters.get(name, ())
    if len(values) > 1:
        raise bad_query(f"parameter '{name}' is given {len(values)} times", "give it once")
    return values[0] if values else None


def _number(parameters: Mapping[str, Sequence[str]], name: str, default: int) -> int:
    text = _single(parameters, name)
    if text is None:
        return default
    match = re.fullmatch(r"(\d{1,19})(?:\.0+)?", text.strip(), re.ASCII)
    if match is None or int(match[1]) > MAX_NUMBER:
        raise bad_query(f"parameter '{name}' is '{text}'", "give a whole number of 0 or more")
    return int(match[1])


def _truth(parameters: Mapping[str, Sequence[str]], name: str) -> bool:
    text = _single(parameters, name)
    match (text or "false").strip().lower():
        case "true":
            return True
        case "false":
            return False
    raise bad_query(f"parameter '{name}' is '{text}'", "give true or false")


def bad_query(details: str, remedy: str) -> HardpointError:
    """Return the error of a query that cannot be understood."""
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)
