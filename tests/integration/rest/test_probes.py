from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.node import Node, Rest


def samples(rest: Rest) -> dict[tuple[str, ...], float]:
    """Return what is counted, by name and label values."""
    answer = rest.call("GET", f"{rest.url}/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.raw.decode()):
        for sample in family.samples:
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_requests_and_jobs_are_counted_by_operation(rest: Rest) -> None:
    before = samples(rest)
    rest.create("/zones", name="counted")
    rest.call("POST", "/zones", {"params": {}})
    after = samples(rest)

    def more(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert more("hardpoint_requests_total", "CreateZone", "202") == 1
    assert more("hardpoint_requests_total", "CreateZone", "400") == 1
    assert more("hardpoint_request_seconds_count", "CreateZone") == 2
    assert more("hardpoint_jobs_ended_total", "CreateZone", "Succeeded") == 1
    assert more("hardpoint_db_write_group_size_count") >= 1
    assert after["hardpoint_jobs_waiting",] == 0


def test_what_callers_choose_makes_no_labels(rest: Rest) -> None:
    rest.call("GET", "/zones/hunter2/x/y")
    rest.call("GET", f"{rest.url}/hunter2")
    rest.call("BREW", "/zones")
    shown = rest.call("GET", f"{rest.url}/metrics").raw.decode()
    assert "hunter2" not in shown
    assert "BREW" not in shown
    assert 'operation="unknown",status="404"' in shown


def test_a_node_is_live_and_ready(rest: Rest) -> None:
    stranger = Rest(rest.url)
    assert stranger.call("GET", f"{rest.url}/health/live").body == {"live": True}
    assert stranger.call("GET", f"{rest.url}/health/ready").body == {"ready": True, "faults": []}
    assert stranger.call("POST", f"{rest.url}/health/ready").status == 405
    assert stranger.call("GET", "/zstack/v1/health/live").status == 404


def test_the_probes_are_for_this_machine_and_the_networks_of_the_settings(rest: Rest, tmp_path: Path) -> None:
    passed_on = {"X-Forwarded-For": "192.0.2.7"}
    for path in ("/metrics", "/health/live", "/health/ready"):
        refused = rest.call("GET", rest.url + path, headers=passed_on)
        assert refused.status == 403
        assert "metrics_networks" in refused.error["details"]
    node = Node(tmp_path / "state", {"HARDPOINT_METRICS_NETWORKS": '["127.0.0.0/8"]'})
    node.start()
    try:
        assert node.rest().call("GET", f"{node.url}/metrics", headers=passed_on).status == 200
    finally:
        node.stop()


def test_the_description_and_its_page_are_shown_to_everybody(node: Node) -> None:
    stranger = node.rest()
    for prefix in ("/zstack/v1", "/v1"):
        described = stranger.call("GET", f"{prefix}/openapi.json")
        assert described.body["openapi"] == "3.1.0"
        page = stranger.call("GET", f"{prefix}/docs")
        assert page.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert b"CreateZone" in page.raw
    assert stranger.call("POST", "/openapi.json").status == 405


def test_logins_that_fail_have_to_wait(tmp_path: Path) -> None:
    node = Node(tmp_path / "state", {"HARDPOINT_LOGIN_FAILURES": "3", "HARDPOINT_LOGIN_WAIT_S": "600"})
    node.start()
    try:
        codes = [node.rest().log_in(password="guess").error["code"] for _ in range(4)]
        assert codes == ["ID.1000", "ID.1000", "ID.1000", "ID.1004"]
        right = node.rest().log_in()
        assert right.status == 503
        assert right.error["code"] == "ID.1004"
        assert 590 <= int(right.headers["Retry-After"]) <= 600
    finally:
        node.stop()
