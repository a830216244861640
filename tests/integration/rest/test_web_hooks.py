from __future__ import annotations

import itertools
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.integration.rest.conftest import QUICK
from tests.integration.rest.receiver import Receiver
from tests.node import Answer, Node, Rest

NAMES = (f"zone-{n}" for n in itertools.count())


@pytest.fixture
def away() -> Iterator[Receiver]:
    """A receiver that does not run yet; its port is known."""
    made = Receiver()
    made.reserve()
    yield made
    made.stop()


def submit(rest: Rest, hook: str, name: str | None = None, **headers: str) -> Answer:
    """Create a zone with a web hook."""
    body = {"params": {"name": name or next(NAMES)}}
    return rest.call("POST", "/zones", body, headers={"X-Web-Hook": hook, **headers})


def job_of(answer: Answer) -> str:
    assert answer.status == 202, answer
    return answer.location.rpartition("/")[2]


def test_the_manuals_web_hook_brings_what_a_poll_would(rest: Rest, receiver: Receiver) -> None:
    job = uuid.uuid4().hex
    accepted = submit(rest, receiver.url, **{"X-Job-UUID": job})
    assert accepted.status == 202
    receiver.wait(lambda: bool(receiver.calls))
    (call,) = receiver.calls
    assert call.path == "/hook"
    assert call.headers["X-Job-UUID"] == job
    assert call.headers["X-Job-Success"] == "true"
    assert call.headers["Content-Type"].startswith("application/json")
    assert call.body == rest.wait(accepted.location).raw


def test_a_failed_job_is_told_with_its_error(rest: Rest, receiver: Receiver) -> None:
    params = {"name": "c", "zoneUuid": uuid.uuid4().hex, "hypervisorType": "KVM"}
    accepted = rest.call("POST", "/clusters", {"params": params}, headers={"X-Web-Hook": receiver.url})
    receiver.wait(lambda: bool(receiver.calls))
    failed = rest.wait(accepted.location)
    assert failed.status == 503
    assert receiver.calls[0].headers["X-Job-Success"] == "false"
    assert receiver.calls[0].body == failed.raw


def test_all_hooks_of_a_receiver_that_was_away_arrive_once_it_is_back(rest: Rest, away: Receiver) -> None:
    locations = {job_of(a): a.location for a in (submit(rest, away.url) for _ in range(24))}
    bodies = {job: rest.wait(location).raw for job, location in locations.items()}
    time.sleep(0.5)  # some attempts have failed meanwhile
    away.start()
    away.wait(lambda: len(away.calls) >= 24)
    time.sleep(0.5)  # nothing more comes
    assert {call.job: call.body for call in away.calls} == bodies
    assert len(away.calls) == 24


def test_a_hook_is_repeated_until_it_is_acknowledged_and_then_no_more(rest: Rest, receiver: Receiver) -> None:
    receiver.status = lambda _call: (
        200 if len(receiver.calls) >= 4 else (500, 404, 302, 199 + 201)[len(receiver.calls)]
    )
    submit(rest, receiver.url)
    receiver.wait(lambda: bool(receiver.acknowledged))
    time.sleep(0.6)
    assert len(receiver.calls) == 5
    waits = [b.at - a.at for a, b in itertools.pairwise(receiver.calls)]
    assert waits[0] >= 0.02
    assert waits[2] >= 0.09


def test_a_redirect_is_not_followed(rest: Rest, receiver: Receiver) -> None:
    elsewhere = Receiver()
    elsewhere.start()
    receiver.answer_headers = {"Location": elsewhere.url}
    receiver.status = lambda _call: 307 if len(receiver.calls) < 2 else 204
    try:
        submit(rest, receiver.url)
        receiver.wait(lambda: bool(receiver.acknowledged))
        assert not elsewhere.calls
    finally:
        elsewhere.stop()


def test_a_receiver_that_never_answers_does_not_hold_up_another(rest: Rest, receiver: Receiver) -> None:
    stuck = Receiver(status=lambda _call: time.sleep(1.5) or 503)  # type: ignore[func-returns-value]
    stuck.start()
    try:
        for _ in range(40):
            submit(rest, stuck.url)
        stuck.wait(lambda: stuck.most_at_once > 0)
        job = job_of(submit(rest, receiver.url))
        receiver.wait(lambda: [c.job for c in receiver.acknowledged] == [job])
        assert len(stuck.calls) < 40, "it waited behind the other's"
        assert stuck.most_at_once <= 4
    finally:
        stuck.status = lambda _call: 200
        stuck.wait(lambda: len(stuck.acknowledged) == 40)
        stuck.stop()


def test_a_large_answer_of_a_receiver_is_not_read(node: Node, rest: Rest, receiver: Receiver) -> None:
    receiver.answer_body = b"x" * 50_000_000
    job = job_of(submit(rest, receiver.url))
    receiver.wait(lambda: [c.job for c in receiver.acknowledged] == [job])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "receiver",
        "/hook",
        "ftp://h/x",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://h:0/",
        "http://h:99999/",
        "http://h:x/",
        "http://a b/",
        "http://[::1/",
        "http://h/" + "x" * 2048,
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://224.0.0.1/",
        "http://0.0.0.0:8080/",
        "http://[::]/",
        "http://255.255.255.255/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
    ],
)
def test_a_url_that_cannot_be_called_is_refused_before_there_is_a_job(rest: Rest, url: str) -> None:
    name = next(NAMES)
    answer = submit(rest, url, name)
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert "X-Web-Hook" in answer.error["details"]
    assert not rest.query("/zones", f"name={name}")


def test_loopback_is_not_called_for_a_request_that_a_proxy_passed_on(rest: Rest, receiver: Receiver) -> None:
    for header in ({"X-Forwarded-For": "192.0.2.7"}, {"Forwarded": "for=192.0.2.7"}):
        for url in (
            receiver.url,
            receiver.url.replace("127.0.0.1", "localhost"),
            "http://localhost./",
            "http://[::1]:1/",
        ):
            assert submit(rest, url, **header).status == 400


def test_the_same_request_with_another_web_hook_is_another_request(rest: Rest, receiver: Receiver) -> None:
    job, name = uuid.uuid4().hex, next(NAMES)
    named = {"X-Job-UUID": job}
    assert submit(rest, receiver.url, name, **named).status == 202
    assert submit(rest, receiver.url, name, **named).status == 202
    assert submit(rest, f"{receiver.url}/other", name, **named).status == 400
    assert rest.call("POST", "/zones", {"params": {"name": name}}, headers=named).status == 400
    receiver.wait(lambda: bool(receiver.calls))
    time.sleep(0.2)
    assert len(receiver.calls) == 1


def test_a_web_hook_for_an_answer_at_once_is_left_aside_and_that_is_said(
    rest: Rest, receiver: Receiver
) -> None:
    answer = rest.call(
        "PUT", "/management-nodes/actions", {"getVersion": {}}, headers={"X-Web-Hook": receiver.url}
    )
    assert answer.status == 200
    assert "X-Web-Hook left aside" in answer.headers["X-Hardpoint-Notice"]


def test_the_url_of_a_web_hook_is_not_readable_on_disk(node: Node, rest: Rest, away: Receiver) -> None:
    submit(rest, f"{away.url}?token=hunter2-in-the-url")
    rest.wait(submit(rest, away.url).location)
    assert postgres.holders(node.state, "hunter2-in-the-url") == []
    assert postgres.holders(node.state, "CreateZone"), "what is stored in clear would be found"


def test_a_hook_outlives_a_node_that_is_killed_between_the_end_and_the_delivery(
    tmp_path: Path, away: Receiver
) -> None:
    node = Node(tmp_path / "state", QUICK)
    node.start()
    jobs: dict[str, bytes] = {}
    try:
        rest = node.rest().logged_in()
        for _ in range(8):
            accepted = submit(rest, away.url)
            jobs[job_of(accepted)] = rest.wait(accepted.location).raw
        os.kill(json.loads((node.state / "mn.lock").read_text())["pid"], signal.SIGKILL)
        node._process.wait(30)  # type: ignore[union-attr]
        away.start()
        node.start()
        away.wait(lambda: {c.job: c.body for c in away.acknowledged} == jobs)
        assert _states(node.state) == ["Delivered"] * 8
    finally:
        node.stop()


def _states(state: Path) -> list[str]:
    deadline = time.monotonic() + 10
    while True:
        states = [str(row[0]) for row in postgres.rows(state, "SELECT state FROM job_hook")]
        if (states and "Pending" not in states) or time.monotonic() > deadline:
            return states
        time.sleep(0.02)


def test_a_hook_that_nobody_acknowledges_is_given_up_in_the_end(tmp_path: Path, away: Receiver) -> None:
    node = Node(tmp_path / "state", {**QUICK, "HARDPOINT_WEB_HOOK_GIVE_UP_S": "1"})
    node.start()
    try:
        submit(node.rest().logged_in(), away.url)
        assert _states(node.state) == ["GivenUp"]
        assert "web hook given up" in node.log()
    finally:
        node.stop()


def test_only_the_networks_of_the_settings_are_called(tmp_path: Path) -> None:
    node = Node(tmp_path / "state", {"HARDPOINT_WEB_HOOK_NETWORKS": '["192.0.2.0/24"]'})
    node.start()
    try:
        rest = node.rest().logged_in()
        assert submit(rest, "http://192.0.2.9/hook").status == 202
        refused = submit(rest, "http://198.51.100.9/hook")
        assert refused.status == 400
        assert "web_hook_networks" in refused.error["details"]
    finally:
        node.stop()
