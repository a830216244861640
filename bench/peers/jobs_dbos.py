"""DBOS on SQLite: workflows of three empty steps, `jobs_dbos DIRECTORY default|wal`.

`default` is its documented way, `wal` gives it an engine with the journal mode that Hardpoint uses too.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig
from sqlalchemy import create_engine, event

from bench.peers.rounds import answer_rounds


@DBOS.step()
async def nothing() -> None:
    """A step."""


@DBOS.workflow()
async def three_steps() -> None:
    await nothing()
    await nothing()
    await nothing()


def _wal_engine(url: str) -> Any:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


async def main(directory: Path, mode: str) -> None:
    url = f"sqlite:///{directory / 'dbos.db'}"
    config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    if mode == "wal":
        config["system_database_engine"] = _wal_engine(url)
    DBOS(config=config)
    DBOS.launch()
    await answer_rounds(three_steps)
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
