"""How an image store is connected, what adding and reconnecting have in common, and what its link sees."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from agentkit.commands import Release
from agentkit.errors import HardpointError
from mn.db.vault import Vault
from mn.facilities.backup_storage.tables import (
    IMAGE_STORE_TYPE,
    SEALED_FOR,
    backup_storage_table,
    change_storage,
    load_storage,
)
from mn.facilities.servers import ServerObserver
from mn.facilities.undoing import undoing
from mn.fleet.agents import STORAGE_AGENT
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Target
from mn.fleet.ssh import SshTarget
from mn.rest.services import Services
from storageagent.protocol import Connect, ConnectReply, StoreReport


def target_of(row: Row[Any], vault: Vault) -> Target:
    """Return the server of a row as deployment knows it."""
    password = vault.open(row.password, SEALED_FOR)
    login = SshTarget(row.hostname, row.ssh_port, row.username, password, row.ssh_host_key)
    return Target(row.uuid, row.hostname, login, agent=STORAGE_AGENT)


def endpoint_of(row: Row[Any]) -> Endpoint:
    """Return where the agent of a row listens."""
    return Endpoint(row.uuid, row.agent_address, row.agent_port, STORAGE_AGENT.name)


async def connect_store(services: Services, endpoint: Endpoint, url: str, task_uuid: str) -> ConnectReply:
    """Take the server for this fleet and open its store."""
    command = Connect(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid, url=url)
    return await services.fleet.call(endpoint, command, task_uuid)


async def release_store(services: Services, endpoint: Endpoint, _url: str, task_uuid: str) -> None:
    """Give the server back; the images stay in its folder. An agent that does not answer holds nothing."""
    command = Release(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    try:
        with undoing(services, endpoint, task_uuid) as task:
            await services.fleet.call(endpoint, command, task)
    except HardpointError as error:
        if error.code != "HOST.1003":
            raise


async def untrack_store(services: Services, uuid: str) -> None:
    """End the link to a store."""
    await services.fleet.untrack(uuid)


async def follow_store(services: Services, uuid: str) -> None:
    """Begin the store's link anew, where its agent is now."""
    await services.fleet.untrack(uuid)
    row = await services.db.read(load_storage, uuid)
    if row is not None and row.agent_port is not None:
        services.fleet.track(target_of(row, services.vault), endpoint_of(row), row.inventory_hash)


async def track_stores(services: Services) -> None:
    """Begin the links to all stores when the management node starts."""
    observer = ServerObserver(services.db, _set_status, _save_endpoint, save_report)
    services.fleet.observe(observer, STORAGE_AGENT)
    for uuid in await services.db.write(expect_stores):
        await follow_store(services, uuid)


def expect_stores(connection: Connection) -> list[str]:
    """Note that it is not known yet whether connected stores still are; return those that have an agent."""
    table = backup_storage_table
    mine = (table.c.type == IMAGE_STORE_TYPE) & table.c.agent_port.is_not(None)
    connected = mine & (table.c.status == "Connected")
    connection.execute(update(table).where(connected).values(status="Connecting"))
    return list(connection.execute(select(table.c.uuid).where(mine)).scalars())


def save_report(connection: Connection, uuid: str, report: StoreReport) -> None:
    """Write what a store reports of its file system."""
    change_storage(
        connection,
        uuid,
        total_capacity=report.total_bytes,
        available_capacity=report.available_bytes,
        inventory_hash=report.hash,
    )


def save_connected(
    connection: Connection, endpoint: Endpoint, report: StoreReport, host_key: str | None
) -> None:
    """Write that a store is Connected, and where."""
    values = {"agent_address": endpoint.address, "agent_port": endpoint.port, "status": "Connected"}
    if host_key is not None:
        values["ssh_host_key"] = host_key
    change_storage(connection, endpoint.host_uuid, **values)
    save_report(connection, endpoint.host_uuid, report)


def _set_status(connection: Connection, uuid: str, status: str) -> None:
    row = load_storage(connection, uuid)
    if row is not None and row.status != status:
        change_storage(connection, uuid, status=status)


def _save_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    change_storage(connection, endpoint.host_uuid, agent_address=endpoint.address, agent_port=endpoint.port)
