"""A host that is deleted while its agent is brought to it again does not keep the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, delete, update

from agentkit.errors import HardpointError
from mn.facilities.hosts.reconnect import redeploy_agent
from mn.facilities.hosts.tables import SEALED_FOR, host_table
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report, Target, silent
from tests.unit.mn.facilities.fleet import HOST, new_connection
from tests.unit.mn.facilities.hosts_double import HostsDouble

AT = Endpoint(HOST, "192.0.2.1", 7070)


class Hosts(HostsDouble):
    """Hosts to which an agent is on its way until `arrive` is set; that ends with `fault`, if any."""

    def __init__(self, connection: Connection, fault: HardpointError | None = None) -> None:
        super().__init__(connection, {})
        sealed = self.vault.seal("password", SEALED_FOR)
        connection.execute(update(host_table).values(password=sealed))
        self.fault, self.under_way, self.arrive = fault, asyncio.Event(), asyncio.Event()
        self.deployed: list[str] = []

    async def deploy(self, target: Target, _report: Report) -> Endpoint:
        self.under_way.set()
        await self.arrive.wait()
        self.deployed.append(target.host_uuid)
        if self.fault is not None:
            raise self.fault
        return AT

    async def undeploy(self, target: Target) -> None:
        self.deployed.remove(target.host_uuid)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        yield connection


@pytest.mark.parametrize("fault", [None, HardpointError("HOST.1003", "Connection error", "it is silent")])
async def test_the_agent_of_a_host_that_was_deleted_meanwhile_is_taken_away_again(
    connection: Connection, fault: HardpointError | None
) -> None:
    hosts = Hosts(connection, fault)
    deploying = asyncio.create_task(redeploy_agent(hosts.services, HOST, None, silent))
    await hosts.under_way.wait()
    connection.execute(delete(host_table))
    hosts.arrive.set()
    with pytest.raises(HardpointError, match="was deleted meanwhile") as gone:
        await deploying
    assert gone.value.code == "SYS.1003"
    assert hosts.deployed == []


async def test_the_agent_of_a_host_that_is_still_there_stays(connection: Connection) -> None:
    hosts = Hosts(connection)
    hosts.arrive.set()
    assert await redeploy_agent(hosts.services, HOST, None, silent) == AT
    assert hosts.deployed == [HOST]
