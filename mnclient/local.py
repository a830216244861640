"""`hardpoint up` and `down`: a management node and an agent on this machine, enrolled through the
REST API.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnclient.api import ApiError, Client

LOCAL_ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 180.0
POLL_S = 0.05
EXIT_RUNNING = 3
"""What `python -m mn serve` returns when another process serves the state folder."""


class LocalError(Exception):
    """Why it cannot be, for the user to read."""


@dataclass
class LocalNode:
    """A management node on this machine; `process` is None when it ran before."""

    state: Path
    url: str
    process: subprocess.Popen[bytes] | None


def start_node(state: Path, listen: str, port: int) -> LocalNode:
    """Start a management node and wait until it serves. Raises LocalError saying what is in the way."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (state / "mn.log").open("ab") as log:
            begin = log.tell()
            process = _spawn(state, listen, port, log.fileno())
    except OSError as error:
        raise LocalError(
            f"the state folder {state} cannot be used: {error.strerror}; "
            "run as the user that owns it, or name another one with --state"
        ) from error
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            if process.returncode == EXIT_RUNNING and (url := _announced(state).get("url")):
                return LocalNode(state, str(url), None)
            raise LocalError(_last_line(state / "mn.log", begin) or f"see {state / 'mn.log'}")
        announced = _announced(state)
        if announced.get("pid") == process.pid and announced.get("url"):
            return LocalNode(state, str(announced["url"]), process)
        time.sleep(POLL_S)
    process.kill()
    raise LocalError(
        f"the management node did not serve within {START_TIMEOUT_S:.0f} s; see {state / 'mn.log'}"
    )


def stop_node(state: Path) -> dict[str, Any]:
    """Stop the node of a state folder and its agents.

    Returns `{"mn": bool, "agents": count, "simulator": bool}`.
    """
    argv = [sys.executable, "-m", "mn", "stop", "--state", str(state)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(done.stderr.strip().removeprefix("mn: ") or f"exit code {done.returncode}")
    stopped: dict[str, Any] = json.loads(done.stdout)
    return stopped


def log_in(url: str, password: str) -> Client:
    """Return a client that is logged in as admin."""
    client = Client(url)
    try:
        client.log_in("admin", password)
    except ApiError as error:
        if error.code != "ID.1000":
            raise
        raise LocalError(
            "the password of admin is not the one given; set HARDPOINT_PASSWORD to the present one"
        ) from error
    return client


def enrol(client: Client) -> dict[str, Any]:
    """Return this machine's host, added to a zone and cluster (made when there are none) if it is new."""
    hosts = client.query("/hosts", f"managementIp={LOCAL_ADDRESS}")
    if hosts:
        return _until_connected(client, hosts[0])
    zones = client.query("/zones", limit="1")
    zone = zones[0] if zones else create(client, "/zones", {"name": "zone1"})
    clusters = client.query("/clusters", "hypervisorType=KVM", limit="1")
    wanted = {"name": "cluster1", "zoneUuid": zone["uuid"], "hypervisorType": "KVM"}
    cluster = clusters[0] if clusters else create(client, "/clusters", wanted)
    host = {
        "name": socket.gethostname(),
        "description": "this machine, without SSH: added by `hardpoint up`",
        "clusterUuid": cluster["uuid"],
        "managementIp": LOCAL_ADDRESS,
        "username": getpass.getuser(),
        "password": "unset",
    }
    return create(client, "/hosts/kvm", host)


def stop_requests() -> threading.Event:
    """Return an event that the first SIGINT or SIGTERM sets; a second one interrupts what is going on."""
    asked = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return asked


def wait_for_end(node: LocalNode, asked: threading.Event) -> None:
    """Return when the user or the system asks to stop. Raises LocalError when the node ends by itself."""
    while not asked.wait(0.5):
        if node.process and node.process.poll() is not None:
            raise LocalError(
                f"the management node ended with code {node.process.returncode}; see {node.state / 'mn.log'}"
            )


def create(client: Client, path: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Create a resource and return its inventory."""
    inventory: dict[str, Any] = client.run("POST", path, {"params": parameters})["inventory"]
    return inventory


def _until_connected(client: Client, host: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while host["status"] != "Connected":
        if time.monotonic() > deadline:
            raise LocalError(
                f"host {host['name']} is {host['status']} after {CONNECT_TIMEOUT_S:.0f} s; see mn.log and "
                "agents/*/agent.log in the state folder"
            )
        time.sleep(POLL_S)
        host = client.query("/hosts", f"uuid={host['uuid']}")[0]
    return host


def _spawn(state: Path, listen: str, port: int, log: int) -> subprocess.Popen[bytes]:
    argv = [
        sys.executable,
        "-m",
        "mn",
        "serve",
        "--state",
        str(state),
        "--listen",
        listen,
        "--port",
        str(port),
    ]
    argv.append("--local-agents")
    environment = {k: v for k, v in os.environ.items() if k != "HARDPOINT_PASSWORD"}
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
    )


def _announced(state: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((state / "mn.lock").read_text())
        if isinstance(content, dict):
            return content
    return {}


def _last_line(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("mn: ") if lines else ""
