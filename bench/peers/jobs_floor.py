"""The least that durable steps can cost: Hardpoint's rows by bare sqlite3, `jobs_floor DIRECTORY each|group`.

`each` commits every step of every job by itself, `group` one step of all jobs that go at once. No loop, no
threads, no locks, no undo: what an engine adds is the distance to this.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from bench.peers.rounds import figures
from mn.db.schema import metadata, new_uuid
from mn.db.sqlite import SqliteDatabase
from mn.jobs import tables  # noqa: F401 - puts the journal's tables into the metadata

STEPS = 3
_JOB = (
    "INSERT INTO job"
    " (uuid, operation, request, digest, locks, state, is_long, cancelled, deadline, create_date)"
    " VALUES (?, 'ThreeSteps', '{}', 'digest', '[]', 'Running', 0, 0, ?, ?)"
)
_STEP = "INSERT INTO job_step (job_uuid, position, name, result, undone) VALUES (?, ?, 'nothing', 'null', 0)"
_FINISH = "UPDATE job SET state = 'Succeeded', result = 'null', finish_date = ? WHERE uuid = ?"


def _open(path: Path) -> sqlite3.Connection:
    db = SqliteDatabase(path)
    db.prepare(metadata.create_all)
    db.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _commits(uuids: list[str]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Return the statements of the jobs, each with its rows, in the order in which they are to be durable."""
    now = int(time.time())
    return [
        (_JOB, [(uuid, now + 1800, now) for uuid in uuids]),
        *((_STEP, [(uuid, position) for uuid in uuids]) for position in range(STEPS)),
        (_FINISH, [(now, uuid) for uuid in uuids]),
    ]


def _round(connection: sqlite3.Connection, at_once: int, seconds: float, *, group: bool) -> dict[str, Any]:
    times: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    while time.perf_counter() < begin + seconds:
        start = time.perf_counter()
        for statement, rows in _commits([new_uuid() for _ in range(at_once)]):
            for part in [rows] if group else [[row] for row in rows]:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(statement, part)
                connection.execute("COMMIT")
        times += [time.perf_counter() - start] * at_once
    return figures(times, time.perf_counter() - begin, time.process_time() - cpu)


def main(directory: Path, mode: str) -> None:
    connection = _open(directory / "floor.db")
    for line in sys.stdin:
        question = json.loads(line)
        answer = _round(connection, question["at_once"], question["seconds"], group=mode == "group")
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
