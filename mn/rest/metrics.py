"""What is counted, for Prometheus. Labels are operations, states and statuses: nothing a caller chose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agentkit.errors import HardpointError
from mn.jobs.live import JobRequest

Counts: TypeAlias = Mapping[tuple[str, ...], float]
Source: TypeAlias = Callable[[], Awaitable[Counts]]

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The counters of one management node, and sources that are asked when somebody looks."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hardpoint_requests",
            "Requests answered, by operation and HTTP status.",
            ["operation", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "hardpoint_request_seconds",
            "Time to answer a request, by operation.",
            ["operation"],
            buckets=LATENCY_S,
            registry=self._registry,
        )
        self._ended = Counter(
            "hardpoint_jobs_ended",
            "Jobs that have ended since the start, by operation and state.",
            ["operation", "state"],
            registry=self._registry,
        )
        self._groups = Histogram(
            "hardpoint_db_write_group_size",
            "Units of work that shared one commit.",
            buckets=GROUPS,
            registry=self._registry,
        )
        self._sources: list[tuple[Gauge, Source]] = []

    def request(self, operation: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(operation, str(status)).inc()
        self._latency.labels(operation).observe(seconds)

    def job_ended(self, request: JobRequest, error: HardpointError | None) -> None:
        """Count a job."""
        self._ended.labels(request.operation, "Failed" if error else "Succeeded").inc()

    def write_group(self, size: int) -> None:
        """Count a commit of the database; called on its thread."""
        self._groups.observe(size)

    def gauge(self, name: str, text: str, labels: list[str], source: Source) -> None:
        """Add a number that `source` is asked for, by the values of its labels."""
        self._sources.append((Gauge(name, text, labels, registry=self._registry), source))

    async def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        for gauge, source in self._sources:
            counts = await source()
            gauge.clear()
            for labels, value in counts.items():
                (gauge.labels(*labels) if labels else gauge).set(value)
        return generate_latest(self._registry)
