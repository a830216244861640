"""The API's description in OpenAPI 3.1, made from the registry, and where it is served."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from aiohttp import web

from mn.query.parse import DEFAULT_LIMIT
from mn.query.resource import Resource
from mn.rest.docs_page import page_of
from mn.rest.openapi_schema import field_schema, parameter_text, resource_schema, type_schema
from mn.rest.operation import Download, JobOperation, Kind, Operation
from mn.rest.router import shape

VERSION = "3.0.0"
"""Of the API that is implemented."""

_ERROR = {
    "type": "object",
    "description": "What went wrong, why, and what to do about it.",
    "required": ["code", "description", "details"],
    "properties": {
        "code": {"type": "string", "description": "code of the error; docs/errors.md lists them"},
        "description": {"type": "string", "description": "what the code stands for"},
        "details": {"type": "string", "description": "what was refused, why, and the next step"},
        "cause": {"$ref": "#/components/schemas/ErrorCode", "description": "the error that led to this one"},
    },
}
_ERROR_REPLY = {
    "type": "object",
    "description": "The body of an answer that reports an error.",
    "required": ["error"],
    "properties": {"error": {"$ref": "#/components/schemas/ErrorCode", "description": "the error"}},
}
_LOCATION = {
    "type": "object",
    "description": "Where the job is looked at.",
    "required": ["location"],
    "properties": {"location": {"type": "string", "format": "uri", "description": "URL to poll with GET"}},
}
_QUERY_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "q": (
        {"type": "array", "items": {"type": "string"}},
        (
            "condition, <field><operator><value>; repeatable, all must hold; operators: = != > < >= <= ?= !?="
            " ~= !~=, and =null, !=null; fields of related resources are reached by dots"
        ),
    ),
    "limit": (
        {"type": "integer", "minimum": 0, "default": DEFAULT_LIMIT},
        "most inventories that are returned",
    ),
    "start": ({"type": "integer", "minimum": 0, "default": 0}, "first inventory that is returned"),
    "count": ({"type": "boolean", "default": False}, "return only the number of matches, as total"),
    "replyWithCount": (
        {"type": "boolean", "default": False},
        "return the number of all matches too, as total",
    ),
    "groupBy": ({"type": "string"}, "field of which each value is returned once"),
    "sort": ({"type": "string"}, "field to sort by, +field ascending, -field descending"),
    "fields": (
        {"type": "array", "items": {"type": "string"}},
        "fields to return; repeated or joined by commas",
    ),
}
_JOB_HEADERS = {
    "X-Job-UUID": (
        {"type": "string", "pattern": "^[0-9a-fA-F]{12}4[0-9a-fA-F]{3}[89abAB][0-9a-fA-F]{15}$"},
        "uuid for the job, v4 without hyphens; the same request with the same uuid is done once",
    ),
    "X-Web-Hook": (
        {"type": "string", "format": "uri"},
        "URL that the result is POSTed to, with X-Job-UUID and X-Job-Success; repeated until acknowledged",
    ),
    "X-API-Timeout": ({"type": "string"}, "seconds that the job may take"),
}


class Pages:
    """The description as JSON and as a page, made when first asked for."""

    def __init__(self, operations: Iterable[type[Operation]]) -> None:
        self._operations = list(operations)

    def find(self, path: str) -> _Page | None:
        """Return what is served at a path below the prefix, None when that is none of these."""
        match path.rstrip("/"):
            case "/openapi.json":
                return self._json
            case "/docs":
                return self._html
        return None

    @cached_property
    def _json(self) -> _Page:
        return _Page(render(document(self._operations)), "application/json", {})

    @cached_property
    def _html(self) -> _Page:
        html, script, style = page_of(document(self._operations))
        policy = f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'"
        return _Page(html.encode(), "text/html", {"Content-Security-Policy": policy})


@dataclass(frozen=True)
class _Page:
    body: bytes
    content_type: str
    headers: dict[str, str]

    def response(self) -> web.Response:
        """Return the page as a response."""
        return web.Response(
            body=self.body, content_type=self.content_type, charset="utf-8", headers=self.headers
        )


def render(content: dict[str, Any]) -> bytes:
    """Return a description as text that differs where the API does."""
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=1) + b"\n"


def document(operations: Iterable[type[Operation]]) -> dict[str, Any]:
    """Return the description of some operations."""
    known = sorted(operations, key=lambda o: o.__name__)
    schemas: dict[str, Any] = {"ErrorCode": _ERROR, "Error": _ERROR_REPLY, "Location": _LOCATION}
    for operation in known:
        if resource := operation.spec.reply:
            schemas[f"{resource.name}Inventory"] = resource_schema(resource)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hardpoint",
            "version": VERSION,
            "description": "The hardware facilities API of ZStack 3.0. Operations that answer 202 are jobs:"
            " poll their location with GET until it answers something else.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/zstack/v1"}, {"url": "/v1"}],
        "security": [{"session": []}],
        "components": {
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "OAuth <session uuid>, from LogInByAccount",
                }
            },
            "schemas": schemas,
            "responses": _responses(),
        },
        "paths": {**_paths(known), "/api-jobs/{uuid}": _poll()},
    }


def _responses() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "Refused": {"description": "The request is wrong in itself: nothing was done.", "content": content},
        "NotFound": {"description": "There is no such path, or the job has expired.", "content": content},
        "Failed": {"description": "The operation was understood and failed.", "content": content},
    }


_FAILURES = {
    "400": {"$ref": "#/components/responses/Refused"},
    "503": {"$ref": "#/components/responses/Failed"},
}


_FILE = {"type": "string", "format": "binary", "description": "the bytes as they are"}
_BYTES = {
    status: {"description": text, "content": {"application/octet-stream": {"schema": _FILE}}}
    for status, text in (("200", "The bytes."), ("206", "The range of the bytes that was asked for."))
}


def _paths(operations: list[type[Operation]]) -> dict[str, Any]:
    groups: dict[str, dict[str, list[tuple[type[Operation], str]]]] = {}
    for operation in operations:
        for path in operation.spec.paths:
            group = groups.setdefault(shape(path), {})
            group.setdefault(operation.spec.kind.method.lower(), []).append((operation, path))
    paths = {}
    for methods in groups.values():
        template = next(iter(methods.values()))[0][1]
        paths[template] = {method: _method(template, entries) for method, entries in methods.items()}
    return paths


def _method(template: str, entries: list[tuple[type[Operation], str]]) -> dict[str, Any]:
    operation, path = entries[0]
    by_uuid = operation.kind is Kind.QUERY and "{" in template
    name = "+".join(o.__name__ for o, _ in entries)
    parameters = _path_parameters(template, operation, path)
    if operation.kind is Kind.QUERY:
        parameters += [_parameter("query", n, s, d) for n, (s, d) in _QUERY_PARAMETERS.items()]
    elif not operation.spec.wrappers:
        parameters += _query_parameters(operation, path)
    if operation.kind.is_job:
        parameters += [_parameter("header", n, s, d) for n, (s, d) in _JOB_HEADERS.items()]
    texts = [_text(o) for o, _ in entries]
    described: dict[str, Any] = {
        "operationId": f"{name}ByUuid" if by_uuid else name,
        "summary": "; ".join(t.split(". ")[0].rstrip(".") for t in texts)
        + (", one by its uuid" if by_uuid else ""),
        "description": "\n\n".join(texts),
        "tags": [template.split("/")[1]],
        "parameters": parameters,
        "responses": _answers(entries),
    }
    if operation.spec.wrappers:
        described["requestBody"] = _body(entries)
    if not operation.spec.needs_session:
        described["security"] = []
    return described


def _text(operation: type[Operation]) -> str:
    return " ".join((operation.__doc__ or "").split())


def _parameter(
    place: str, name: str, schema: dict[str, Any], text: str, *, required: bool = False
) -> dict[str, Any]:
    made: dict[str, Any] = {"in": place, "name": name, "schema": schema, "description": text}
    if required:
        made["required"] = True
    return made


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _path_parameters(template: str, operation: type[Operation], path: str) -> list[dict[str, Any]]:
    made = []
    fields = {f.encode_name: f for f in msgspec.structs.fields(operation)}
    for shown, name in zip(_names(template), _names(path), strict=True):
        field = fields.get(name)
        text = parameter_text(operation, name, field.type if field else str)
        made.append(_parameter("path", shown, {"type": "string", "minLength": 1}, text, required=True))
    return made


def _query_parameters(operation: type[Operation], path: str) -> list[dict[str, Any]]:
    made = []
    for field in msgspec.structs.fields(operation):
        name = field.encode_name
        if name in _names(path) or name in ("systemTags", "userTags"):
            continue
        text = parameter_text(operation, name, field.type)
        made.append(_parameter("query", name, field_schema(field), text, required=field.required))
    return made


def _body(entries: list[tuple[type[Operation], str]]) -> dict[str, Any]:
    wrapped = [_wrapped(operation, path) for operation, path in entries]
    schema = wrapped[0] if len(wrapped) == 1 else {"oneOf": wrapped}
    return {
        "required": any(s["required"] for s in wrapped),
        "content": {"application/json": {"schema": schema}},
    }


def _wrapped(operation: type[Operation], path: str) -> dict[str, Any]:
    """Return the schema of a body: the wrapper with the parameters, tags beside it."""
    properties: dict[str, Any] = {}
    tags: dict[str, Any] = {}
    required = []
    for field in msgspec.structs.fields(operation):
        name = field.encode_name
        if name in _names(path):
            continue
        schema = {**field_schema(field), "description": parameter_text(operation, name, field.type)}
        if name in ("systemTags", "userTags"):
            tags[name] = schema
            continue
        properties[name] = schema
        if field.required:
            required.append(name)
    wrapper = operation.spec.wrappers[0]
    inner: dict[str, Any] = {
        "type": "object",
        "description": f"parameters of {operation.__name__}",
        "properties": properties,
    }
    if required:
        inner["required"] = required
    needed = [] if operation.kind is Kind.CREATE and not required else [wrapper]
    return {
        "type": "object",
        "title": operation.__name__,
        "required": needed,
        "properties": {wrapper: inner, **tags},
    }


def _answers(entries: list[tuple[type[Operation], str]]) -> dict[str, Any]:
    if issubclass(entries[0][0], Download):
        return {**_BYTES, **_FAILURES}
    replies = [_reply(operation, path) for operation, path in entries]
    distinct = list({msgspec.json.encode(r): r for r in replies}.values())
    schema = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
    done = {"content": {"application/json": {"schema": schema}}}
    if not issubclass(entries[0][0], JobOperation):
        return {"200": {"description": "The result.", **done}, **_FAILURES}
    accepted = {"schema": {"$ref": "#/components/schemas/Location"}}
    return {
        "202": {"description": "The job is accepted.", "content": {"application/json": accepted}},
        "200": {"description": "The result, as the location answers once the job has ended.", **done},
        **_FAILURES,
    }


def _reply(operation: type[Operation], path: str) -> dict[str, Any]:
    spec = operation.spec
    if operation.kind is Kind.QUERY and spec.reply:
        return _list_reply(spec.reply, one="{" in path)
    if spec.reply and operation.kind is not Kind.DELETE:
        inventory = {
            "$ref": f"#/components/schemas/{spec.reply.name}Inventory",
            "description": "the resource",
        }
        return {"type": "object", "properties": {"inventory": inventory}}
    return {"type": "object", "properties": {name: type_schema(kind) for name, kind in spec.returns.items()}}


def _list_reply(resource: Resource, *, one: bool) -> dict[str, Any]:
    item = {"$ref": f"#/components/schemas/{resource.name}Inventory"}
    properties: dict[str, Any] = {
        "inventories": {"type": "array", "items": item, "description": "the resources that match"},
        "total": {"type": "integer", "description": "number of all matches, when asked for"},
    }
    if one:
        properties["inventory"] = {**item, "description": "the resource, when it exists"}
    return {"type": "object", "properties": properties}


def _poll() -> dict[str, Any]:
    accepted = {"schema": {"$ref": "#/components/schemas/Location"}}
    uuid = _parameter("path", "uuid", {"type": "string", "minLength": 1}, "UUID of the job", required=True)
    result = {"schema": {"type": "object", "description": "the result of the job's operation"}}
    return {
        "get": {
            "operationId": "GetJob",
            "summary": "Look at a job",
            "description": "Look at a job (manual 3.5). Jobs are kept for two days after they ended.",
            "tags": ["api-jobs"],
            "parameters": [uuid],
            "responses": {
                "200": {"description": "The job has succeeded.", "content": {"application/json": result}},
                "202": {"description": "The job runs.", "content": {"application/json": accepted}},
                "404": {"$ref": "#/components/responses/NotFound"},
                **_FAILURES,
            },
        }
    }
