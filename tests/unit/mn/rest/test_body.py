from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import HardpointError
from mn.rest.body import DEPTH_MAX, parse_json, unwrap

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc"), JSON, max_size=3))
def test_a_json_object_is_taken_as_it_is(body: dict[str, Any]) -> None:
    assert parse_json(json.dumps(body).encode()) == body


@pytest.mark.parametrize("raw", [b"", b"  \r\n"])
def test_no_body_is_an_empty_one(raw: bytes) -> None:
    assert parse_json(raw) == {}


def test_whole_floats_are_integers_at_any_depth() -> None:
    body = parse_json(b'{"a": 22.0, "b": [3260.0, {"c": 1.073741824E9}], "d": 1.5}')
    assert json.dumps(body) == '{"a": 22, "b": [3260, {"c": 1073741824}], "d": 1.5}'


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a": 1, "a": 2}', "'a' comes twice"),
        (b'{"params": {"name": "x", "name": "y"}}', "'name' comes twice"),
        (b'{"l": [{"k": 1, "k": 1}]}', "'k' comes twice"),
        (b'{"a": ' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}", "nested deeper than 64"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested deeper than 64"),
        (b"[" * 1_000_000, "nested deeper than 64"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": Infinity}', "no JSON"),
        (b'{"a": "\\ud800"}', "no JSON"),
        (b'{"a": 1e999}', "no JSON"),
        (b'{"a": 1,}', "no JSON"),
        (b"{'a': 1}", "no JSON"),
        (b'{"a": 1} x', "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
    ],
)
def test_what_is_no_plain_json_object_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(HardpointError) as refused:
        parse_json(raw)
    assert refused.value.code == "SYS.1007"
    assert reason in refused.value.details


def test_as_many_levels_as_are_allowed_are_taken() -> None:
    parse_json(b'{"a": ' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}")


def test_tags_beside_and_inside_the_wrapper_are_joined() -> None:
    body = {"params": {"userTags": ["a"]}, "userTags": ["b"], "systemTags": ["c"]}
    assert unwrap(body, "params") == {"userTags": ["a", "b"], "systemTags": ["c"]}


@pytest.mark.parametrize("inside", [5, "text", {"a": 1}, True])
def test_wrong_tags_inside_are_left_for_the_parameters_check(inside: object) -> None:
    assert unwrap({"params": {"userTags": inside}, "userTags": ["b"]}, "params")["userTags"] == inside
