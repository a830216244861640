from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from mn import app, facilities
from mn.rest import openapi
from mn.rest.docs_page import page_of
from mn.rest.operation import registry

COMMITTED = Path(__file__).parents[4] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    facilities.load()
    assert app  # the composition root is part of what is described
    return openapi.document(registry.values())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def properties(where: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the properties of a schema at all depths."""
    for key, inner in schema.get("properties", {}).items():
        yield f"{where}.{key}", inner
        yield from properties(f"{where}.{key}", inner)
    for inner in [*schema.get("oneOf", []), *schema.get("anyOf", []), schema.get("items")]:
        if inner:
            yield from properties(where, inner)


def test_the_committed_description_is_what_the_operations_are(document: dict[str, Any]) -> None:
    assert COMMITTED.read_bytes() == openapi.render(document), (
        "run `make openapi` and commit docs/openapi.json"
    )


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    described = {name for _, o in operations(document) for name in o["operationId"].split("+")}
    assert set(registry) <= described
    for where, operation in operations(document):
        assert operation["summary"], where
        assert operation["description"], where


def test_every_operation_has_an_id_of_its_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    for where, operation in operations(document):
        for parameter in operation["parameters"]:
            assert parameter["description"], (where, parameter["name"])


def test_every_field_of_a_body_and_of_a_reply_is_described(document: dict[str, Any]) -> None:
    found = []
    for where, operation in operations(document):
        for part in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for content in part.get("content", {}).values():
                found += list(properties(where, content["schema"]))
    for name, schema in document["components"]["schemas"].items():
        found += list(properties(name, schema))
    assert len(found) > 200
    assert not [where for where, schema in found if not schema.get("description")]


def test_every_path_parameter_stands_in_its_path(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(document))):
        found = document
        for part in reference.split("/"):
            found = found[part]


def test_schemas_are_json_schemas(document: dict[str, Any]) -> None:
    for operation in (o for _, o in operations(document)):
        for parameter in operation["parameters"]:
            jsonschema_rs.meta.validate(parameter["schema"])
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_no_path_is_described_twice_under_other_names(document: dict[str, Any]) -> None:
    shapes = [re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]]
    assert len(set(shapes)) == len(shapes)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "srcset"):
                self.links.append(str(value))
            if name == "id":
                self.ids.append(str(value))


def test_the_page_needs_nothing_from_elsewhere_and_has_every_operation(document: dict[str, Any]) -> None:
    html, _, _ = page_of(document)
    links = _Links()
    links.feed(html)
    assert links.links == ["openapi.json"]
    assert {o["operationId"] for _, o in operations(document)} <= set(links.ids)
    assert "url(" not in html
    assert "@import" not in html
    assert html.count("curl -X") >= len(list(operations(document)))
