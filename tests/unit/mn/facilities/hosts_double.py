"""A double of the services that operations have: the rows of a test, and hosts that say what it wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from agentkit.wire import Command
from mn.db.vault import Vault
from mn.fleet.client import Endpoint
from mn.rest.services import Services

T = TypeVar("T")


class HostsDouble:
    """`asked` are the commands that hosts have been given; those of a kind in `held`, and those to a host in
    `held_hosts`, wait to be let go.
    """

    def __init__(self, connection: Connection, replies: dict[type[Command[Any]], Any]) -> None:
        self.db: Any = self
        self.fleet = self
        self.vault = Vault(b"key of a test")
        self.asked: list[Command[Any]] = []
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
        if type(command) in self.held:
            await self.held[type(command)].wait()
        if endpoint.host_uuid in self.held_hosts:
            await self.held_hosts[endpoint.host_uuid].wait()
        return self._replies[type(command)]

    def acknowledge(self, _endpoint: Endpoint, _task_uuid: str) -> None:
        """Nothing is kept here."""

    async def until_asked(self, kind: type[Command[Any]]) -> None:
        while not any(isinstance(command, kind) for command in self.asked):
            await asyncio.sleep(0)
