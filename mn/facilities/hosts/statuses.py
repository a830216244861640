"""Statuses of hosts are written in groups: when a rack goes, a thousand hosts are lost in one statement."""

from __future__ import annotations

import asyncio

from mn.db.engine import Database
from mn.facilities.hosts.tables import set_statuses


class StatusBook:
    """Writes statuses; those that come while a group is being written are the next group."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._wanted: dict[str, str] = {}
        self._group: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def set(self, host_uuid: str, status: str) -> None:
        """Write a host's status; durable on return."""
        self._wanted[host_uuid] = status
        if self._group is None:
            self._group = asyncio.create_task(self._write())
        await asyncio.shield(self._group)

    async def _write(self) -> None:
        async with self._turn:
            self._group = None
            wanted, self._wanted = self._wanted, {}
            await self._db.write(set_statuses, wanted)
