"""What the measurements share: child processes and their figures, statistics, tables."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Table:
    """A measurement's outcome; `notes` are printed below it, one a line."""

    title: str
    heads: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the table as Markdown, which a terminal shows well enough."""
        lines = [list(self.heads), *(list(row) for row in self.rows)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.heads))]
        shown = [self._line(line, widths) for line in lines]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"## {self.title}", "", shown[0], rule, *shown[1:], *notes])

    @staticmethod
    def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
        first, *rest = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"


def machine_line() -> str:
    """Say what the figures were taken on, and how busy it is."""
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, load average {load}"
    )


def load_note(before: float) -> str:
    """Return the note that belongs below each table; `before` is the load when it began."""
    return f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after, its own included"


def median(values: Iterable[float]) -> float:
    """Return the median, 0 of nothing."""
    found = list(values)
    return statistics.median(found) if found else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of all do not exceed, 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, its threads included."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICKS


def family_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of all that descend from it, ended children included."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found = stat.read_text().rpartition(")")[2].split()
            process = int(stat.parent.name)
            parents[process], used[process] = int(found[1]), sum(map(int, found[11:15]))
    members = {pid}
    while more := {child for child, parent in parents.items() if parent in members} - members:
        members |= more
    return sum(used.get(member, 0) for member in members) / _TICKS


def rss_mb(pid: int) -> float:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def environment() -> dict[str, str]:
    """Return the environment of children: this checkout comes first, byte code is kept as once installed."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    found = {**os.environ, "PYTHONPATH": path}
    if found.pop("PYTHONDONTWRITEBYTECODE", ""):
        found["PYTHONPYCACHEPREFIX"] = _byte_code().name
    return found


@functools.cache
def _byte_code() -> tempfile.TemporaryDirectory[str]:
    """Return a directory for byte code where it is not wanted in the checkout; gone at exit."""
    return tempfile.TemporaryDirectory(prefix="hardpoint-bench-pyc-")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hardpoint-bench-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def running(argv: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python argv` for the block's duration; its output goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            cwd=REPOSITORY,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop; kill it when it does not."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(condition: Callable[[], Any], what: str, process: subprocess.Popen[bytes] | None = None) -> Any:
    """Return the condition's first true value, looked for every millisecond.

    Raises RuntimeError when the process ends first or the time is up.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        if process and process.poll() is not None:
            raise RuntimeError(f"{what}: the process ended with code {process.returncode}")
        time.sleep(0.001)
    raise RuntimeError(f"{what}: not within {START_TIMEOUT_S:.0f} s")


def json_file(path: Path) -> dict[str, Any]:
    """Return a JSON object's content, empty while the file is not there or not whole."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
    return {}


class Worker:
    """A module of `bench.peers` in a process of its own that answers one JSON line for each it is given."""

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"bench.peers.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(),
                cwd=REPOSITORY,
            )
        self.pid = self._process.pid
        self._module, self._log = module, log

    def ask(self, **question: Any) -> dict[str, Any]:
        """Return the worker's answer. Raises RuntimeError with the end of its log when it has died."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module}: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        end(self._process)
        self._process.stdout.close()
