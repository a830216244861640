"""What the administrator notes of a PCI device (manual 4.3.11.2): keys with values, written in one text."""

from __future__ import annotations

from typing import Any

from agentkit.errors import Blame, HardpointError

OPERATORS = ("Equal", "Unequal")
_FORM = "write key1:value1;key2:value2"


def parse_meta_data(text: str) -> dict[str, Any] | None:
    """Return the document that inventories show of `key1:value1;key2:value2`, None for an empty text.

    An entry may also be written as inventories show it, `key:Equal:value`. Raises HardpointError (SYS.1007)
    that names the entry which is neither.
    """
    if not text.strip():
        return None
    entries = [_entry(part.strip()) for part in text.removesuffix(";").split(";")]
    keys = [entry["key"] for entry in entries]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise _bad(f"the key '{twice}' comes twice", "give each key once")
    shown = ";".join(":".join((e["key"], e["op"], e["value"])) for e in entries)
    return {"metaData": shown, "metaDataEntries": entries}


def _entry(part: str) -> dict[str, str]:
    key, colon, value = part.partition(":")
    operator, more, rest = value.partition(":")
    if more and operator in OPERATORS:
        value = rest
    else:
        operator = OPERATORS[0]
    key, value = key.strip(), value.strip()
    if not colon or not key or not value:
        raise _bad(f"entry '{part}' has no {'key' if colon and not key else 'value'}", _FORM)
    return {"key": key, "op": operator, "value": value}


def _bad(reason: str, remedy: str) -> HardpointError:
    return HardpointError(
        "SYS.1007", "Invalid argument", f"metaData: {reason}", remedy=remedy, blame=Blame.CALLER
    )
