"""Durable jobs a second on SQLite: Hardpoint's engine beside DBOS and beside the least that sqlite3 costs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.common import Table, Worker, cpu_s, load_note, median, rss_mb, scratch
from bench.node import Node, node
from bench.peers.rounds import measure

AT_ONCE = (1, 32, 256)
HTTP_AT_ONCE = 32
POLL_S = 0.01
HARDPOINT, EACH, GROUP = "Hardpoint", "floor: a commit a step", "floor: grouped commits"
DBOS, DBOS_WAL = "DBOS", "DBOS, WAL"
HTTP = "Hardpoint, HTTP"
HEADS = ("engine", "at once", "jobs/s", "p50 ms", "p99 ms", "x DBOS", "x floor", "CPU ms/job", "RSS MB")

Rounds = dict[tuple[str, int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Contender:
    """An engine: `module` of `bench.peers` with its arguments."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()


CONTENDERS = (
    Contender(HARDPOINT, "jobs_hardpoint"),
    Contender(EACH, "jobs_floor", ("each",)),
    Contender(GROUP, "jobs_floor", ("group",)),
    Contender(DBOS, "jobs_dbos", ("default",)),
    Contender(DBOS_WAL, "jobs_dbos", ("wal",)),
)


def table(rounds: int = 3, seconds: float = 1.0, at_once: Sequence[int] = AT_ONCE) -> Table:
    """Measure all engines, one round of each in turn, and return the medians."""
    has_dbos = importlib.util.find_spec("dbos") is not None
    contenders = [c for c in CONTENDERS if has_dbos or c.module != "jobs_dbos"]
    before = os.getloadavg()[0]
    with scratch() as directory:
        found, memory = _rounds(contenders, directory, rounds, seconds, at_once)
        _http_rounds(found, memory, directory, rounds, seconds)
    result = Table("jobs of three empty steps on SQLite", HEADS)
    result.rows = [
        _row(contender.name, count, found, memory) for contender in contenders for count in at_once
    ]
    result.rows.append(_row(HTTP, HTTP_AT_ONCE, found, memory))
    result.notes = [
        f"medians of {rounds} rounds of {seconds:g} s, engines in turn, each in a process of its own",
        "a round ends when its last job has",
        "x DBOS: against the faster of its two rows at that count; x floor: against the faster floor",
        "a floor has Hardpoint's tables and rows (1 + 3 inserts, 1 update a job) and nothing else",
        f"{HTTP}: POST /zones (one step), then GET of its location every {POLL_S * 1000:.0f} ms until done",
        f"{HTTP}: CPU and RSS are mn's, the client has the other core",
        load_note(before),
    ]
    if not has_dbos:
        result.notes.append("DBOS is left out: it is not installed (pip install '.[bench]')")
    return result


def _rounds(
    contenders: Sequence[Contender], directory: Path, rounds: int, seconds: float, at_once: Sequence[int]
) -> tuple[Rounds, dict[str, float]]:
    found: Rounds = defaultdict(list)
    with contextlib.ExitStack() as stack:
        workers = {}
        for number, contender in enumerate(contenders):
            home = directory / str(number)
            home.mkdir()
            log = directory / f"{number}.log"
            worker = Worker(contender.module, str(home), *contender.arguments, log=log)
            workers[contender.name] = stack.enter_context(worker)
            # A write-ahead log that still grows waits for the file system's own journal at every commit.
            worker.ask(at_once=max(at_once), seconds=seconds / 2)
        for _, count, name in itertools.product(range(rounds), at_once, workers):
            found[name, count].append(workers[name].ask(at_once=count, seconds=seconds))
        memory = {name: rss_mb(worker.pid) for name, worker in workers.items()}
    return found, memory


def _http_rounds(
    found: Rounds, memory: dict[str, float], directory: Path, rounds: int, seconds: float
) -> None:
    with node(directory / "state") as server:
        for _ in range(rounds):
            used = cpu_s(server.pid)
            round_ = asyncio.run(_http_round(server, seconds))
            round_["cpu_ms"] = (cpu_s(server.pid) - used) * 1000 / round_["jobs"]
            found[HTTP, HTTP_AT_ONCE].append(round_)
        memory[HTTP] = rss_mb(server.pid)


async def _http_round(server: Node, seconds: float) -> dict[str, Any]:
    jobs = itertools.count()
    async with aiohttp.ClientSession(
        headers=server.headers, connector=aiohttp.TCPConnector(limit=HTTP_AT_ONCE)
    ) as session:

        async def one() -> None:
            body = {"params": {"name": f"zone{next(jobs)}"}}
            async with session.post(f"{server.base}/zones", json=body) as response:
                location = (await response.json())["location"]
            while True:
                async with session.get(location) as response:
                    await response.read()
                    if response.status == 200:
                        return
                    if response.status != 202:
                        raise RuntimeError(f"{location}: {response.status}")
                await asyncio.sleep(POLL_S)

        round_ = await measure(one, HTTP_AT_ONCE, seconds)
    round_["jobs"] = next(jobs)
    return round_


def _row(name: str, count: int, found: Rounds, memory: dict[str, float]) -> list[str]:
    rounds = found[name, count]
    rate, p50, p99, cpu = (median(r[key] for r in rounds) for key in ("rate", "p50_ms", "p99_ms", "cpu_ms"))
    ratios = [_ratio(rate, name, peers, count, found) for peers in ((DBOS, DBOS_WAL), (EACH, GROUP))]
    figures = [f"{rate:,.0f}", f"{p50:.1f}", f"{p99:.1f}", *ratios, f"{cpu:.2f}", f"{memory[name]:.0f}"]
    return [name, str(count), *figures]


def _ratio(rate: float, name: str, peers: tuple[str, str], count: int, found: Rounds) -> str:
    """Say how a rate stands to the faster of two peers; nothing where they were not measured."""
    best = max(median(r["rate"] for r in found.get((peer, count), ())) for peer in peers)
    if not best or name == HTTP:
        return "-"
    return f"{rate / best:.2f}" if rate / best < 10 else f"{rate / best:.0f}"
