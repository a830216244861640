"""A database, and engines on it that can be started anew as after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection, select

from agentkit.errors import HardpointError
from mn.db.schema import metadata, new_uuid
from mn.jobs.engine import Engine, JobStatus
from mn.jobs.job import Job
from mn.jobs.live import JobRequest
from mn.jobs.tables import FINAL
from tests.unit.mn.conftest import OpenDatabase

Run = Callable[[Job[list[str]]], Awaitable[Any]]


def failure(details: str = "it broke") -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details)


class House:
    """A database, and engines on it that can be started anew as after a crash."""

    def __init__(self, opened: OpenDatabase) -> None:
        self.opened = opened
        self.world: list[str] = []
        self.keep_s = 1000.0
        self.runs: dict[str, Run] = {}
        self.db = opened()
        self.engine: Engine[list[str]] | None = None

    async def start(self, prepare: bool = False) -> Engine[list[str]]:
        if prepare:
            self.db.prepare(metadata.create_all)
        self.db.start()
        self.engine = Engine(
            self.db, self.world, lambda name, _request: self.runs[name], keep_s=lambda: self.keep_s
        )
        await self.engine.start()
        return self.engine

    async def crash(self) -> Engine[list[str]]:
        """End the engine where it stands, and start another one on the same file."""
        assert self.engine
        await self.engine.stop()
        self.db.close()
        self.db = self.opened()
        return await self.start()

    async def submit(self, name: str, *locks: str, timeout_s: float = 60) -> str:
        assert self.engine
        uuid = new_uuid()
        await self.engine.submit(JobRequest(uuid, name, "{}", "digest", locks, timeout_s))
        return uuid

    async def end(self, uuid: str) -> JobStatus:
        assert self.engine
        await asyncio.wait_for(self.engine.wait(uuid), 100)
        status = await self.engine.status(uuid)
        assert status
        assert status.state in FINAL
        return status

    async def rows(self, table: Any) -> list[Any]:
        def load(connection: Connection) -> list[Any]:
            return list(connection.execute(select(table)))

        return await self.db.read(load)

    async def note(self, what: str) -> str:
        self.world.append(what)
        return what

    async def forget(self, what: str) -> None:
        if what in self.world:
            self.world.remove(what)

    async def refuse(self) -> None:
        raise failure()
