from __future__ import annotations

import gzip
import json
import socket
import time
import urllib.parse

import pytest

from tests.node import Node, Rest

CLOSED_WITHIN_S = 30.0  # of a connection that would go on for 100 s and more
GET_VERSION = {"getVersion": {}}


def connect(node: Node) -> socket.socket:
    base = urllib.parse.urlsplit(node.url)
    return socket.create_connection((base.hostname, base.port), timeout=60)  # type: ignore[arg-type]


def closed_after_s(connection: socket.socket, dribble: bytes = b"") -> tuple[float, bytes]:
    """Send `dribble` a byte at a time; return when the other side closed, and what it said."""
    began, said = time.monotonic(), b""
    connection.settimeout(0.1)
    for byte in [*dribble, *[None] * 2000]:
        try:
            if byte is not None:
                connection.sendall(bytes([byte]))
            if not (data := connection.recv(65536)):
                break
            said += data
        except TimeoutError:
            continue
        except OSError:
            break
    else:
        pytest.fail("the connection stays open")
    return time.monotonic() - began, said


def test_a_head_that_dribbles_in_is_cut_off(node: Node) -> None:
    with connect(node) as connection:
        after_s, said = closed_after_s(
            connection, b"GET /zstack/v1/zones HTTP/1.1\r\nHost: node\r\nX-Slow: " + b"y" * 99
        )
    assert after_s < CLOSED_WITHIN_S
    assert said == b""


def test_a_connection_without_a_request_is_closed(node: Node) -> None:
    with connect(node) as connection:
        assert closed_after_s(connection)[0] < CLOSED_WITHIN_S


def test_a_second_head_that_dribbles_in_is_cut_off(node: Node) -> None:
    with connect(node) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        after_s, said = closed_after_s(connection, b"GET /health/live HTTP/1.1\r\nX: " + b"y" * 99)
    assert after_s < CLOSED_WITHIN_S
    assert b"200 OK" not in said


def test_a_body_that_dribbles_in_is_refused_and_the_connection_closed(node: Node, rest: Rest) -> None:
    head = (
        "POST /zstack/v1/zones HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n"
        f"Authorization: OAuth {rest.session}\r\n\r\n"
    )
    with connect(node) as connection:
        connection.sendall(head.encode())
        after_s, said = closed_after_s(connection, b'{"params": {"name": "' + b"y" * 99)
    assert after_s < CLOSED_WITHIN_S
    assert said.startswith(b"HTTP/1.1 400")
    assert b"the body did not arrive within 0.5 s" in said
    assert rest.get("/zones").status == 200


def test_a_client_that_goes_away_within_its_body_is_no_fault_of_the_node(node: Node, rest: Rest) -> None:
    with connect(node) as connection:
        connection.sendall(b"POST /zstack/v1/zones HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\n{")
    assert rest.get("/zones").status == 200
    assert "unexpectedly" not in node.log()


def test_a_body_larger_than_the_setting_is_refused(rest: Rest) -> None:
    answer = rest.call("POST", "/zones", {"params": {"name": "x", "description": "d" * 20_000}})
    assert answer.status == 400
    assert "larger than 20000 bytes" in answer.error["details"]


def test_a_compressed_body_is_bounded_by_what_it_unpacks_to(rest: Rest) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    answer = rest.call("POST", "/zones", raw=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status == 400
    small = gzip.compress(json.dumps({"params": {"name": "packed"}}).encode())
    assert rest.call("POST", "/zones", raw=small, headers={"Content-Encoding": "gzip"}).status == 202


@pytest.mark.parametrize("path", ["/accounts", "/hosts/hypervisor-types", "/openapi.json", "/docs"])
def test_head_is_a_get_without_its_body(rest: Rest, path: str) -> None:
    got, head = rest.call("GET", path), rest.call("HEAD", path)
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.raw))


def test_head_of_a_job_is_a_get_without_its_body(rest: Rest) -> None:
    location = rest.call("POST", "/zones", {"params": {"name": "head"}}).location
    assert rest.wait(location).status == 200
    head = rest.call("HEAD", location)
    assert (head.status, head.raw) == (200, b"")


def test_unknown_parameters_are_left_aside_and_named(rest: Rest) -> None:
    body = {"params": {"name": "aside", "nmae": 1}, "sessionId": "x", "systemTags": []}
    answer = rest.call("POST", "/zones", body)
    assert answer.status == 202
    assert answer.headers["X-Hardpoint-Notice"] == "unknown parameters left aside: sessionId, nmae"
    listed = rest.call("GET", "/zones?q=name=aside&limt=3&q=name=aside&limt=4")
    assert listed.headers["X-Hardpoint-Notice"] == "unknown parameters left aside: limt"
    assert "X-Hardpoint-Notice" not in rest.call("GET", "/zones?limit=3").headers


def test_names_that_no_header_can_hold_are_not_put_into_one(rest: Rest) -> None:
    params = {"name": "odd", "a\r\nSet-Cookie: x": 1, "名": 2, **{f"p{n}": n for n in range(20)}}
    notice = rest.call("POST", "/zones", {"params": params}).headers["X-Hardpoint-Notice"]
    assert notice.startswith("unknown parameters left aside: (another), (another), p0, p1,")
    assert notice.endswith(" and 12 more")


@pytest.mark.parametrize(
    "query", ["fields=name,uuid", "fields=name&fields=uuid", "fields.0=name&fields.1=uuid"]
)
def test_lists_in_a_query_string_come_in_three_forms(rest: Rest, query: str) -> None:
    zone = rest.create("/zones", name="listed")
    (found,) = rest.call("GET", f"/zones?q=uuid={zone['uuid']}&{query}").body["inventories"]
    assert found == {"name": "listed", "uuid": zone["uuid"]}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"params": {"name": "a", "name": "b"}}', "'name' comes twice"),
        (b'{"params": {"name": ' + b"[" * 100 + b"]" * 100 + b"}}", "nested deeper than 64 levels"),
    ],
)
def test_a_body_of_two_minds_or_without_bottom_is_refused(rest: Rest, raw: bytes, reason: str) -> None:
    answer = rest.call("POST", "/zones", raw=raw)
    assert answer.status == 400
    assert reason in answer.error["details"]


def test_the_version_and_the_time_are_told_without_a_session(node: Node) -> None:
    stranger = node.rest()
    version = stranger.call("PUT", "/management-nodes/actions", GET_VERSION)
    assert (version.status, version.body["version"]) == (200, "3.0.0")
    told = stranger.call("PUT", "/management-nodes/actions", {"getCurrentTime": {}}).body["currentTime"]
    assert abs(told["Seconds"] - time.time()) < 10
    assert told["MillionSeconds"] // 1000 == told["Seconds"]


def test_a_node_says_that_it_is_ready_and_is_in_the_list(node: Node, rest: Rest) -> None:
    ready = node.rest().call("GET", "/management-nodes/ready")
    (listed,) = rest.query("/management-nodes")
    assert ready.body == {"managementNodeId": listed["uuid"]}
    assert listed["hostName"] == socket.gethostname()
    assert set(listed) == {"uuid", "hostName", "joinDate", "heartBeat"}
    same = node.rest().call("GET", f"/management-nodes/ready?managementNodeId={listed['uuid']}")
    assert same.status == 200
    other = node.rest().call("GET", "/management-nodes/ready?managementNodeId=" + "0" * 32)
    assert other.error["code"] == "SYS.1003"


def test_a_session_is_renewed_at_once(node: Node) -> None:
    rest = node.rest().logged_in()
    path = f"/accounts/sessions/{rest.session}/renew"
    renewed = rest.call("PUT", path, {"renewSession": {"duration": 86400}})
    assert renewed.status == 200
    assert renewed.body["inventory"]["uuid"] == rest.session
    for wrong in (59, 31_536_001, "x"):
        assert rest.call("PUT", path, {"renewSession": {"duration": wrong}}).status == 400
    unknown = rest.call("PUT", f"/accounts/sessions/{'0' * 32}/renew", {"renewSession": {}})
    assert unknown.error["code"] == "ID.1001"
