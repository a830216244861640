from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

from tests.node import ADMIN_PASSWORD, Node, Rest

ADMIN_UUID = "36c27e8ff05c4780bf6d2fa65700f22e"


def lines(rest: Rest, operation: str, *conditions: str) -> list[dict[str, Any]]:
    """Return the audit lines of an operation, the newest last."""
    return rest.query("/audits", f"operation={operation}", *conditions)


def test_a_job_has_one_line_that_its_end_completes(rest: Rest) -> None:
    job = uuid.uuid4().hex
    done = rest.run("POST", "/zones", {"params": {"name": "z"}}, headers={"X-Job-UUID": job})
    (line,) = lines(rest, "CreateZone", f"jobUuid={job}")
    assert line["status"] == 200
    assert line["resourceUuid"] == done.body["inventory"]["uuid"]
    assert line["accountUuid"] == ADMIN_UUID
    assert line["sessionDigest"] == hashlib.sha256(str(rest.session).encode()).hexdigest()[:12]
    assert line["clientAddress"] == "127.0.0.1"
    assert 0 <= line["durationMs"] < 60_000
    assert "errorCode" not in line


def test_the_line_of_a_failed_job_has_its_code_and_what_it_was_about(rest: Rest) -> None:
    job, zone = uuid.uuid4().hex, uuid.uuid4().hex
    params = {"name": "c", "zoneUuid": zone, "hypervisorType": "KVM"}
    rest.run("POST", "/clusters", {"params": params}, headers={"X-Job-UUID": job})
    (line,) = lines(rest, "CreateCluster", f"jobUuid={job}")
    assert (line["status"], line["errorCode"], line["relatedUuids"]) == (503, "SYS.1003", zone)


def test_a_request_that_is_sent_twice_under_one_uuid_has_one_line(rest: Rest) -> None:
    headers = {"X-Job-UUID": uuid.uuid4().hex}
    for _ in range(2):
        rest.run("POST", "/zones", {"params": {"name": "twice"}}, headers=headers)
    assert len(lines(rest, "CreateZone", f"jobUuid={headers['X-Job-UUID']}")) == 1
    assert len(rest.query("/zones", "name=twice")) == 1


def test_a_refused_change_has_a_line(rest: Rest) -> None:
    before = len(lines(rest, "CreateZone", "status=400"))
    rest.call("POST", "/zones", {"params": {}})
    (*_, line) = found = lines(rest, "CreateZone", "status=400")
    assert len(found) == before + 1
    assert line["errorCode"] == "SYS.1007"


def test_logins_failed_logins_and_logouts_have_lines(node: Node, rest: Rest) -> None:
    node.rest().log_in("nobody-in-particular", "guess")
    mine = node.rest().logged_in()
    node.rest().call("DELETE", f"/accounts/sessions/{mine.session}")
    digest = hashlib.sha256(str(mine.session).encode()).hexdigest()[:12]
    failed = lines(rest, "LogInByAccount", "status=503")[-1]
    assert failed["errorCode"] == "ID.1000"
    assert failed["details"] == {"accountName": "nobody-in-particular"}
    assert "accountUuid" not in failed
    (opened,) = lines(rest, "LogInByAccount", f"sessionDigest={digest}")
    assert (opened["status"], opened["accountUuid"]) == (200, ADMIN_UUID)
    (ended,) = lines(rest, "LogOut", f"sessionDigest={digest}")
    assert (ended["status"], ended["accountUuid"]) == (200, ADMIN_UUID)


def test_a_read_has_a_line_only_when_its_session_is_refused(node: Node, rest: Rest) -> None:
    rest.get("/zones")
    assert not lines(rest, "QueryZone", "status=200")
    Rest(node.url, "0" * 32).get("/zones")
    assert lines(rest, "QueryZone", "errorCode=ID.1001")


def test_a_script_is_on_record_by_its_digest_and_hosts(rest: Rest) -> None:
    host, script = uuid.uuid4().hex, "echo hunter2-in-a-script"
    body = {"kvmRunShell": {"hostUuids": [host], "script": script}}
    rest.run("PUT", "/hosts/kvm/actions", body)
    line = lines(rest, "KvmRunShell")[-1]
    assert line["relatedUuids"] == host
    assert line["details"] == {"scriptSha256": hashlib.sha256(script.encode()).hexdigest()}


def test_no_secret_is_in_the_log(node: Node, rest: Rest) -> None:
    mine = node.rest().logged_in()
    mine.call("DELETE", f"/accounts/sessions/{mine.session}")
    shown = rest.get("/audits").raw.decode()
    for secret in (str(mine.session), str(rest.session), hashlib.sha512(ADMIN_PASSWORD.encode()).hexdigest()):
        assert secret not in shown


def test_a_stranger_cannot_fill_the_log(tmp_path: Path) -> None:
    node = Node(tmp_path / "state")
    node.start()
    try:
        for _ in range(150):
            Rest(node.url).call("POST", "/zones", {"params": {"name": "x"}})
        assert 60 <= len(lines(node.rest().logged_in(), "CreateZone")) <= 120
    finally:
        node.stop()


def test_a_line_lasts_through_a_kill(tmp_path: Path) -> None:
    node = Node(tmp_path / "state")
    node.start()
    try:
        node.rest().logged_in().create("/zones", name="z")
        node._process.kill()  # type: ignore[union-attr]
        node._process.wait(30)  # type: ignore[union-attr]
        node.start()
        (line,) = lines(node.rest().logged_in(), "CreateZone")
        assert line["status"] == 200
    finally:
        node.stop()
