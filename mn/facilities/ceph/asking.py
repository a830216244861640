"""The agents beside a storage's monitors: which can be asked; the next one is when one is away."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, select

from agentkit.errors import HardpointError
from agentkit.wire import Command
from mn.db.schema import new_uuid
from mn.facilities.ceph.tables import Kind, endpoint_of, server_of, server_table
from mn.facilities.common import find
from mn.fleet.client import Endpoint
from mn.rest.services import Services

log = logging.getLogger(__name__)

R = TypeVar("R")
AWAY = "HOST.1003"
"""The code of an agent that does not answer."""


class At(msgspec.Struct, frozen=True):
    """The agent that is asked to do something with a storage's cluster."""

    server_uuid: str
    address: str
    port: int
    agent: str

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint(self.server_uuid, self.address, self.port, self.agent)


def agent_on(connection: Connection, server_uuid: str) -> At:
    """Return the agent of a server."""
    row = connection.execute(select(server_table).where(server_table.c.uuid == server_uuid)).one()
    return _at(row)


def agents_of(connection: Connection, kind: Kind, storage_uuid: str) -> list[At]:
    """Return the agents beside the monitors of a storage that work.

    Raises HardpointError (SYS.1006) when there is none.
    """
    mons, found = kind.mon_rows(connection, storage_uuid), []
    for mon in mons:
        server = server_of(connection, mon.server_uuid)
        if mon.status == "Connected" and server is not None and server.agent_port is not None:
            found.append(_at(server))
    if found:
        return found
    row = find(connection, kind.resource, storage_uuid)
    reasons = "; ".join(f"{mon.hostname}: {mon.reason or mon.status}" for mon in mons)
    raise HardpointError(
        "SYS.1006",
        "Operation failed",
        f"{kind.what} {row.name} ({storage_uuid}) has no monitor that can be asked: {reasons}",
        remedy="see that a monitor and its agent run, then reconnect the storage",
    )


def agent_of(connection: Connection, kind: Kind, storage_uuid: str) -> At:
    """Return the first of them; raises as `agents_of` does."""
    return agents_of(connection, kind, storage_uuid)[0]


def in_turn(first: At | None, others: list[At]) -> list[At]:
    """Return agents in the order in which they are asked, `first` before the others."""
    return others if first is None else [first, *(at for at in others if at.server_uuid != first.server_uuid)]


async def answering(services: Services, kind: Kind, storage_uuid: str, first: At | None = None) -> At:
    """Return an agent that answers, for what must not be asked of two; the first one when none does."""
    asked = await _asked(services, kind, storage_uuid, first)
    for at in asked:
        if len(asked) == 1 or await _answers(services, at):
            return at
    return asked[0]


async def ask(
    services: Services,
    kind: Kind,
    storage_uuid: str,
    command: Command[R],
    task_uuid: str,
    first: At | None = None,
) -> tuple[At, R]:
    """Have a storage's cluster changed or looked at by an agent; return which one, and what it says.

    One that does not answer is followed by the next monitor's: two agents may come to do the same, so this is
    for what does no harm then. Raises HardpointError: SYS.1006 when there is no agent, HOST.1003 when none
    answers, and what the agent raises.
    """
    asked = await _asked(services, kind, storage_uuid, first)
    for at in asked[:-1]:
        if await _answers(services, at):
            try:
                return at, await _call(services, at, command, task_uuid)
            except HardpointError as error:
                if error.code != AWAY:
                    raise
                _note_away(at, error)
    return asked[-1], await _call(services, asked[-1], command, task_uuid)


async def ask_all(services: Services, kind: Kind, storage_uuid: str, command: Command[Any]) -> None:
    """Have all agents of a storage do something that each has to do for itself; those that are away do not.

    Raises HardpointError as `ask` does, when none can be asked; and what an agent raises.
    """
    done, away = 0, None
    for at in await _asked(services, kind, storage_uuid, None):
        try:
            await services.fleet.hello(at.endpoint)
        except HardpointError as error:
            _note_away(at, error)
            away = error
            continue
        await _call(services, at, command, new_uuid())
        done += 1
    if not done and away is not None:
        raise away


async def _asked(services: Services, kind: Kind, storage_uuid: str, first: At | None) -> list[At]:
    try:
        return in_turn(first, await services.db.read(agents_of, kind, storage_uuid))
    except HardpointError:
        if first is None:
            raise
        return [first]


async def _answers(services: Services, at: At) -> bool:
    try:
        await services.fleet.hello(at.endpoint)
    except HardpointError as error:
        _note_away(at, error)
        return False
    return True


async def _call(services: Services, at: At, command: Command[R], task_uuid: str) -> R:
    try:
        return await services.fleet.call(at.endpoint, command, task_uuid)
    finally:  # a failure, too: whoever asks again is to get an answer of that time
        services.fleet.acknowledge(at.endpoint, task_uuid)


def _note_away(at: At, error: HardpointError) -> None:
    log.warning("a monitor's agent is passed over", extra={"server": at.address, "reason": error.details})


def _at(row: Row[Any]) -> At:
    endpoint = endpoint_of(row)
    return At(endpoint.host_uuid, endpoint.address, endpoint.port, endpoint.agent)
