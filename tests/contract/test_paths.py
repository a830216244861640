from __future__ import annotations

import urllib.parse

import pytest

from tests.contract.catalogue import SERVED_OPERATIONS, WITH_BODY, Operation
from tests.contract.conftest import World, fill
from tests.contract.params import new_uuid

"""What a getter must be asked with."""
FORMS = ("/zstack/v1{}", "/v1{}", "/zstack/v1{}/", "/v1{}/")
VERBS = {"GET", "POST", "PUT", "DELETE", "PATCH"}
CASES = [(operation, path) for operation in SERVED_OPERATIONS for path in operation.paths]
CASE_IDS = [f"{operation.name} {path}" for operation, path in CASES]

NEEDS_BODY = [o for o in WITH_BODY if o.method == "PUT" or o.required_in_body()]
"""All but those whose path alone says everything (DetachUsbDeviceFromVm)."""


def _documented_verbs(path: str) -> set[str]:
    return {operation.method for operation, other in CASES if other == path}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("operation", "path"), CASES, ids=CASE_IDS)
def test_an_operation_answers_at_each_of_its_paths_in_every_form(
    world: World, operation: Operation, path: str, form: str
) -> None:
    body = {operation.wrapper: {}} if operation.wrapper else None
    named = urllib.parse.urlencode(world.query_for(operation))
    url = form.format(world.path(operation, path)) + (f"?{named}" if named else "")
    answer = world.admin.call(operation.method, url, body)
    if operation.required_in_body():
        assert answer.status == 400
        assert answer.error["details"].startswith(f"{operation.name}: parameter ")
    elif operation.is_job:
        assert answer.status == 202
    else:
        assert answer.status == 200
        assert set(operation.reply) <= set(answer.body)


@pytest.mark.parametrize("path", sorted({path for _, path in CASES}))
def test_another_verb_is_refused_and_the_right_ones_are_named(world: World, path: str) -> None:
    allowed = _documented_verbs(path)
    if path == "/primary-storage/{uuid}":
        allowed |= {"GET"}  # as other resources have it
    for verb in sorted(VERBS - allowed):
        answer = world.admin.call(verb, fill(path), {})
        assert answer.status == 405, verb
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert answer.error["code"] == "SYS.1008"
        assert all(right in answer.error["details"] for right in allowed)


def test_a_job_is_only_looked_at(world: World) -> None:
    for verb in ("POST", "PUT", "DELETE"):
        answer = world.admin.call(verb, f"/api-jobs/{new_uuid()}", {})
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "path",
    [
        "/zstack/v1/no-such-thing",
        "/zstack/v1/zones/a/b",
        "/zstack/v2/zones",
        "/zones",
        "/zstack/v1",
        "/zstack/v1/",
        "/",
        "/zstack/v1/zones%2f",
        "/zstack/v1/zones/a%0Ab/c",
    ],
)
def test_an_unknown_path_is_a_404_that_names_it(world: World, path: str) -> None:
    url = world.admin.url + path
    answer = world.admin.call("GET", url)
    if path.endswith("%2f"):
        assert answer.status in (200, 404)
    else:
        assert answer.status == 404
        assert answer.error["code"] == "SYS.1003"
        assert urllib.parse.unquote(path) in answer.error["details"]


@pytest.mark.parametrize("operation", NEEDS_BODY, ids=lambda o: o.name)
@pytest.mark.parametrize("body", [None, {}, {"somethingElse": {}}, {"somethingElse": 1, "systemTags": []}])
def test_a_body_without_its_wrapper_is_refused_and_the_wrapper_is_named(
    world: World, operation: Operation, body: object
) -> None:
    answer = world.admin.call(operation.method, fill(operation.paths[0]), body)
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert f"'{operation.wrapper}'" in answer.error["details"]


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda o: o.name)
@pytest.mark.parametrize("inner", [[], "text", 5, True])
def test_a_wrapper_that_holds_no_object_is_refused(world: World, operation: Operation, inner: object) -> None:
    answer = world.call(operation, inner)
    assert answer.status == 400
    assert f"'{operation.wrapper}' is no object" in answer.error["details"]


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda o: o.name)
@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"params=1",
        b"[]",
        b"5",
        b"\xff\xfe",
        b'{"params": {"name": "a",}}',
        b"[" * 100_000,
        b'{"params": {"name": 1e999}}',
        b'{"params": {"name": "\\ud800"}}',
    ],
    ids=repr,
)
def test_a_body_that_is_no_json_object_is_refused_in_json(
    world: World, operation: Operation, raw: bytes
) -> None:
    answer = world.admin.call(operation.method, fill(operation.paths[0]), raw=raw)
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert answer.error["details"].startswith("the body is no")


def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    raw = b'{"params": {"name": "' + b"x" * (17 * 1024 * 1024) + b'"}}'
    answer = world.admin.call("POST", "/zones", raw=raw)
    assert answer.status == 400
    assert "larger than 16777216 bytes" in answer.error["details"]


def test_the_static_path_of_an_operation_wins_over_a_placeholder(world: World) -> None:
    answer = world.admin.get("/hosts/hypervisor-types")
    assert "hypervisorTypes" in answer.body
    assert "inventories" not in answer.body
