"""A real management node as a process, and a plain HTTP client for it; import the fixtures you need."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import postgres, zygote
from tests.helpers import growing_pauses

REPOSITORY = Path(__file__).parents[1]
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 600.0
JOB_TIMEOUT_S = 180.0
POLL_S = 0.02
PREFIX = "/zstack/v1"
ADMIN = "admin"
ADMIN_PASSWORD = "password"  # the documented one of a new installation


@dataclass(frozen=True)
class Answer:
    """A reply as it came: `body` is the JSON, None when there is none."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def error(self) -> dict[str, Any]:
        return self.body["error"]

    @property
    def location(self) -> str:
        return self.body["location"]


@dataclass
class Rest:
    """Calls the REST API. `session` goes into the Authorization header; None leaves the header out."""

    url: str
    session: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Send a request; `path` is below /zstack/v1 unless it has a prefix or is a whole URL."""
        base = urllib.parse.urlsplit(self.url)
        if path.startswith("http"):
            path = path.removeprefix(f"{base.scheme}://{base.netloc}")
        elif not path.startswith(("/zstack/", "/v1/")):
            path = PREFIX + path
        sent = {"Content-Type": "application/json", **self.headers}
        if self.session is not None:
            sent["Authorization"] = f"OAuth {self.session}"
        sent.update(headers or {})
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        connection = http.client.HTTPConnection(base.netloc, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def get(self, path: str, *conditions: str, **options: str) -> Answer:
        """Query: `get("/hosts", "name=h1", limit="2")`."""
        query = urllib.parse.urlencode([*(("q", c) for c in conditions), *options.items()])
        return self.call("GET", f"{path}?{query}" if query else path)

    def query(self, path: str, *conditions: str, **options: str) -> list[dict[str, Any]]:
        """Return the inventories of a query that must go well."""
        answer = self.get(path, *conditions, **options)
        assert answer.status == 200, answer
        inventories: list[dict[str, Any]] = answer.body["inventories"]
        return inventories

    def run(
        self, method: str, path: str, body: object, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Call an asynchronous operation and return the answer of its ended job."""
        accepted = self.call(method, path, body, headers=headers)
        assert accepted.status == 202, (method, path, accepted)
        return self.wait(accepted.location)

    def create(self, path: str, **params: Any) -> dict[str, Any]:
        """Create a resource and return its inventory."""
        answer = self.run("POST", path, {"params": params})
        assert answer.status == 200, answer
        inventory: dict[str, Any] = answer.body["inventory"]
        return inventory

    def wait(self, location: str, timeout_s: float = JOB_TIMEOUT_S) -> Answer:
        """Poll a job until it has ended."""
        deadline = time.monotonic() + timeout_s
        pauses = growing_pauses()
        while (answer := self.call("GET", location)).status == 202:
            if time.monotonic() > deadline:
                pytest.fail(f"the job did not end in {timeout_s:g} s: {location}")
            time.sleep(next(pauses))
        return answer

    def log_in(self, account: str = ADMIN, password: str = ADMIN_PASSWORD) -> Answer:
        """Log in with a password in clear."""
        digest = hashlib.sha512(password.encode()).hexdigest()
        return self.call(
            "PUT", "/accounts/login", {"logInByAccount": {"accountName": account, "password": digest}}
        )

    def logged_in(self, password: str = ADMIN_PASSWORD) -> Rest:
        """Return a client with a session of its own."""
        answer = self.log_in(password=password)
        assert answer.status == 200, answer
        return Rest(self.url, answer.body["inventory"]["uuid"])


class Node:
    """A management node on a state folder of its own; `environment` are HARDPOINT_ settings.

    `program` is what Python runs instead of `-m mn`.
    """

    def __init__(
        self,
        state: Path,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "mn"),
    ) -> None:
        self.state = state
        self.program = program
        self.url = ""
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HARDPOINT_")},
            "HARDPOINT_LOGIN_FAILURES": "1000",  # tests share an address and guess passwords on purpose
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            **postgres.environment(state),
            **(environment or {}),
        }
        self._process: zygote.Process | None = None

    def start(self) -> None:
        """Start the process; returns when it serves."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        argv = [*self.program, "serve", "--state", str(self.state), "--port", "0", "--local-agents"]
        with (self.state / "mn.log").open("ab") as log:
            self._process = zygote.popen(argv, log=log, env=self.environment)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._serves():
            if self._process.poll() is not None:
                pytest.fail(f"the management node ended with {self._process.returncode}: {self.log()}")
            if time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"the management node did not serve in {START_TIMEOUT_S:g} s: {self.log()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop it and its agents, as a user would."""
        argv = [sys.executable, "-m", "mn", "stop", "--state", str(self.state)]
        subprocess.run(
            argv, env=self.environment, cwd="/", check=True, capture_output=True, timeout=STOP_TIMEOUT_S
        )
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def wait_until_killed(self) -> None:
        """Wait for its process to be killed by somebody."""
        assert self._process is not None
        assert self._process.wait(JOB_TIMEOUT_S) == -signal.SIGKILL, self.log()[-2000:]
        self._process = None

    def kill(self) -> None:
        """End its process at once, as a power cut would; its agents go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    @property
    def pid(self) -> int:
        """The pid of the running process."""
        assert self._process is not None
        return self._process.pid

    def wait(self) -> None:
        """Return when the process has ended."""
        assert self._process is not None
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    def has_ended(self) -> bool:
        """Say whether the process is gone."""
        return self._process is None or self._process.poll() is not None

    def restart(self) -> None:
        """Stop and start; the port may be another one afterwards."""
        self.stop()
        self.start()

    def log(self) -> str:
        """Return what the node has logged."""
        return (self.state / "mn.log").read_text(errors="replace")

    def rest(self) -> Rest:
        """Return a client without session."""
        return Rest(self.url)

    def _serves(self) -> bool:
        assert self._process is not None
        try:
            content = json.loads((self.state / "mn.lock").read_text())
        except (OSError, ValueError):
            return False
        self.url = content.get("url", "")
        return bool(self.url) and content["pid"] == self._process.pid


def run_node(state: Path, environment: Mapping[str, str] | None = None) -> Iterator[Node]:
    """Body of a fixture: a node that runs until the fixture ends."""
    node = Node(state, environment)
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A running management node, shared by the tests of a run."""
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture(scope="session")
def admin(node: Node) -> Rest:
    """A client that is logged in as admin."""
    return node.rest().logged_in()
