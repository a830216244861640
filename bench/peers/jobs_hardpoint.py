"""Hardpoint's own engine: jobs of three empty steps, `jobs_hardpoint DIRECTORY`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.peers.rounds import answer_rounds
from mn.db.schema import metadata, new_uuid
from mn.db.sqlite import SqliteDatabase
from mn.jobs.engine import Engine
from mn.jobs.job import Job
from mn.jobs.live import JobRequest


async def nothing() -> None:
    """A step."""


async def three_steps(job: Job[None]) -> None:
    await job.step(nothing)
    await job.step(nothing)
    await job.step(nothing)


async def main(directory: Path) -> None:
    db = SqliteDatabase(directory / "hardpoint.db")
    db.prepare(metadata.create_all)
    db.start()
    engine: Engine[None] = Engine(db, None, lambda _operation, _request: three_steps)
    await engine.start()

    async def one() -> None:
        uuid = new_uuid()
        await engine.submit(JobRequest(uuid, "ThreeSteps", "{}", "digest", fresh=True))
        await engine.wait(uuid)

    await answer_rounds(one)
    await engine.stop()
    db.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
