"""`hardpoint up` and `down`, as a user types them."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.helpers import wait_until
from tests.node import Rest

TIMEOUT_S = 180.0
HARDPOINT = [sys.executable, "-m", "mnclient.cli"]


def hardpoint(
    *argv: str, password: str | None = None, sqlite: bool = False
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"HARDPOINT_PASSWORD": password} if password else {})}
    if "--state" in argv and not sqlite:
        environment |= postgres.environment(Path(argv[argv.index("--state") + 1]))
    return subprocess.run(
        [*HARDPOINT, *argv], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    yield folder
    hardpoint("down", "--state", str(folder))


def up(state: Path, *more: str) -> str:
    done = hardpoint("up", "--state", str(state), "--port", "0", "--detach", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def url_of(output: str) -> str:
    match = re.search(r"REST API: (http://\S+)/zstack/v1", output)
    assert match, output
    return match[1]


def running(state: Path) -> list[str]:
    """Command lines of the processes that have to do with a state folder."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if folder.name.isdigit() and str(state) in line and int(folder.name) != os.getpid():
                found.append(line)
    return found


def test_up_shows_this_machines_own_devices_and_down_stops_everything(state: Path) -> None:
    shown = up(state)
    for function in Path("/sys/bus/pci/devices").iterdir():
        assert function.name in shown
    assert "Connected" in shown
    assert "still has the default password" in shown
    # A child of the agent is like it before it is another program
    wait_until(lambda: len(running(state)) == 2, "only the node and its agent to run")
    down = hardpoint("down", "--state", str(state))
    assert (down.returncode, down.stdout) == (0, "stopped: management node yes, agents 1\n")
    assert running(state) == []
    assert hardpoint("down", "--state", str(state)).stdout == "nothing was running\n"


def test_a_second_run_finds_its_state_again(state: Path) -> None:
    first = Rest(url_of(up(state))).logged_in().query("/hosts")
    hardpoint("down", "--state", str(state))
    second = Rest(url_of(up(state))).logged_in().query("/hosts")
    assert [h["uuid"] for h in first] == [h["uuid"] for h in second]
    assert second[0]["status"] == "Connected"


def test_up_again_while_it_runs_is_no_second_node(state: Path) -> None:
    url = url_of(up(state))
    assert url_of(up(state)) == url
    refused = hardpoint("up", "--state", str(state), "--port", "0")
    assert refused.returncode == 2
    assert "runs on" in refused.stderr
    assert "hardpoint down --state" in refused.stderr


def test_ctrl_c_stops_everything(state: Path) -> None:
    argv = [*HARDPOINT, "up", "--state", str(state), "--port", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Ctrl-C"):
            break
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 0
    assert running(state) == []


def test_a_taken_port_is_named(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = hardpoint("up", "--state", str(state), "--port", str(port), "--detach")
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr.lower()
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert running(state) == []


def test_a_state_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    done = hardpoint("up", "--state", str(file), "--detach")
    assert done.returncode == 2
    assert str(file) in done.stderr
    assert "name another one with --state" in done.stderr
    missing = hardpoint("down", "--state", str(tmp_path / "nothing"))
    assert missing.returncode == 2
    assert "there is no state folder" in missing.stderr


def test_locks_of_a_dead_node_and_a_dead_agent_are_no_hindrance(state: Path) -> None:
    up(state)
    pids = [json.loads((state / "mn.lock").read_text())["pid"]]
    pids += [json.loads(ready.read_text())["pid"] for ready in state.glob("agents/*/ready.json")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while running(state):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "Connected" in up(state)


def test_a_damaged_database_is_named_and_left_alone(state: Path) -> None:
    state.mkdir()
    (state / "hardpoint.db").write_bytes(b"this is no database" * 1000)
    done = hardpoint("up", "--state", str(state), "--port", "0", "--detach", sqlite=True)
    assert done.returncode == 2
    assert "hardpoint.db cannot be used" in done.stderr
    assert (state / "hardpoint.db").read_bytes().startswith(b"this is no database")


def test_a_key_file_that_others_can_read_is_refused(state: Path) -> None:
    up(state)
    hardpoint("down", "--state", str(state))
    assert (state / "secret.key").stat().st_mode & 0o777 == 0o600
    (state / "secret.key").chmod(0o644)
    done = hardpoint("up", "--state", str(state), "--port", "0", "--detach")
    assert done.returncode == 2
    assert "others could read it" in done.stderr
    assert "chmod 600" in done.stderr


def test_a_changed_password_is_asked_for_and_old_sessions_are_over(state: Path) -> None:
    admin = Rest(url_of(up(state))).logged_in()
    new = hashlib.sha512(b"another").hexdigest()
    account = admin.query("/accounts")[0]["uuid"]
    changed = admin.call("PUT", f"/accounts/{account}", {"updateAccount": {"password": new}})
    deadline = time.monotonic() + TIMEOUT_S
    while Rest(admin.url).log_in(password="another").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Before its end the job ends the account's sessions, those of the new password too
    while (job := Rest(admin.url).logged_in(password="another").get(changed.location)).status != 200:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    assert admin.get("/hosts").body["error"]["code"] == "ID.1001"
    refused = hardpoint("up", "--state", str(state), "--port", "0", "--detach")
    assert refused.returncode == 2
    assert "HARDPOINT_PASSWORD" in refused.stderr


def test_the_api_is_https_when_a_certificate_is_configured(state: Path, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    server = ca.issue_cert("127.0.0.1")
    state.mkdir()
    server.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    (state / "mn.toml").write_text(
        f'tls_certificate = "{tmp_path}/cert.pem"\ntls_key = "{tmp_path}/key.pem"\nport = 0\n'
    )
    argv = [sys.executable, "-m", "mn", "serve", "--state", str(state)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        import ssl

        context = ssl.create_default_context()
        ca.configure_trust(context)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError):
                url = json.loads((state / "mn.lock").read_text())["url"]
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert url.startswith("https://")
        with urllib.request.urlopen(f"{url}/v1/accounts/sessions/{'0' * 32}/valid", context=context) as reply:
            assert json.loads(reply.read()) == {"valid": False}
    finally:
        process.terminate()
        process.wait()
