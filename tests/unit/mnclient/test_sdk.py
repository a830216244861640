from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from mnclient import sdk
from mnclient.actions import (
    AddKVMHostAction,
    CreateZoneAction,
    LogInByAccountAction,
    LogOutAction,
    QueryZoneAction,
)
from mnclient.description import SHIPPED
from mnclient.hooks import HookReceiver
from mnclient.inventories import ZoneInventory
from mnclient.protocol import Progress
from mnclient.transport import Node
from tests.unit.mnclient.fake_node import FakeNode, Received, Reply, deliver, fake_node

ZONE = {"inventory": {"uuid": "a" * 32, "name": "zone1"}}
LOCATION = {"location": "http://elsewhere/zstack/v1/api-jobs/x"}
ERROR = {"code": "SYS.1", "details": "no", "cause": {"code": "SYS.2", "details": "deeper"}}


@pytest.fixture(autouse=True)
def _default_connection() -> Iterator[None]:
    yield
    sdk.configure()


def _configure(node: FakeNode, **options: Any) -> sdk.Connection:
    return sdk.configure("127.0.0.1", node.port, sessionId="s" * 32, defaultPollingInterval=0.05, **options)


def _job(polls: int = 2, end: Reply = (200, ZONE, {})) -> Any:
    left = iter(range(polls))

    def script(received: Received) -> Reply:
        if received.method == "GET" and next(left, None) is None:
            return end
        return 202, LOCATION, {"X-Job-Progress": "40", "X-Job-Step": "deploy"}

    return script


def test_an_action_is_used_as_the_manual_prints_it() -> None:
    with fake_node(_job()) as node:
        _configure(node)
        action = CreateZoneAction()
        action.name = "TestZone"
        action.description = "test zone"
        action.sessionId = "982a09118de64ef7a9051fde346270c5"
        res: CreateZoneAction.Result = action.call()
    assert res.error is None
    assert res.value.inventory.name == "zone1"
    begun = node.received[0]
    assert (begun.method, begun.path) == ("POST", "/zstack/v1/zones")
    assert begun.body == {"params": {"name": "TestZone", "description": "test zone"}}
    assert begun.headers["authorization"] == "OAuth 982a09118de64ef7a9051fde346270c5"
    assert node.received[1].path == "/zstack/v1/api-jobs/x"


def test_a_query_sends_conditions_and_options() -> None:
    with fake_node(lambda _: (200, {"inventories": [ZONE["inventory"]], "total": 7}, {})) as node:
        _configure(node)
        action = QueryZoneAction(conditions=["name=TestZone", "state=Enabled"], limit=3, replyWithCount=True)
        action.sortBy, action.sortDirection = "name", "desc"
        result = action.call()
    assert [zone.uuid for zone in result.value.inventories] == ["a" * 32]
    assert isinstance(result.value.inventories[0], ZoneInventory)
    assert result.value.inventories[0].description is None
    assert result.value.total == 7
    expected = "q=name%3DTestZone&q=state%3DEnabled&sort=-name&limit=3&replyWithCount=true"
    assert node.received[0].path == f"/zstack/v1/zones?{expected}"


async def test_the_same_goes_on_an_event_loop() -> None:
    with fake_node(_job()) as node:
        connection = _configure(node)
        results = await asyncio.gather(*(CreateZoneAction(name="z").call_async() for _ in range(3)))
        await connection.close()
    assert [result.value.inventory.name for result in results] == ["zone1"] * 3


def test_an_error_of_the_node_is_in_the_result_with_its_cause() -> None:
    with fake_node(_job(end=(503, {"error": ERROR}, {}))) as node:
        _configure(node)
        result = CreateZoneAction(name="z").call()
    assert result.error is not None
    assert (result.error.code, result.error.details, result.error.status) == ("SYS.1", "no", 503)
    assert result.error.cause is not None
    assert result.error.cause.code == "SYS.2"
    with pytest.raises(sdk.OperationError, match=r"SYS.1: no \(cause: SYS.2: deeper\)"):
        _ = result.value


def test_what_is_missing_is_refused_before_anything_is_sent() -> None:
    with fake_node(_job()) as node:
        _configure(node)
        with pytest.raises(sdk.RequestError, match="AddKVMHost: required and not given: username, password"):
            AddKVMHostAction(name="h").call()
        with pytest.raises(sdk.RequestError, match="'hostUuids' is 'a': give a list"):
            sdk.operation("KvmRunShell")(hostUuids="a", script="true").call()
    assert node.received == []


def test_an_unknown_attribute_is_refused_with_the_nearest_name() -> None:
    action = CreateZoneAction()
    with pytest.raises(AttributeError, match="has no parameter 'nmae'; did you mean 'name'"):
        action.nmae = "x"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="did you mean 'description'"):
        CreateZoneAction(desciption="x")  # type: ignore[call-arg]


def test_the_session_may_be_called_session_uuid() -> None:
    action = CreateZoneAction()
    action.sessionUuid = "x" * 32  # type: ignore[attr-defined]
    assert action.sessionId == "x" * 32
    assert LogOutAction(sessionUuid="y").sessionId is None


def test_a_call_that_needs_a_session_says_so() -> None:
    sdk.configure("127.0.0.1", 1)
    with pytest.raises(sdk.NotLoggedInError, match="CreateZone needs a session"):
        CreateZoneAction(name="z").call()


def test_secrets_are_in_no_repr() -> None:
    action = AddKVMHostAction(name="h", password="top-secret", sessionId="session-secret")
    assert "secret" not in repr(action)
    assert "name='h'" in repr(action)
    connection = sdk.configure(sessionId="session-secret")
    assert "secret" not in repr(connection)
    reply = {"inventory": {"uuid": "session-secret", "expiredDate": "Jan 1, 2030"}}
    with fake_node(lambda _: (200, reply, {})) as node:
        _configure(node)
        result = LogInByAccountAction(accountName="a", password="top-secret").call()
    assert "secret" not in repr(result)
    assert result.value.inventory.uuid == "session-secret"


def test_a_job_that_does_not_end_in_time_is_named() -> None:
    with fake_node(_job(polls=10**6)) as node:
        _configure(node)
        with pytest.raises(sdk.JobTimeoutError, match="it goes on") as caught:
            CreateZoneAction(name="z", timeout=0.2).call()
    assert caught.value.job_uuid == node.received[0].headers["x-job-uuid"]


def test_a_node_that_is_away_is_named() -> None:
    with fake_node(_job()) as node:
        _configure(node)
    with pytest.raises(sdk.NoAnswerError, match=f"{node.url} cannot be reached"):
        CreateZoneAction(name="z").call()


def test_a_request_whose_answer_was_lost_is_sent_again_as_the_same_job() -> None:
    job = _job(polls=1)
    lost = iter(range(2))
    with fake_node(lambda r: None if r.method == "POST" and next(lost, None) is not None else job(r)) as node:
        _configure(node)
        result = CreateZoneAction(name="z").call()
    assert result.value.inventory.name == "zone1"
    begun = [r for r in node.received if r.method == "POST"]
    assert len(begun) == 3
    assert len({r.headers["x-job-uuid"] for r in begun}) == 1


def test_a_node_that_restarts_while_a_job_runs_is_waited_for() -> None:
    job = _job(polls=2)
    broken = iter(range(3))
    with fake_node(
        lambda r: None if r.method == "GET" and next(broken, None) is not None else job(r)
    ) as node:
        _configure(node)
        assert CreateZoneAction(name="z").call().value.inventory.name == "zone1"


def test_progress_is_told() -> None:
    told: list[Progress] = []
    with fake_node(_job(polls=2)) as node:
        connection = _configure(node)
        options = sdk.Options(session="s", on_progress=told.append)
        connection.call("CreateZone", {"name": "z"}, options)
    assert {(p.percent, p.step) for p in told} == {(40, "deploy")}


def _hooked(success: bool, body: Any) -> Any:
    def script(received: Received) -> Reply:
        if received.method == "POST":
            threading.Thread(target=deliver, args=(received, body), kwargs={"success": success}).start()
        return 202, LOCATION, {}

    return script


def test_a_web_hook_ends_the_waiting_without_a_poll() -> None:
    with fake_node(_hooked(True, ZONE)) as node:
        _configure(node, webHook=True)
        assert CreateZoneAction(name="z").call().value.inventory.name == "zone1"
    assert node.received[0].headers["x-web-hook"].startswith("http://127.0.0.1:")
    assert node.count("GET") == 0


async def test_a_web_hook_tells_of_a_failure_on_an_event_loop_too() -> None:
    with fake_node(_hooked(False, {"error": ERROR})) as node:
        connection = _configure(node, webHook=True)
        result = await CreateZoneAction(name="z").call_async()
        await connection.close()
    assert result.error is not None
    assert result.error.code == "SYS.1"


def test_a_hook_that_gets_lost_is_made_up_for_by_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnclient.protocol.HOOK_POLL_S", 0.1)
    with fake_node(_job(polls=1)) as node:
        _configure(node, webHook=True)
        assert CreateZoneAction(name="z").call().value.inventory.name == "zone1"


def test_a_receiver_takes_nothing_from_those_who_do_not_know_its_path() -> None:
    receiver = HookReceiver()
    try:
        delivery = receiver.expect("j")
        headers = {"X-Job-UUID": "j", "X-Job-Success": "true"}
        guessed = receiver.url.rpartition("/")[0] + "/guess"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(urllib.request.Request(guessed, b"{}", headers))
        assert not delivery.done()
        urllib.request.urlopen(urllib.request.Request(receiver.url, b'{"a": 1}', headers)).close()
        assert delivery.result(5).body == {"a": 1}
        urllib.request.urlopen(urllib.request.Request(receiver.url, b"{}", headers)).close()
    finally:
        receiver.close()


def _described(change: dict[str, Any], *, without: str = "") -> Any:
    raw = json.loads(SHIPPED.read_text())
    raw["operations"].update(change)
    raw["operations"].pop(without, None)

    def script(received: Received) -> Reply:
        if received.path == "/zstack/v1/description":
            return 200, {"version": "9.9", **raw}, {}
        if received.path.startswith("/zstack/v1/moons"):
            return 200, {"inventory": {"name": "Luna"}}, {}
        return 404, {"error": {"code": "SYS.1003", "details": "there is no such path"}}, {}

    return script


def test_an_operation_that_only_the_node_knows_can_be_called() -> None:
    moon = {
        "kind": "get",
        "method": "GET",
        "job": False,
        "paths": ["/moons/{uuid}"],
        "session": True,
        "parameters": [{"name": "uuid", "type": "String", "required": True}],
    }
    with fake_node(_described({"GetMoon": moon})) as node:
        _configure(node)
        action = sdk.operation("GetMoon")(uuid="a/b")
        assert action.call().value.inventory.name == "Luna"
    assert node.received[-1].path == "/zstack/v1/moons/a%2Fb"


def test_an_operation_that_the_node_does_not_know_gives_a_clear_error() -> None:
    with fake_node(_described({}, without="QueryZone")) as node:
        _configure(node)
        with pytest.raises(sdk.RequestError, match=r"\(version 9.9\) does not know QueryZone"):
            QueryZoneAction().call()
        with pytest.raises(sdk.RequestError, match="does not know QueryZone"):
            QueryZoneAction().call()


def test_an_operation_that_nobody_knows_gets_a_hint() -> None:
    with fake_node(_described({})) as node:
        _configure(node)
        with pytest.raises(sdk.RequestError, match="did you mean 'CreateZone'"):
            sdk.operation("CreateZon")


def test_a_call_after_one_that_was_interrupted_is_a_call_of_its_own() -> None:
    def script(received: Received) -> Reply:
        if "name=slow" in unquote(received.path):
            begun.set()
            over.wait(10)
        return 200, {"inventories": [{"name": received.path}]}, {}

    def interrupt() -> None:
        begun.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    begun, over = threading.Event(), threading.Event()
    with fake_node(script) as node:
        _configure(node)
        QueryZoneAction(conditions=["name=first"]).call()
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            QueryZoneAction(conditions=["name=slow"]).call()
        over.set()
        found = QueryZoneAction(conditions=["name=after"]).call().value.inventories[0].name
    assert "after" in found


@pytest.mark.parametrize("told", [{}, [], "not JSON", {"operations": {"QueryZone": 1}, "resources": {}}])
def test_a_description_that_is_none_leaves_what_is_known(told: Any) -> None:
    with fake_node(lambda _: (200, told, {})) as node:
        connection = sdk.Connection(Node(node.url))
        known = connection.description
        assert connection.learn() is known
