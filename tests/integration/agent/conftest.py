import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import trustme

from agentkit.tls import client_context

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
DEADLINE_S = 60.0


def until(condition: Callable[[], Any], what: str, limit_s: float = DEADLINE_S) -> Any:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {limit_s} s: {what}")


async def until_async(condition: Callable[[], Any], what: str, limit_s: float = DEADLINE_S) -> Any:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {limit_s} s: {what}")


@dataclass
class Pki:
    directory: Path
    ca: trustme.CA
    foreign: trustme.CA

    def write(self, name: str, cert: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
        key.write_bytes(cert.private_key_pem.bytes())
        return certificate, key

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    def client(self, name: str = "client") -> Any:
        return client_context(self.directory / f"{name}.pem", self.directory / f"{name}.key", self.ca_file)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"), trustme.CA(), trustme.CA())
    made.ca.cert_pem.write_to_path(made.ca_file)
    made.foreign.cert_pem.write_to_path(made.directory / "foreign-ca.pem")
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    made.write("server", made.ca.issue_cert("127.0.0.1", "localhost"))
    made.write("client", made.ca.issue_cert("mn.example"))
    made.write("foreign", made.foreign.issue_cert("mn.example"))
    expired = made.ca.issue_cert("mn.example", not_before=past - dt.timedelta(days=9), not_after=past)
    made.write("expired", expired)
    return made


@dataclass
class Agent:
    """A real agent process."""

    pki: Pki
    state_dir: Path
    settings: dict[str, Any] = field(default_factory=dict)
    command: list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    def launch(self) -> "Agent":
        """Start the process without waiting for it to be ready."""
        config = {
            "listen_address": "127.0.0.1",
            "port": 0,
            "state_dir": str(self.state_dir),
            "certificate": str(self.pki.directory / "server.pem"),
            "key": str(self.pki.directory / "server.key"),
            "ca": str(self.pki.ca_file),
            **self.settings,
        }
        argv = self.command or [sys.executable, str(HERE / "sample_agent.py"), json.dumps(config)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **self.environment}
        self.lines = []
        self.process = subprocess.Popen(argv, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True)
        self.reader.start()
        return self

    def start(self) -> "Agent":
        self.launch()
        until(lambda: self.logged("ready") or self.process.poll() is not None, "agent ready")
        assert self.process.poll() is None, self.lines
        return self

    @staticmethod
    def _read(process: subprocess.Popen[bytes], lines: list[str]) -> None:
        for line in process.stderr:
            lines.append(line.decode().rstrip())

    def logged(self, event: str) -> list[dict[str, Any]]:
        documents = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [document for document in documents if document["event"] == event]

    @property
    def ready(self) -> dict[str, Any]:
        return json.loads((self.state_dir / "ready.json").read_bytes())

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ready['port']}"

    def ran(self) -> list[str]:
        log = self.state_dir / "ran.log"
        return log.read_text().splitlines() if log.exists() else []

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE_S)

    def client(self, name: str = "client") -> "Client":
        return Client(self, name)


class Client:
    """What mn does, in short."""

    def __init__(self, agent: Agent, name: str) -> None:
        self.agent = agent
        self._name = name

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self.agent.pki.client(self._name))
        self.http = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def ask(self, verb: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.request(verb, self.agent.url + path, data=data) as response:
            content = await response.read()
            return response.status, json.loads(content) if content else None

    async def task(self, uuid: str, body: Any, wait: float = 10) -> tuple[int, Any]:
        return await self.ask("POST", f"/v1/tasks/{uuid}?wait={wait}", body)

    @contextlib.asynccontextmanager
    async def events(self, instance: str = "", since: int = 0, **more: object) -> Any:
        params = {"instance": instance, "since": str(since), **{k: str(v) for k, v in more.items()}}
        async with self.http.get(self.agent.url + "/v1/events", params=params) as response:
            assert response.status == 200

            async def next_event() -> dict[str, Any]:
                line = await asyncio.wait_for(response.content.readline(), DEADLINE_S)
                return json.loads(line) if line else {"kind": "end"}

            yield next_event


@pytest.fixture
def make_agent(pki: Pki, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    made: list[Agent] = []

    def make(name: str = "agent", **keys: Any) -> Agent:
        agent = Agent(pki, tmp_path / name, **keys)
        made.append(agent)
        return agent

    yield make
    for agent in made:
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()


@pytest.fixture
def agent(make_agent: Callable[..., Agent]) -> Agent:
    return make_agent().start()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until_async


@pytest.fixture
def new_uuid() -> Callable[[], str]:
    return lambda: uuid.uuid4().hex
