"""The API's description as one page that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; color: #1b2430; }
header { position: sticky; top: 0; background: #fff; padding: .5rem 0; border-bottom: 1px solid #ccd3dc; }
h1 { font-size: 1.3rem; margin: 0 0 .5rem; }
input { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem .6rem; }
details { border-bottom: 1px solid #e3e8ee; }
summary { cursor: pointer; padding: .45rem 0; }
summary code { overflow-wrap: anywhere; }
b.verb { display: inline-block; width: 4.5rem; font: bold 13px monospace; }
b.get { color: #0b6b3a; } b.post { color: #0b4f9e; } b.put { color: #8a5a00; } b.delete { color: #a11d1d; }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 1rem; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-top: 1px solid #eef1f5; }
pre { background: #f4f6f9; padding: .6rem; overflow-x: auto; }
h2 { font-size: 1rem; margin: .6rem 0 .2rem; }
"""

_SCRIPT = """
const box = document.getElementById('filter');
const entries = [...document.querySelectorAll('details')].map(e => [e, e.textContent.toLowerCase()]);
function filter() {
  const words = box.value.toLowerCase().split(/\\s+/);
  let shown = 0;
  for (const [entry, text] of entries) {
    entry.hidden = !words.every(w => text.includes(w));
    shown += !entry.hidden;
  }
  document.getElementById('shown').textContent = shown;
}
box.addEventListener('input', filter);
function unfold() {
  const entry = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (entry) { entry.open = true; entry.scrollIntoView(); }
}
addEventListener('hashchange', unfold);
unfold();
"""


def page_of(document: dict[str, Any]) -> tuple[str, str, str]:
    """Return the page of a description, and the base64 SHA-256 of its script and of its style."""
    entries = [
        _entry(document, method, path, operation)
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
    ]
    title = escape(f"{document['info']['title']} API")
    html = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<header><h1>{title}, <span id="shown">{len(entries)}</span> operations</h1>'
        '<input id="filter" type="search" placeholder="search names, paths, texts" autofocus></header>'
        f"<p>{escape(document['info']['description'])}"
        ' The same as JSON: <a href="openapi.json">openapi.json</a>.</p>'
        f"<main>{''.join(entries)}</main><script>{_SCRIPT}</script></body></html>\n"
    )
    return html, _sha256(_SCRIPT), _sha256(_STYLE)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _entry(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    name = operation["operationId"]
    bodies = _bodies(operation)
    rows = [
        (p["name"], p["in"], _type(p["schema"]), bool(p.get("required")), p["description"])
        for p in operation["parameters"]
    ]
    for body in bodies:
        wrapper, inner = next(iter(body["properties"].items()))
        needed = inner.get("required", [])
        rows += [
            (f"{wrapper}.{key}", "body", _type(schema), key in needed, schema.get("description", ""))
            for key, schema in inner.get("properties", {}).items()
        ]
    cells = "".join(
        f"<tr><td><code>{escape(key)}</code>{' *' if required else ''}</td><td>{place}</td>"
        f"<td>{escape(kind)}</td><td>{escape(text)}</td></tr>"
        for key, place, kind, required, text in rows
    )
    parameters = (
        f"<table><tr><th>name (* required)<th>in<th>type<th>meaning</tr>{cells}</table>" if cells else "none"
    )
    examples = "".join(f"<pre>{escape(_curl(method, path, body))}</pre>" for body in bodies)
    examples = examples or f"<pre>{escape(_curl(method, path, None))}</pre>"
    return (
        f'<details id="{escape(name)}"><summary><b class="verb {method}">{method.upper()}</b>'
        f"<code>{escape(path)}</code> {escape(name)}: {escape(operation['summary'])}</summary>"
        f"<p>{escape(operation['description'])}</p><h2>Parameters</h2>{parameters}"
        f"<h2>Replies</h2>{_replies(document, operation)}<h2>Example</h2>{examples}</details>\n"
    )


def _bodies(operation: dict[str, Any]) -> list[dict[str, Any]]:
    if "requestBody" not in operation:
        return []
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    bodies: list[dict[str, Any]] = schema.get("oneOf", [schema])
    return bodies


def _replies(document: dict[str, Any], operation: dict[str, Any]) -> str:
    rows = []
    for status, answer in sorted(operation["responses"].items()):
        known = _resolved(document, answer)
        content = known.get("content", {}).get("application/json", {}).get("schema", {})
        fields = "".join(
            f"<tr><td><td><code>{escape(key)}</code><td>{escape(_type(schema))}<td>{escape(text)}</tr>"
            for key, schema, text in _fields(document, content, "")
        )
        rows.append(f"<tr><td>{status}<td colspan=3>{escape(known['description'])}</tr>{fields}")
    return f"<table>{''.join(rows)}</table>"


def _fields(
    document: dict[str, Any], schema: dict[str, Any], stem: str
) -> list[tuple[str, dict[str, Any], str]]:
    known = _resolved(document, schema)
    found: list[tuple[str, dict[str, Any], str]] = []
    for variant in known.get("anyOf", []):
        found += [entry for entry in _fields(document, variant, stem) if entry not in found]
    for key, value in known.get("properties", {}).items():
        name = f"{stem}{key}"
        inner = _resolved(document, value.get("items", value))
        found.append((name, value, value.get("description", "")))
        if name.count(".") < 2 and key != "cause":
            found += _fields(document, inner, f"{name}.")
    return found


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found: dict[str, Any] = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return str(schema.get("type", "any"))


def _curl(method: str, path: str, body: dict[str, Any] | None) -> str:
    url = "http://localhost:8080/zstack/v1" + path.replace("{", "$")
    url = url.replace("}", "")
    lines = [f'curl -X {method.upper()} "{url}"', '-H "Authorization: OAuth $SESSION"']
    if body is not None:
        wrapper, inner = next(iter(body["properties"].items()))
        needed = inner.get("required", [])
        sample = {k: _sample(v) for k, v in inner.get("properties", {}).items() if k in needed}
        lines += ['-H "Content-Type: application/json"', f"-d '{json.dumps({wrapper: sample})}'"]
    return " \\\n  ".join(lines)


def _sample(schema: dict[str, Any]) -> Any:
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return [_sample(schema.get("items", {}))]
        case "object":
            return {}
    return "..."
