"""Lost hosts are reconnected by themselves: few at a time, with jitter and ever longer waits.

A link dials its host without end. What it cannot do is bring back an agent that is gone while the host is
there; so the SSH port of a lost host is looked at, and when it answers a ReconnectHost job is submitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Connection, Row, select

from mn.db.global_settings import AUTO_RECONNECT, AUTO_RECONNECT_MOST, RECONNECTS_AT_ONCE, SSH_PROBE
from mn.db.schema import new_uuid
from mn.facilities.hosts.reconnect import reconnect_request
from mn.facilities.hosts.tables import Login, change_host, host_table, load_host
from mn.facilities.hosts.targets import login_of
from mn.fleet.probe import port_answers
from mn.rest.services import Services

log = logging.getLogger(__name__)


class Reconnector:
    """Looks after the hosts that are lost; what it knows of them is in their rows."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._hosts: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempted: set[str] = set()
        """Hosts whose reconnect runs: it keeps its place until it has ended."""
        self._busy = 0
        self._free = asyncio.Condition()
        self._stopped = False

    async def start(self) -> None:
        """Look after the hosts that were lost when the management node stopped."""
        for uuid in await self._services.db.read(load_lost):
            self.lost(uuid)

    async def stop(self) -> None:
        """Leave them as they are."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lost(self, host_uuid: str) -> None:
        """Reconnect the host in a while, unless it is found before."""
        if host_uuid in self._hosts or self._stopped:
            return
        task = asyncio.create_task(self._look_after(host_uuid), name=f"reconnect {host_uuid}")
        self._hosts[host_uuid] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def found(self, host_uuid: str) -> None:
        """Leave the host alone; should it be lost again, the waits begin anew."""
        task = self._hosts.pop(host_uuid, None)
        if task is not None and host_uuid not in self._attempted:
            task.cancel()

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait until few enough hosts are worked on; how many that are may change meanwhile."""
        most = self._services.global_settings
        async with self._free:
            await self._free.wait_for(lambda: self._busy < most[RECONNECTS_AT_ONCE])
            self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            async with self._free:
                self._free.notify()

    async def _look_after(self, uuid: str) -> None:
        settings = self._services.settings
        pause = settings.reconnect_after_s
        while self._hosts.get(uuid) is asyncio.current_task():
            # A switch that dies loses many hosts in one moment; they must not all come back in one.
            await asyncio.sleep(pause * random.uniform(1, 2))  # noqa: S311 - no secret
            pause = min(pause * 2, settings.reconnect_after_max_s)
            try:
                async with self._place():
                    again = await self._attempt(uuid)
            except Exception:
                log.exception("host is not looked after, it is tried again", extra={"host": uuid})
            else:
                if not again and self._hosts.get(uuid) is asyncio.current_task():
                    del self._hosts[uuid]

    async def _attempt(self, uuid: str) -> bool:
        """Reconnect the host when it can be; return whether to look again later."""
        services = self._services
        row = await services.db.read(load_host, uuid)
        if row is None or row.status == "Connected":
            return False
        log.debug("lost host looked at", extra={"host": uuid, "status": row.status})
        if not self._may(row):
            return True
        login = login_of(row, services.vault)
        if not await port_answers(login, services.global_settings[SSH_PROBE]):
            return True
        log.info("host is reconnected", extra={"host": uuid, "attempt": row.reconnect_attempts + 1})
        self._attempted.add(uuid)
        try:
            await self._reconnect(uuid)
        finally:
            self._attempted.discard(uuid)
        return True

    async def _reconnect(self, uuid: str) -> None:
        services = self._services
        await services.db.write(count_attempt, uuid)
        request = reconnect_request(services, uuid, new_uuid(), fresh=True)
        await services.engine.submit(request)
        await services.engine.wait(request.uuid)
        status = await services.engine.status(request.uuid)
        error = status.error if status is not None else None
        log.info("automatic reconnect ended", extra={"host": uuid, "code": error.code if error else None})

    def _may(self, row: Row[Any]) -> bool:
        settings = self._services.global_settings
        most = settings[AUTO_RECONNECT_MOST]
        return (
            bool(settings[AUTO_RECONNECT])
            and row.status == "Disconnected"
            and row.state in ("Enabled", "Disabled")
            and row.login != Login.REFUSED
            and (most == 0 or row.reconnect_attempts < most)
        )


def load_lost(connection: Connection) -> list[str]:
    """Return the hosts that are deployed and do not answer."""
    table = host_table
    where = table.c.agent_port.is_not(None) & (table.c.status == "Disconnected")
    return list(connection.execute(select(table.c.uuid).where(where)).scalars())


def count_attempt(connection: Connection, uuid: str) -> None:
    """Count one more reconnect that nobody asked for."""
    attempts = host_table.c.reconnect_attempts + 1
    change_host(connection, uuid, reconnect_attempts=attempts)
