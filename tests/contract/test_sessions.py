from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from tests.contract.catalogue import SERVED_OPERATIONS, Operation
from tests.contract.conftest import World, fill
from tests.contract.params import ABSENT, new_uuid
from tests.node import ADMIN_PASSWORD, Answer, Rest

ADMIN_UUID = "36c27e8ff05c4780bf6d2fa65700f22e"
DIGEST = hashlib.sha512(ADMIN_PASSWORD.encode()).hexdigest()
UUID = re.compile("[0-9a-f]{32}")


def _log_in(rest: Rest, wrapper: str = "logInByAccount", **parameters: Any) -> Answer:
    return rest.call("PUT", "/accounts/login", {wrapper: parameters})


def _call(rest: Rest, operation: Operation, **options: Any) -> Answer:
    body = {operation.wrapper: {}} if operation.wrapper else None
    return rest.call(operation.method, fill(operation.paths[0]), body, **options)


@pytest.mark.parametrize("wrapper", ["logInByAccount", "loginByAccount"])
def test_login_opens_a_session_of_two_hours(admin: Rest, wrapper: str) -> None:
    answer = _log_in(Rest(admin.url), wrapper, accountName="admin", password=DIGEST)
    assert answer.status == 200
    session = answer.body["inventory"]
    assert set(session) == {"uuid", "accountUuid", "userUuid", "expiredDate", "createDate"}
    assert session["accountUuid"] == session["userUuid"] == ADMIN_UUID
    assert UUID.fullmatch(session["uuid"])
    assert Rest(admin.url, session["uuid"]).get("/zones").status == 200


def test_the_digest_of_the_password_may_be_in_capitals(admin: Rest) -> None:
    assert _log_in(Rest(admin.url), accountName="admin", password=DIGEST.upper()).status == 200


@pytest.mark.parametrize(
    ("account", "password"),
    [
        ("admin", "hunter2"),
        ("admin", DIGEST[:-1]),
        ("nobody", DIGEST),
        ("Admin", DIGEST),
        ("admin' --", DIGEST),
    ],
)
def test_a_wrong_account_and_a_wrong_password_get_the_same_answer(
    admin: Rest, account: str, password: str
) -> None:
    answer = _log_in(Rest(admin.url), accountName=account, password=password)
    assert answer.status == 503
    assert answer.error["code"] == "ID.1000"
    assert answer.error["details"].startswith("wrong account name or password;")
    assert password not in answer.raw.decode()


@pytest.mark.parametrize("missing", ["accountName", "password"])
def test_login_needs_account_and_password(admin: Rest, missing: str) -> None:
    parameters = {"accountName": "admin", "password": DIGEST}
    del parameters[missing]
    answer = _log_in(Rest(admin.url), **parameters)
    assert answer.status == 400
    assert f"'{missing}' is missing" in answer.error["details"]


@pytest.mark.parametrize("operation", SERVED_OPERATIONS, ids=lambda o: o.name)
def test_an_operation_without_a_session_is_refused(world: World, operation: Operation) -> None:
    answer = _call(Rest(world.admin.url), operation)
    assert answer.status == 400
    assert "the Authorization header is not understood: it is missing" in answer.error["details"]


@pytest.mark.parametrize("operation", SERVED_OPERATIONS, ids=lambda o: o.name)
def test_an_operation_with_an_unknown_session_is_refused(world: World, operation: Operation) -> None:
    answer = _call(Rest(world.admin.url, new_uuid()), operation)
    assert answer.status == 503
    assert answer.error["code"] == "ID.1001"
    assert "log in again" in answer.error["details"]


@pytest.mark.parametrize("header", ["", "OAuth", "OAuth ", "Basic abc", "oauth {}", "OAuth {} x", "{}"])
def test_a_malformed_authorization_is_refused_with_the_right_form(admin: Rest, header: str) -> None:
    assert admin.session
    rest = Rest(admin.url, headers={"Authorization": header.format(admin.session)})
    answer = rest.get("/zones")
    assert answer.status == 400
    assert "OAuth <session uuid>" in answer.error["details"]
    assert admin.session not in answer.raw.decode()


def test_jobs_are_shown_to_sessions_only(world: World) -> None:
    job = world.admin.call("POST", "/zones", {"params": {"name": "private"}}).location
    assert Rest(world.admin.url).call("GET", job).status == 400
    assert Rest(world.admin.url, new_uuid()).call("GET", job).status == 503


def test_after_the_logout_a_session_is_unknown(admin: Rest) -> None:
    rest = admin.logged_in()
    path = f"/accounts/sessions/{rest.session}"
    assert rest.get(f"{path}/valid").body == {"valid": True}
    answer = Rest(admin.url).call("DELETE", path)
    assert (answer.status, answer.body) == (200, {})
    assert rest.get("/zones").error["code"] == "ID.1001"
    assert rest.get(f"{path}/valid").body == {"valid": False}
    assert Rest(admin.url).call("DELETE", path).status == 200


def test_one_logout_leaves_other_sessions(admin: Rest) -> None:
    first, second = admin.logged_in(), admin.logged_in()
    assert first.session != second.session
    first.call("DELETE", f"/accounts/sessions/{first.session}")
    assert second.get("/zones").status == 200


@pytest.mark.parametrize("session", [ABSENT, "x", "%27%20OR%201=1"])
def test_an_unknown_session_is_not_valid_and_is_logged_out_already(admin: Rest, session: str) -> None:
    rest = Rest(admin.url)
    assert rest.get(f"/accounts/sessions/{session}/valid").body == {"valid": False}
    assert rest.call("DELETE", f"/accounts/sessions/{session}").status == 200


def test_the_default_password_is_pointed_out_at_the_login(admin: Rest) -> None:
    notice = Rest(admin.url).log_in().headers["X-Hardpoint-Notice"]
    assert "still has the default password" in notice


@pytest.mark.parametrize("session", [None, "unknown"])
def test_a_request_that_is_refused_without_a_session_has_no_effect(world: World, session: str | None) -> None:
    name = world.name("intruder")
    answer = Rest(world.admin.url, session).call("POST", "/zones", {"params": {"name": name}})
    assert answer.status in (400, 503)
    assert not world.admin.query("/zones", f"name={name}")


@pytest.mark.parametrize("password", ["plain", DIGEST[:-1], DIGEST + "0", "g" * 128])
def test_a_new_password_that_could_not_be_logged_in_with_is_refused(admin: Rest, password: str) -> None:
    body = {"updateAccount": {"password": password}}
    answer = admin.call("PUT", f"/accounts/{ADMIN_UUID}", body)
    assert answer.status == 400
    assert "'password' is no SHA-512" in answer.error["details"]
    assert password not in answer.raw.decode()
    assert Rest(admin.url).log_in().status == 200
