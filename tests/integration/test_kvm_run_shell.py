"""KvmRunShell from the REST API to a real sshd and back."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.node import Answer, Node, Rest, run_node
from tests.sshd import Account, Sshd, free_port, wait_until

LIMIT_S = 15
Run = Callable[..., dict[str, Any]]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    environment = {"HARDPOINT_SHELL_TIMEOUT_S": str(LIMIT_S)}
    yield from run_node(tmp_path_factory.mktemp("shell") / "state", environment)


@pytest.fixture(scope="module")
def admin(node: Node) -> Rest:
    admin = node.rest().logged_in()
    zone = admin.create("/zones", name="zone")
    admin.create("/clusters", name="cluster", zoneUuid=zone["uuid"], hypervisorType="KVM")
    return admin


@pytest.fixture
def server(start_sshd: Callable[..., Sshd]) -> Sshd:
    """An sshd on a loopback address that no host of the node has yet."""
    return start_sshd(address=f"127.0.2.{next(_numbers)}")


def add_host(admin: Rest, server: Sshd, **changed: Any) -> str:
    """Add the machine behind an sshd as a host; return the host's uuid."""
    (cluster,) = admin.query("/clusters", "name=cluster")
    wanted = {
        "name": server.address,
        "clusterUuid": cluster["uuid"],
        "managementIp": server.address,
        "sshPort": server.port,
        "username": server.account.name,
        "password": server.account.password,
    }
    uuid: str = admin.create("/hosts/kvm", **{**wanted, **changed})["uuid"]
    return uuid


def submit(admin: Rest, hosts: list[str], script: str) -> Answer:
    body = {"kvmRunShell": {"hostUuids": hosts, "script": script}}
    return admin.call("PUT", "/hosts/kvm/actions", body)


def run_on(admin: Rest, hosts: list[str], script: str) -> dict[str, Any]:
    """Run a script and return the reply's map."""
    answer = admin.wait(submit(admin, hosts, script).location)
    assert answer.status == 200, answer
    assert set(answer.body) == {"inventory"}
    inventory: dict[str, Any] = answer.body["inventory"]
    return inventory


def label(server: Sshd, port: int | None = None) -> str:
    return f"{server.account.name}@{server.address}:{port or server.port}"


def failed(code: str, description: str, details: str) -> dict[str, Any]:
    """Return the answer of a host that SSH did not lead to."""
    error = {"code": code, "description": description, "details": details}
    return {"returnCode": -1, "stdout": "", "stderr": "", "errorCode": error}


def test_a_script_answers_with_its_output_and_return_code(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server)
    answers = run_on(admin, [host], "id -un; echo err >&2")
    assert answers == {host: {"returnCode": 0, "stdout": f"{server.account.name}\n", "stderr": "err\n"}}


def test_a_script_that_fails_is_no_error_of_the_operation(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server)
    assert run_on(admin, [host], "echo bad >&2; exit 3") == {
        host: {"returnCode": 3, "stdout": "", "stderr": "bad\n"}
    }


def test_a_script_arrives_as_it_was_sent(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server)
    script = "printf '%s\\n' '$HOME `id`' \"größe \\\\ ' 大小\"\n# --'; DROP TABLE host; --\n\texit 0  \n"
    assert run_on(admin, [host], script)[host]["stdout"] == "$HOME `id`\ngröße \\ ' 大小\n"


def test_ten_megabytes_are_cut_and_the_cut_is_said(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server)
    answers = run_on(admin, [host], "head -c 10485760 /dev/zero | tr '\\0' x; echo tail >&2; exit 5")
    kept = "x" * 1024 * 1024
    location = answers[host].pop("stdoutLocation")
    assert answers[host] == {
        "returnCode": 5,
        "stdout": f"{kept}\n[cut here: the script printed 10485760 bytes; all of them: GET {location}]\n",
        "stderr": "tail\n",
    }


def test_a_script_that_hangs_is_killed_and_its_output_so_far_kept(
    admin: Rest, server: Sshd, ssh_account: Account
) -> None:
    host = add_host(admin, server)
    answers = run_on(admin, [host], "echo begun; sleep 1000 & sleep 1000; echo never")
    assert answers[host] == {
        "returnCode": 137,
        "stdout": "begun\n",
        "stderr": "",
        "errorCode": {
            "code": "SYS.1001",
            "description": "A message or a operation timeout",
            "details": f"{label(server)}: the script ran longer than its limit of {LIMIT_S} s "
            "and was killed; see in the partial output where it hung, then shorten the script "
            "or allow it more time.",
        },
    }
    ssh_account.wait_for_no_processes()


def test_a_wrong_password_is_host_1012(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server, password="not the password")
    assert run_on(admin, [host], "echo never")[host] == failed(
        "HOST.1012",
        "password changed",
        f"{label(server)}: the SSH server rejected the user name or password; "
        "give the right user name and password, to UpdateKVMHost for a host that is in the fleet. "
        "If they are right, check that sshd allows a password login of this user (PermitRootLogin, "
        "AllowUsers, a locked or expired account).",
    )


def test_a_closed_port_is_host_1003(admin: Rest, server: Sshd) -> None:
    port = free_port()
    host = add_host(admin, server, sshPort=port)
    assert run_on(admin, [host], "echo never")[host] == failed(
        "HOST.1003",
        "Connection error",
        f"{label(server, port)}: the port is closed (connection refused); "
        "start sshd there, or correct the SSH port (UpdateKVMHost, for a host that is in the fleet).",
    )


def test_a_changed_host_key_is_refused_and_both_keys_are_shown(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server)
    assert run_on(admin, [host], "true")[host]["returnCode"] == 0
    pinned = server.fingerprint
    server.restart(new_host_key=True)
    assert server.fingerprint != pinned
    answer = run_on(admin, [host], "echo never")[host]
    error = answer["errorCode"]
    assert (answer["returnCode"], answer["stdout"], answer["stderr"]) == (-1, "", "")
    assert (error["code"], error["description"]) == ("HOST.1003", "Connection error")
    assert error["details"].startswith(
        f"{label(server)}: the host key changed: pinned {pinned}, the host presented {server.fingerprint}; "
        "the connection was refused; if the host was reinstalled, compare"
    )
    assert run_on(admin, [host], "echo never")[host] == answer  # the new key is not taken in silence


def test_an_unknown_host_is_sys_1003_and_nothing_runs_anywhere(admin: Rest, server: Sshd) -> None:
    host, absent = add_host(admin, server), uuid.uuid4().hex
    answer = admin.wait(submit(admin, [host, absent], "echo never").location)
    assert answer.status == 503
    assert answer.error == {
        "code": "SYS.1003",
        "description": "Resource not found",
        "details": f"there is no Host with the uuid {absent}; take a uuid from QueryHost",
    }
    assert server.logins() == 0


def test_each_host_has_its_own_answer_whatever_becomes_of_the_others(
    admin: Rest, start_sshd: Callable[..., Sshd]
) -> None:
    servers = [start_sshd(address=f"127.0.2.{next(_numbers)}") for _ in range(3)]
    good = add_host(admin, servers[0])
    wrong = add_host(admin, servers[1], password="not the password")
    closed = add_host(admin, servers[2], sshPort=free_port())
    answers = run_on(admin, [good, wrong, closed], "echo fine")
    assert answers[good] == {"returnCode": 0, "stdout": "fine\n", "stderr": ""}
    assert answers[wrong]["errorCode"]["code"] == "HOST.1012"
    assert answers[closed]["errorCode"]["code"] == "HOST.1003"


def test_a_host_that_is_named_twice_runs_the_script_once(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server)
    answers = run_on(admin, [host, host], "echo $(($(cat ~/count 2>/dev/null || echo 0) + 1)) | tee ~/count")
    assert answers == {host: {"returnCode": 0, "stdout": "1\n", "stderr": ""}}


def test_one_connection_serves_script_after_script(admin: Rest, server: Sshd) -> None:
    host = add_host(admin, server)
    for _ in range(3):
        assert run_on(admin, [host], "true")[host]["returnCode"] == 0
    assert server.logins() == 1


def test_the_password_is_nowhere_in_clear(admin: Rest, node: Node, server: Sshd) -> None:
    host = add_host(admin, server)
    run_on(admin, [host], "true")
    assert postgres.holders(node.state, server.account.password) == []
    assert postgres.holders(node.state, server.address), "what is stored in clear would be found"


def test_a_script_that_a_restart_cut_off_is_not_run_again(
    tmp_path: Path, start_sshd: Callable[..., Sshd]
) -> None:
    server = start_sshd()
    own = Node(tmp_path / "state")
    own.start()
    try:
        admin = own.rest().logged_in()
        zone = admin.create("/zones", name="zone")
        admin.create("/clusters", name="cluster", zoneUuid=zone["uuid"], hypervisorType="KVM")
        host = add_host(admin, server)
        job = submit(admin, [host], "echo once >>~/restarted; sleep 1000").location.rpartition("/")[2]
        count = "wc -l <~/restarted"
        wait_until(lambda: run_on(admin, [host], count)[host]["stdout"] == "1\n", "the script to begin")
        own.restart()
        admin = Rest(own.url, admin.session)
        answer = admin.wait(f"/api-jobs/{job}").body["inventory"][host]
        assert answer == failed(
            "SYS.1012",
            "Management node unavailable",
            f"the management node was restarted while the script ran on host {host}; "
            "its outcome is not known; look at the host, and run the script again if need be",
        )
        assert run_on(admin, [host], count)[host]["stdout"] == "1\n"
    finally:
        own.stop()
