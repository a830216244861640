"""Long outputs of KvmRunShell: cut in the reply, whole in a file that is fetched, kept as long as the job."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import small_disk
from tests.node import Answer, Node, Rest, run_node
from tests.sshd import Sshd, wait_until

MB = 1024 * 1024
CAP = 64 * 1024
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    environment = {
        "HARDPOINT_SHELL_OUTPUT_BYTES": str(CAP),
        "HARDPOINT_SHELL_REPLY_BYTES": str(1 * MB),
        "HARDPOINT_SHELL_FILE_BYTES": str(40 * MB),
        "HARDPOINT_SHELL_FILES_FREE_BYTES": "0",
    }
    yield from run_node(tmp_path_factory.mktemp("outputs") / "state", environment)


@pytest.fixture(scope="module")
def admin(node: Node) -> Rest:
    admin = node.rest().logged_in()
    make_cluster(admin)
    return admin


def make_cluster(admin: Rest) -> None:
    zone = admin.create("/zones", name="zone")
    admin.create("/clusters", name="cluster", zoneUuid=zone["uuid"], hypervisorType="KVM")


@pytest.fixture
def host(admin: Rest, start_sshd: Callable[..., Sshd]) -> str:
    """A host at a loopback address that no other host of the node has."""
    return add_host(admin, start_sshd(address=f"127.0.6.{next(_numbers)}"))


def add_host(admin: Rest, sshd: Sshd, address: str | None = None) -> str:
    (cluster,) = admin.query("/clusters", "name=cluster")
    uuid: str = admin.create(
        "/hosts/kvm",
        name="host",
        clusterUuid=cluster["uuid"],
        managementIp=address or sshd.address,
        sshPort=sshd.port,
        username=sshd.account.name,
        password=sshd.account.password,
    )["uuid"]
    return uuid


def run_on(admin: Rest, hosts: list[str], script: str) -> dict[str, Any]:
    body = {"kvmRunShell": {"hostUuids": hosts, "script": script}}
    answer = admin.run("PUT", "/hosts/kvm/actions", body)
    assert answer.status == 200, answer
    inventory: dict[str, Any] = answer.body["inventory"]
    return inventory


def fetch(client: Rest, location: str, **headers: str) -> Answer:
    return client.call("GET", location, headers=headers)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


RANDOM = "head -c 3000000 /dev/urandom | tee ~/bytes; head -c 100000 ~/bytes >&2; sha256sum ~/bytes >~/sum"


def test_the_whole_of_a_long_output_is_fetched_as_it_was_printed(admin: Rest, host: str) -> None:
    answer = run_on(admin, [host], RANDOM)[host]
    digest = run_on(admin, [host], "cut -c 1-64 ~/sum")[host]["stdout"].strip()
    assert answer["stdout"].endswith(
        f"\n[cut here: the script printed 3000000 bytes; all of them: GET {answer['stdoutLocation']}]\n"
    )
    whole = fetch(admin, answer["stdoutLocation"])
    assert (whole.status, sha256(whole.raw)) == (200, digest)
    assert whole.headers["Content-Type"] == "application/octet-stream"
    assert whole.headers["Content-Disposition"] == f'attachment; filename="{host}.stdout"'
    assert fetch(admin, answer["stderrLocation"]).raw == whole.raw[:100_000]
    part = fetch(admin, answer["stdoutLocation"], Range="bytes=2999990-")
    assert (part.status, part.raw) == (206, whole.raw[-10:])


def test_a_short_output_leaves_no_file(admin: Rest, host: str, node: Node) -> None:
    def files() -> list[Path]:
        return list(node.state.glob("shell-outputs/*/*"))

    before = files()
    answer = run_on(admin, [host], f"head -c {CAP} /dev/zero | tr '\\0' x")[host]
    assert answer == {"returnCode": 0, "stdout": "x" * CAP, "stderr": ""}
    assert files() == before


def test_the_files_are_private(admin: Rest, host: str, node: Node) -> None:
    run_on(admin, [host], "yes | head -c 100000")
    for path in [node.state / "shell-outputs", *(node.state / "shell-outputs").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_file_ends_at_its_limit_and_says_so(admin: Rest, host: str) -> None:
    answer = run_on(admin, [host], f"head -c {45 * MB} /dev/zero; exit 4")[host]
    assert answer["returnCode"] == 4
    assert (
        f"printed {45 * MB} bytes; the first {40 * MB}: GET {answer['stdoutLocation']}]" in answer["stdout"]
    )
    assert len(fetch(admin, answer["stdoutLocation"]).raw) == 40 * MB


def test_only_administrators_fetch_outputs(admin: Rest, host: str, node: Node) -> None:
    location = run_on(admin, [host], "yes | head -c 100000")[host]["stdoutLocation"]
    password = hashlib.sha512(b"one").hexdigest()
    admin.create("/accounts", name="operator", password=password)
    session = node.rest().log_in("operator", "one").body["inventory"]["uuid"]
    denied = fetch(Rest(node.url, session), location)
    assert (denied.status, denied.error["code"]) == (503, "ID.1002")
    assert fetch(node.rest(), location).status == 400
    unknown = fetch(Rest(node.url, "0" * 32), location)
    assert (unknown.status, unknown.error["code"]) == (503, "ID.1001")


@pytest.mark.parametrize("slash", ["/", "%2F", "%252F"])
@pytest.mark.parametrize(
    "tail",
    [
        "..SLASH../JOB/stdout",
        "JOB/..SLASH..SLASHsecret.key",
        "JOB/HOST/..SLASH..SLASH..SLASHsecret.key",
        "JOB/HOST/stdoutSLASH..SLASHstdout",
        "JOB/HOST/stdin",
        "JOB/HOST%00/stdout",
        "job/HOST/stdout",
    ],
)
def test_a_path_leads_nowhere_else(admin: Rest, slash: str, tail: str) -> None:
    tail = tail.replace("SLASH", slash).replace("JOB", "0" * 32).replace("HOST", "1" * 32)
    answer = admin.call("GET", f"/hosts/kvm/shell-outputs/{tail}")
    assert (answer.status, answer.error["code"]) in {(400, "SYS.1007"), (404, "SYS.1003")}


def test_an_output_that_is_not_kept_is_sys_1003(admin: Rest) -> None:
    answer = admin.call("GET", f"/hosts/kvm/shell-outputs/{'0' * 32}/{'1' * 32}/stdout")
    assert (answer.status, answer.error["code"]) == (503, "SYS.1003")


def high_water_mb(node: Node) -> int:
    """Return the most memory that the node has had so far."""
    pid = json.loads((node.state / "mn.lock").read_text())["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def test_many_hosts_that_print_much_cost_the_node_little_memory(
    admin: Rest, node: Node, start_sshd: Callable[..., Sshd]
) -> None:
    server = start_sshd(address="0.0.0.0")
    hosts = [add_host(admin, server, f"127.0.7.{n}") for n in range(1, 11)]
    run_on(admin, hosts, "true")
    before = high_water_mb(node)
    answers = run_on(admin, hosts, f"head -c {20 * MB} /dev/zero | tr '\\0' x")
    grown = high_water_mb(node) - before
    for host in hosts:
        assert answers[host]["returnCode"] == 0
        assert f"printed {20 * MB} bytes; all of them" in answers[host]["stdout"]
    kept = sum(path.stat().st_size for path in node.state.glob("shell-outputs/*/*"))
    assert kept >= 10 * 20 * MB
    assert grown < 100, "200 MB went through"


def test_outputs_go_with_their_job(tmp_path: Path, sshd: Sshd) -> None:
    own = Node(tmp_path / "state", {"HARDPOINT_SHELL_OUTPUT_BYTES": "1024"})
    own.start()
    try:
        admin = own.rest().logged_in()
        make_cluster(admin)
        location = run_on(admin, [host := add_host(admin, sshd)], "yes | head -c 5000")[host][
            "stdoutLocation"
        ]
        outputs = own.state / "shell-outputs"
        (kept,) = outputs.iterdir()
        forgotten = outputs / ("0" * 32)
        forgotten.mkdir(mode=0o700)
        (forgotten / f"{host}.stdout").write_text("of a job that is not in the journal any more")
        own.restart()
        assert list(outputs.iterdir()) == [kept]
        assert fetch(Rest(own.url, admin.session), location).raw == b"y\n" * 2500
    finally:
        own.stop()


def test_a_full_disk_is_an_error_beside_the_scripts_own_result(tmp_path: Path, sshd: Sshd) -> None:
    limits = {"HARDPOINT_SHELL_OUTPUT_BYTES": "1024", "HARDPOINT_SHELL_FILES_FREE_BYTES": "0"}
    with (
        small_disk(tmp_path / "state/shell-outputs", 256 * 1024),
        contextlib.contextmanager(run_node)(tmp_path / "state", limits) as own,
    ):
        admin = own.rest().logged_in()
        make_cluster(admin)
        host = add_host(admin, sshd)
        answer = run_on(admin, [host], "yes | head -c 5000000; echo done >&2; exit 3")[host]
        assert (answer["returnCode"], answer["stderr"]) == (3, "done\n")
        assert answer["stdout"] == (
            "y\n" * 512 + "\n[cut here: the script printed 5000000 bytes; the rest is lost:"
            " No space left on device]\n"
        )
        assert answer["errorCode"]["code"] == "SYS.1006"
        assert (
            "its stdout could not be kept whole: No space left on device; make room"
            in (answer["errorCode"]["details"])
        )
        assert "stdoutLocation" not in answer
        small = run_on(admin, [host], "yes | head -c 5000")[host]
        assert fetch(admin, small["stdoutLocation"]).raw == b"y\n" * 2500


def test_a_host_whose_agent_is_down_runs_scripts(admin: Rest, host: str, node: Node) -> None:
    pid = json.loads((node.state / "agents" / host / "ready.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(
            lambda: admin.query("/hosts", f"uuid={host}")[0]["status"] == "Disconnected",
            "the host to be lost",
            30,
        )
        answer = run_on(admin, [host], "echo still here")[host]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answer == {"returnCode": 0, "stdout": "still here\n", "stderr": ""}
