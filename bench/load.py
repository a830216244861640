"""Bounded HTTP load on loopback: `wrk` where it is installed, else an asyncio client."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from bench.common import percentile

CONNECTIONS = 16
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What a round of requests gave."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float


def tool() -> str:
    """Say what makes the load."""
    return "wrk -t1" if shutil.which("wrk") else "an asyncio client (wrk is not installed)"


def get(url: str, headers: Mapping[str, str], seconds: float, connections: int = CONNECTIONS) -> Load:
    """GET `url` over and over for `seconds`. Raises RuntimeError when an answer is no 200."""
    if shutil.which("wrk") and seconds >= 1:
        return _wrk(url, headers, int(seconds), connections)
    return asyncio.run(_client(url, headers, seconds, connections))


def _wrk(url: str, headers: Mapping[str, str], seconds: int, connections: int) -> Load:
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    for name, value in headers.items():
        argv += ["-H", f"{name}: {value}"]
    done = subprocess.run([*argv, url], capture_output=True, text=True, check=True, timeout=seconds + 30)
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> Load:
    """Return the figures of wrk's report. Raises RuntimeError when it tells of failed requests."""
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    requests, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
    p50, p99 = (re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)\b", text) for percent in (50, 99))
    if not (requests and rate and p50 and p99):
        raise RuntimeError(text)
    p50_ms, p99_ms = (float(found[1]) * _UNITS_MS[found[2]] for found in (p50, p99))
    return Load(int(requests[1]), float(rate[1]), p50_ms, p99_ms)


async def _client(url: str, headers: Mapping[str, str], seconds: float, connections: int) -> Load:
    times: list[float] = []
    begin = time.perf_counter()

    async def one_after_another(session: aiohttp.ClientSession) -> None:
        while (start := time.perf_counter()) < begin + seconds:
            async with session.get(url) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"{url}: {response.status}")
            times.append(time.perf_counter() - start)

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        await asyncio.gather(*(one_after_another(session) for _ in range(connections)))
    rate = len(times) / (time.perf_counter() - begin)
    return Load(len(times), rate, percentile(times, 50) * 1000, percentile(times, 99) * 1000)
