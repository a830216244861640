import io
import json
import logging

import pytest
from aiohttp import http_exceptions

from agentkit import logs


@pytest.fixture
def lines():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.setup("testagent", "INFO", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_has_time_level_component_event_and_extras(lines):
    logging.getLogger("agentkit.x").warning("disk %s full", "sda", extra={"free": 3, "where": {"a": [1]}})
    logging.getLogger().debug("not shown")
    (line,) = lines()
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-11-23T16:40:00.000Z")
    del line["time"]
    assert line == {
        "level": "warning",
        "component": "testagent",
        "event": "disk sda full",
        "logger": "agentkit.x",
        "free": 3,
        "where": {"a": [1]},
    }


def test_an_exception_is_one_field(lines):
    try:
        raise ValueError("boo\nhoo")
    except ValueError:
        logging.getLogger().exception("failed")
    (line,) = lines()
    assert line["exception"].startswith("Traceback")
    assert "boo" in line["exception"]


def test_what_is_no_http_is_no_fault_of_ours(lines):
    try:
        raise http_exceptions.LineTooLong(b"GET /" + b"x" * 9000, 8190)
    except http_exceptions.LineTooLong:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    (line,) = lines()
    assert (line["level"], line["event"]) == ("info", "no HTTP request")
    assert "8190" in line["reason"]
    assert len(line["reason"]) <= logs.REASON_MOST
    assert "exception" not in line


def test_secrets_are_masked_at_any_depth(lines):
    extra = {
        "password": "p",
        "nested": {"chapUserPassword": "p", "list": [{"private_key": "p"}]},
        "peer": "ok",
    }
    logging.getLogger().info("x", extra=extra)
    (line,) = lines()
    assert line["password"] == "*****"
    assert line["nested"] == {"chapUserPassword": "*****", "list": [{"private_key": "*****"}]}
    assert line["peer"] == "ok"


def test_what_is_no_json_is_written_as_text(lines):
    logging.getLogger().info("x", extra={"thing": object(), "bytes": b"\xff", "many": {1: {2}}})
    assert lines()[0]["thing"].startswith("<object")
