"""Distil the catalogue of the manual's operations into `operations.json`: `distil.py CATALOG_JSON`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PREFIX = "/zstack/v1"
DISTILLED = Path(__file__).with_name("operations.json")
NOT_IN_BODIES = {"error", "success"}
"""Rows of the manual's reply tables that are no keys of a reply that went well."""
TAGS = ("systemTags", "userTags")
"""Lists that every operation takes; left out."""


def distil(catalogue: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `{"operations": {name: ...}, "types": {type: {field: type}}}`, each sorted by name.

    A reply maps its keys to types; `X[]` is a list of X. Fields that the manual describes only below one
    field of one type are a type of their own, named `Type.field`.
    """
    operations: dict[str, Any] = {}
    types: dict[str, dict[str, str]] = {}
    for entry in catalogue:
        operations[entry["name"]] = _operation(entry)
        _collect_types(entry, types)
    return {"operations": _sorted(operations), "types": {k: _sorted(v) for k, v in sorted(types.items())}}


def render(distilled: dict[str, Any]) -> str:
    """Return the text of `operations.json`: one operation or type a line, so that changes show as lines."""
    sections = []
    for section, content in distilled.items():
        lines = ",\n".join(f"    {_json(name)}: {_json(value)}" for name, value in content.items())
        sections.append(f"  {_json(section)}: {{\n{lines}\n  }}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _operation(entry: dict[str, Any]) -> dict[str, Any]:
    operation = {
        "section": entry["section"],
        "method": entry["method"],
        "paths": [path.removeprefix(PREFIX) for path in entry["paths"]],
        "async": entry["async"],
        "params": _sorted({p["name"]: _parameter(p) for p in entry["params"] if p["name"] not in TAGS}),
        "reply": _sorted(_reply(entry)),
    }
    if entry["body_wrapper"]:
        operation["wrapper"] = entry["body_wrapper"]
    return operation


def _parameter(entry: dict[str, Any]) -> dict[str, Any]:
    parameter = {"type": entry["type"], "in": entry["in"]}
    if entry["required"] and entry["doc"] != "unused":  # what is not used need not be given
        parameter["required"] = True
    if entry["enum"]:
        parameter["enum"] = entry["enum"]
    return parameter


def _reply(entry: dict[str, Any]) -> dict[str, str]:
    """Return the keys of the reply: the table's, the printed example's, and what an empty reply left out."""
    key, kind = entry["response_key"], entry["response_type"]
    newer = entry.get("response_newer")
    if newer:
        key, is_list = newer["key"], newer["type"].endswith("[]") or newer["key"] == "inventories"
        kind = newer["type"].removesuffix("[]")
    else:
        is_list = entry["response_is_list"]
    if key is None:
        return {f["name"]: f["type"] for f in entry["response_top"] if f["name"] not in NOT_IN_BODIES}
    keys = {key, *entry["response_example"]} - NOT_IN_BODIES
    return dict.fromkeys(keys, f"{kind}[]" if is_list else kind)


def _collect_types(entry: dict[str, Any], types: dict[str, dict[str, str]]) -> None:
    """Add the types that an entry describes, with the fields of all entries that describe them."""
    root = (entry.get("response_newer") or {}).get("type") or entry["response_type"]
    if root is None or not entry["response_fields"]:
        return
    root = root.removesuffix("[]")
    names = {field: f"{root}.{field}" for field in entry["nested"]} | entry.get("nested_types", {})
    _add(types, root, entry["response_fields"], names)
    for field, fields in entry["nested"].items():
        _add(types, names[field], fields, names)


def _add(
    types: dict[str, dict[str, str]], name: str, fields: Iterable[dict[str, Any]], names: dict[str, str]
) -> None:
    known = types.setdefault(name, {})
    for field in fields:
        kind = field["type"]
        if field["name"] in names and kind != "String":
            kind = f"{names[field['name']]}[]" if kind in ("List", "Set") else names[field["name"]]
        known[field["name"]] = kind


def _sorted(mapping: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(mapping.items()))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def main(argv: list[str]) -> int:
    """Write `operations.json` beside this file."""
    if len(argv) != 1:
        print("usage: distil.py CATALOG_JSON", file=sys.stderr)
        return 2
    catalogue = json.loads(Path(argv[0]).read_text())
    DISTILLED.write_text(render(distil(catalogue)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
