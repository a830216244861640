from __future__ import annotations

import fcntl
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mnclient.errors import NoAnswerError, NotLoggedInError, OperationError, RequestError
from mnclient.outputs import Output
from mnclient.protocol import Progress
from mnclient.sdk import Connection, Options
from mnclient.transport import Node
from tests.unit.mnclient.fake_node import FakeNode, Received, Reply, fake_node

JOB, HOST = "a" * 32, "b" * 32
LOCATION = f"/zstack/v1/hosts/kvm/shell-outputs/{JOB}/{HOST}/stdout"
WHOLE = b"".join(b"line %d\n" % i for i in range(500))
GONE = (503, {"error": {"code": "SYS.1003", "details": "no stdout is kept"}}, {})
NO_SESSION = (503, {"error": {"code": "ID.1001", "details": "log in"}}, {})


def serve(received: Received) -> Reply:
    """Answer as a node does: the whole, or the rest of it from the byte that is asked for."""
    asked = re.fullmatch(r"bytes=(\d+)-", received.headers.get("range", ""))
    if asked is None:
        return 200, WHOLE, {}
    begin = int(asked[1])
    if begin >= len(WHOLE):
        return 416, b"", {"Content-Range": f"bytes */{len(WHOLE)}"}
    return 206, WHOLE[begin:], {"Content-Range": f"bytes {begin}-{len(WHOLE) - 1}/{len(WHOLE)}"}


def breaking_off(count: int, after: int = 1000) -> Callable[[Received], Reply]:
    """Answer as `serve`, but break off the first `count` times after so many bytes."""
    left = iter(range(count))

    def script(received: Received) -> Reply:
        status, body, headers = serve(received)
        if next(left, None) is None:
            return status, body, headers
        more = {"Content-Length": str(len(body)), "Connection": "close"}
        return status, body[:after], {**headers, **more}

    return script


def client(node: FakeNode, outage_s: float = 60.0) -> Connection:
    return Connection(Node(node.url), Options(session="s" * 32, outage_s=outage_s))


def asked(node: FakeNode) -> list[str | None]:
    return [received.headers.get("range") for received in node.received]


def test_an_output_is_fetched_into_a_file_of_its_own_that_only_its_owner_reads(tmp_path: Path) -> None:
    with fake_node(serve) as node:
        assert client(node).fetch_output(LOCATION, tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out").read_bytes() == WHOLE
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert node.received[0].headers["authorization"] == "OAuth " + "s" * 32


def test_in_a_folder_it_is_called_by_host_and_stream(tmp_path: Path) -> None:
    with fake_node(serve) as node:
        assert client(node).fetch_output(LOCATION, tmp_path).name == f"{HOST}.stdout"


def test_a_node_that_breaks_off_is_asked_for_the_rest(tmp_path: Path) -> None:
    with fake_node(breaking_off(2)) as node:
        client(node).fetch_output(LOCATION, tmp_path / "out")
    assert asked(node) == [None, "bytes=1000-", "bytes=2000-"]
    assert (tmp_path / "out").read_bytes() == WHOLE


def test_what_has_come_is_kept_under_another_name_and_not_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("of yesterday")
    with fake_node(breaking_off(1)) as node:
        with pytest.raises(NoAnswerError, match="1000 bytes are kept, fetch it again"):
            client(node, outage_s=-1.0).fetch_output(LOCATION, target)
        assert target.read_text() == "of yesterday"
        (part,) = tmp_path.glob(".out.*.part")
        assert part.read_bytes() == WHOLE[:1000]
        client(node).fetch_output(LOCATION, target)
    assert asked(node) == [None, "bytes=1000-"]
    assert target.read_bytes() == WHOLE
    assert list(tmp_path.iterdir()) == [target]


def test_what_has_come_of_another_output_is_left_alone(tmp_path: Path) -> None:
    with fake_node(breaking_off(1)) as node:
        with pytest.raises(NoAnswerError):
            client(node, outage_s=-1.0).fetch_output(LOCATION, tmp_path / "out")
        client(node).fetch_output(LOCATION.replace("stdout", "stderr"), tmp_path / "out")
    assert asked(node) == [None, None]


def test_one_that_had_come_whole_only_gets_its_name(tmp_path: Path) -> None:
    with fake_node(breaking_off(1)) as node:
        with pytest.raises(NoAnswerError):
            client(node, outage_s=-1.0).fetch_output(LOCATION, tmp_path / "out")
        (part,) = tmp_path.iterdir()
        part.write_bytes(WHOLE)
        client(node).fetch_output(LOCATION, tmp_path / "out")
    assert asked(node)[1:] == [f"bytes={len(WHOLE)}-"]
    assert (tmp_path / "out").read_bytes() == WHOLE


@pytest.mark.parametrize("ranges", [True, False])
def test_more_than_there_is_is_fetched_from_the_beginning(tmp_path: Path, ranges: bool) -> None:
    with fake_node(breaking_off(1)) as node:
        with pytest.raises(NoAnswerError):
            client(node, outage_s=-1.0).fetch_output(LOCATION, tmp_path / "out")
        (part,) = tmp_path.iterdir()
        part.write_bytes(b"x" * (len(WHOLE) + 1))
        node.script = serve if ranges else lambda _received: (200, WHOLE, {})
        client(node).fetch_output(LOCATION, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == WHOLE


def test_an_output_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    with fake_node(breaking_off(1)) as node:
        with pytest.raises(NoAnswerError):
            client(node, outage_s=-1.0).fetch_output(LOCATION, tmp_path / "out")
        node.script = lambda _received: GONE
        with pytest.raises(OperationError, match=r"SYS\.1003: no stdout is kept"):
            client(node).fetch_output(LOCATION, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_has_ended_costs_nothing_that_has_come(tmp_path: Path) -> None:
    with fake_node(breaking_off(1)) as node:
        with pytest.raises(NoAnswerError):
            client(node, outage_s=-1.0).fetch_output(LOCATION, tmp_path / "out")
        node.script = lambda _received: NO_SESSION
        with pytest.raises(OperationError, match=r"ID\.1001"):
            client(node).fetch_output(LOCATION, tmp_path / "out")
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == WHOLE[:1000]


def test_a_node_that_cannot_be_reached_leaves_nothing(tmp_path: Path) -> None:
    nowhere = Connection(Node("http://127.0.0.1:1"), Options(session="s" * 32))
    with pytest.raises(NoAnswerError, match="cannot be reached"):
        nowhere.fetch_output(LOCATION, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    with fake_node(breaking_off(1)) as node:
        with pytest.raises(NoAnswerError):
            client(node, outage_s=-1.0).fetch_output(LOCATION, tmp_path / "out")
        (part,) = tmp_path.iterdir()
        with part.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(RequestError, match="another process fetches"):
                client(node).fetch_output(LOCATION, tmp_path / "out")


def test_only_plain_files_are_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with fake_node(serve) as node:
        for target in (Path("/dev/null"), link):
            with pytest.raises(RequestError, match="no plain file"):
                client(node).fetch_output(LOCATION, target)
        with pytest.raises(RequestError, match="No such file or directory"):
            client(node).fetch_output(LOCATION, tmp_path / "none" / "out")
    assert node.received == []


def test_without_a_session_nothing_is_sent(tmp_path: Path) -> None:
    with fake_node(serve) as node, pytest.raises(NotLoggedInError):
        Connection(Node(node.url)).fetch_output(LOCATION, tmp_path / "out")
    assert node.received == []


def test_how_far_it_is_can_be_followed(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with fake_node(breaking_off(1)) as node:
        where = client(node)
        options = replace(where.options, on_progress=seen.append)
        where.fetch_output(LOCATION, tmp_path / "out", options)
    assert seen[-1] == Progress(JOB, 100, f"{len(WHOLE)} of {len(WHOLE)} bytes")
    assert [progress.percent for progress in seen] == sorted(progress.percent for progress in seen)


@pytest.mark.parametrize("before", ["/zstack/v1", "/v1", "https://node:8080/zstack/v1"])
def test_a_location_is_taken_with_whatever_stands_before_it(before: str) -> None:
    output = Output.at(f"{before}/hosts/kvm/shell-outputs/{JOB}/{HOST}/stderr")
    assert (output.job_uuid, output.host_uuid, output.stream) == (JOB, HOST, "stderr")
    assert output.path == f"/hosts/kvm/shell-outputs/{JOB}/{HOST}/stderr"


@pytest.mark.parametrize(
    "location",
    [
        JOB,
        f"/zstack/v1/api-jobs/{JOB}",
        LOCATION + "/..",
        LOCATION.replace("stdout", "stdin"),
        LOCATION.replace(HOST, ".."),
    ],
)
def test_another_location_is_refused_before_anything_is_sent(location: str) -> None:
    with pytest.raises(RequestError, match="give the stdoutLocation"):
        Output.at(location)
