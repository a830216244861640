from __future__ import annotations

import io
import json

import pytest
import yaml

from mnclient.errors import (
    ErrorCode,
    HardpointClientError,
    JobTimeoutError,
    NoAnswerError,
    NotLoggedInError,
    OperationError,
    RequestError,
)
from mnclient.shell.output import explain, render

ROWS = {"inventories": [{"uuid": "u1", "state": "Enabled", "name": "zone1", "size": 3, "tags": ["a", "b"]}]}


def test_rows_become_a_table_with_names_first() -> None:
    lines = render(ROWS, "table", width=100).splitlines()
    assert [cell.strip() for cell in lines[1].strip("│").split("│")] == [
        "name",
        "uuid",
        "state",
        "size",
        "tags",
    ]
    assert [cell.strip() for cell in lines[3].strip("│").split("│")] == [
        "zone1",
        "u1",
        "Enabled",
        "3",
        "a, b",
    ]


def test_fields_that_were_asked_for_keep_their_order() -> None:
    header = render(ROWS, "table", ["state", "name"], width=100).splitlines()[1]
    assert header.index("state") < header.index("name")
    assert "uuid" not in header


def test_columns_that_do_not_fit_are_named_below() -> None:
    text = render(ROWS, "table", width=30)
    assert all(len(line) <= 30 for line in text.splitlines())
    table, _, note = text.partition("not shown: ")
    assert "name" in table
    assert "tags" not in table
    assert "tags" in note


def test_one_inventory_is_shown_field_by_field_and_a_count_as_a_line() -> None:
    assert "│ name  │ zone1 │" in render({"inventory": {"name": "zone1"}}, "table", width=80)
    assert render({"total": 7}, "table") == "total: 7"
    assert render({"inventories": []}, "table") == "nothing found"
    assert render({}, "table") == "done"


def test_json_and_yaml_hold_the_whole_reply() -> None:
    assert json.loads(render(ROWS, "json")) == ROWS
    assert yaml.safe_load(render(ROWS, "yaml")) == ROWS


def test_a_name_with_control_characters_does_nothing_to_the_terminal() -> None:
    evil = {"inventories": [{"name": "\x1b]0;title\x07\x9b2Jusb [red]disk[/red]"}]}
    for form in ("table", "json", "yaml"):
        text = render(evil, form, width=100)
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert "[red]disk[/red]" in render(evil, "table", width=100)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OperationError(ErrorCode("SYS.1003", "Resource not found", "no zone")),
            1,
            "X failed: SYS.1003 Resource",
        ),
        (
            OperationError(ErrorCode("ID.1000", "", "wrong password; send a SHA-512")),
            3,
            "X: wrong password\n",
        ),
        (OperationError(ErrorCode("ID.1001", "Invalid session", "expired")), 3, "log in: hardpoint login"),
        (RequestError("no"), 2, "X: no"),
        (NotLoggedInError("needs a session"), 3, "log in: hardpoint login"),
        (NoAnswerError("cannot be reached"), 4, "X: cannot be reached"),
        (JobTimeoutError("not ended", "j1"), 1, "follow it: hardpoint job j1"),
    ],
)
def test_every_kind_of_error_has_its_exit_code_and_words(
    error: HardpointClientError, code: int, said: str
) -> None:
    out = io.StringIO()
    assert explain(error, "X", out) == code
    assert said in out.getvalue()


def test_an_error_is_shown_with_its_causes() -> None:
    deepest = ErrorCode("HOST.2", "Refused", "port 22")
    error = ErrorCode("HOST.1", "Unable", "first\nsecond", cause=deepest)
    out = io.StringIO()
    explain(OperationError(error), "AddKVMHost", out)
    assert out.getvalue().splitlines() == [
        "AddKVMHost failed: HOST.1 Unable",
        "  first",
        "  second",
        "  cause: HOST.2 Refused",
        "    port 22",
    ]
