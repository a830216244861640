"""A round of jobs, the same for every engine: so many at once for so long, then wait for the last."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.common import percentile

OneJob = Callable[[], Awaitable[object]]


async def measure(job: OneJob, at_once: int, seconds: float) -> dict[str, Any]:
    """Keep `at_once` jobs going for `seconds` and return the figures of all that were begun."""
    times: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    deadline = begin + seconds

    async def one_after_another() -> None:
        while True:
            start = time.perf_counter()
            await job()
            now = time.perf_counter()
            times.append(now - start)
            if now >= deadline:
                return

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return figures(times, time.perf_counter() - begin, time.process_time() - cpu)


def figures(times: list[float], wall_s: float, cpu_s: float) -> dict[str, Any]:
    """Return a round as the parent gets it."""
    return {
        "rate": len(times) / wall_s,
        "p50_ms": percentile(times, 50) * 1000,
        "p99_ms": percentile(times, 99) * 1000,
        "cpu_ms": cpu_s / len(times) * 1000,
    }


async def answer_rounds(job: OneJob) -> None:
    """Answer the questions on standard input until it ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        question = json.loads(line)
        answer = await measure(job, question["at_once"], question["seconds"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
