"""Memory and start time of the KVM agent, beside an empty aiohttp server with the same TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from agentkit.tls import client_context
from bench.common import Table, cpu_s, json_file, load_note, median, rss_mb, running, scratch, until
from mn.db.schema import new_uuid
from mn.fleet.ca import CertificateAuthority, KeyPair

READINGS = 20
ADDRESS = "127.0.0.1"
AGENT, EMPTY = "kvmagent", "empty aiohttp"
HEADS = ("server", "ready ms", "CPU ms to ready", "RSS MB", "RSS MB later", "x ready", "x RSS")


@dataclass(frozen=True)
class Start:
    """One start of a server; `later` is its memory after its requests."""

    ready_ms: float
    cpu_ms: float
    rss_mb: float
    later_mb: float


@dataclass(frozen=True)
class Pki:
    """The key pairs of an agent and of its management node."""

    server: KeyPair
    client: KeyPair

    @property
    def context(self) -> ssl.SSLContext:
        """The client's side of TLS."""
        return client_context(self.client.certificate, self.client.key, self.client.ca)


def table(rounds: int = 7, readings: int = READINGS) -> Table:
    """Start both servers in turn, return the medians."""
    before = os.getloadavg()[0]
    starts: dict[str, list[Start]] = defaultdict(list)
    with scratch() as directory:
        ca, here = CertificateAuthority(directory / "ca"), directory / "pki"
        here.mkdir()
        pki = Pki(ca.server(here, "bench", ADDRESS), ca.client())
        for number in range(rounds + 1):
            home = directory / str(number)
            home.mkdir()
            with _agent(home, pki) as (start, pid, url):
                asyncio.run(_take_inventories(url, pki, readings))
                starts[AGENT].append(Start(*start, rss_mb(pid)))
            with _empty(home, pki) as (start, pid, url):
                asyncio.run(_get(url, pki, readings))
                starts[EMPTY].append(Start(*start, rss_mb(pid)))
    # The first start of each found no byte code.
    result = Table("the KVM agent", HEADS)
    result.rows = [_row(name, found[1:], starts[EMPTY][1:]) for name, found in starts.items()]
    result.notes = [
        f"medians of {rounds} starts each, in turn; ready: from fork to the file that tells the port",
        f"later: after {readings} inventories of this machine ({AGENT}), {readings} GETs ({EMPTY})",
        "both have mutual TLS; aims: ready within 500 ms, below 45 MB",
        load_note(before),
    ]
    return result


Started = tuple[tuple[float, float, float], int, str]


@contextlib.contextmanager
def _agent(home: Path, pki: Pki) -> Iterator[Started]:
    pair, state, config = pki.server, home / "agent", home / "kvmagent.toml"
    config.write_text(
        f'listen_address = "{ADDRESS}"\nport = 0\nstate_dir = "{state}"\n'
        f'certificate = "{pair.certificate}"\nkey = "{pair.key}"\nca = "{pair.ca}"\n'
    )
    argv = ["-m", "kvmagent", "serve", "--config", str(config)]
    with _server(argv, state / "ready.json", home / "agent.log") as started:
        yield started


@contextlib.contextmanager
def _empty(home: Path, pki: Pki) -> Iterator[Started]:
    pair, ready = pki.server, home / "empty.json"
    argv = ["-m", "bench.peers.trivial", str(ready)]
    argv += ["--tls", str(pair.certificate), str(pair.key), str(pair.ca)]
    with _server(argv, ready, home / "empty.log") as started:
        yield started


@contextlib.contextmanager
def _server(argv: list[str], ready: Path, log: Path) -> Iterator[Started]:
    begin = time.perf_counter()
    with running(argv, log) as process:
        port = until(lambda: json_file(ready).get("port"), f"{argv[1]} is ready (see {log})", process)
        ready_ms = (time.perf_counter() - begin) * 1000
        figures = (ready_ms, cpu_s(process.pid) * 1000, rss_mb(process.pid))
        yield figures, process.pid, f"https://{ADDRESS}:{port}"


async def _take_inventories(url: str, pki: Pki, readings: int) -> None:
    async with _session(pki) as session:
        for _ in range(readings):
            task = f"{url}/v1/tasks/{new_uuid()}"
            async with session.post(f"{task}?wait=30", json={"command": "takeInventory"}) as response:
                report: dict[str, Any] = await response.json()
                if report["state"] != "Succeeded":
                    raise RuntimeError(str(report))
            async with session.delete(task) as response:
                await response.read()


async def _get(url: str, pki: Pki, readings: int) -> None:
    async with _session(pki) as session:
        for _ in range(readings):
            async with session.get(url) as response:
                await response.read()


def _session(pki: Pki) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=pki.context))


def _row(name: str, starts: list[Start], peers: list[Start]) -> list[str]:
    ready, cpu, rss = (median(getattr(s, key) for s in starts) for key in ("ready_ms", "cpu_ms", "rss_mb"))
    peer_ready, peer_rss = (median(getattr(s, key) for s in peers) for key in ("ready_ms", "rss_mb"))
    later = median(s.later_mb for s in starts)
    ratios = [f"{ready / peer_ready:.2f}", f"{rss / peer_rss:.2f}"]
    return [name, f"{ready:.0f}", f"{cpu:.0f}", f"{rss:.1f}", f"{later:.1f}", *ratios]
