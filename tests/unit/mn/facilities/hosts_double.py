"""A double of the services that operations have: the rows of a test, and hosts that say what it wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from agentkit.errors import HardpointError
from agentkit.wire import Command
from mn.db.engine import Database
from mn.db.global_settings import GlobalSetting
from mn.db.schema import new_uuid
from mn.db.vault import Vault
from mn.fleet.client import Endpoint
from mn.jobs.job import JournalledStep
from mn.jobs.journal import Journal, NewJob, read_steps
from mn.rest.services import Job, Services

T = TypeVar("T")

UNDO_LIMIT_S = 60.0


class HostsDouble:
    """`asked` are the commands that hosts have been given; those of a kind in `held`, and those to a host in
    `held_hosts`, wait to be let go.

    A reply that is a function is called with the host's uuid, one that is an error is raised.
    """

    def __init__(self, connection: Connection, replies: dict[type[Command[Any]], Any]) -> None:
        self.db: Any = self
        self.fleet = self
        self.vault = _Vault(b"key of a test")
        self.global_settings = _Defaults()
        self.asked: list[Command[Any]] = []
        self.hosts_asked: list[str] = []
        self.held: dict[type[Command[Any]], asyncio.Event] = {}
        self.held_hosts: dict[str, asyncio.Event] = {}
        self._connection = connection
        self._replies = replies

    @property
    def services(self) -> Services:
        return cast("Services", self)

    async def read(self, work: Callable[..., T], *args: object) -> T:
        return work(self._connection, *args)

    write = read

    async def call(self, endpoint: Endpoint, command: Command[Any], _task_uuid: str) -> Any:
        self.asked.append(command)
        self.hosts_asked.append(endpoint.host_uuid)
        if type(command) in self.held:
            await self.held[type(command)].wait()
        if endpoint.host_uuid in self.held_hosts:
            await self.held_hosts[endpoint.host_uuid].wait()
        reply = self._replies[type(command)]
        said = reply(endpoint.host_uuid) if callable(reply) else reply
        if isinstance(said, HardpointError):
            raise said
        return said

    def acknowledge(self, _endpoint: Endpoint, _task_uuid: str) -> None:
        """Nothing is kept here."""

    async def until_asked(self, kind: type[Command[Any]]) -> None:
        while not any(isinstance(command, kind) for command in self.asked):
            await asyncio.sleep(0)

    async def run(self, work: Callable[[Job], Awaitable[T]]) -> T:
        """Run a job to its end, undone when it fails."""
        journal = Journal(cast("Database", self))
        job: Job = Job(new_uuid(), self.services, journal, lambda _: None)
        await journal.append(NewJob(job.uuid, "Test", "{}", "digest", "[]", 0, ()))
        try:
            return await work(job)
        except HardpointError:
            rows = read_steps(self._connection, job.uuid)
            job.known = {row.position: JournalledStep(row.name, row.result, row.error, False) for row in rows}
            assert await job.undo_all(UNDO_LIMIT_S) == []
            raise


class _Vault(Vault):
    """One to which rows of tests need not be sealed."""

    def open(self, sealed: str, purpose: str) -> str:
        return sealed if sealed == "sealed" else super().open(sealed, purpose)


class _Defaults:
    """Settings that nobody has changed."""

    def __getitem__(self, setting: GlobalSetting) -> float:
        return setting.default
