"""How monitors' hosts get their agent and lose it, and what the links to the agents see."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select, update

from agentkit.commands import Release
from agentkit.errors import HardpointError
from cephagent.protocol import ClusterReport, Connect
from mn.db.global_settings import CLOCK_OFFSET
from mn.db.vault import Vault
from mn.facilities.ceph.clusters import mon_at
from mn.facilities.ceph.tables import (
    SEALED_FOR,
    Kind,
    change_server,
    endpoint_of,
    kinds,
    report_of,
    server_of,
    server_table,
)
from mn.facilities.hosts.rules import Surroundings, check_server
from mn.facilities.servers import ServerObserver
from mn.fleet.agents import CEPH_AGENT
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report, Target
from mn.fleet.ssh import SshTarget
from mn.rest.services import Services

log = logging.getLogger(__name__)


class Login(msgspec.Struct, frozen=True):
    """A server and how to log in to it; the password is sealed."""

    server_uuid: str
    hostname: str
    username: str
    sealed_password: str
    ssh_port: int
    host_key: str | None


class Joined(msgspec.Struct, frozen=True):
    """A server whose agent has been brought there and has looked at its cluster."""

    hostname: str
    report: ClusterReport


async def survey_server(services: Services, login: Login) -> Login:
    """Log in to a server for the first time and see that it may get the agent; return its host key, too.

    Nothing is changed there. Raises HardpointError when it cannot be reached or may not get it.
    """
    target = target_of(login, services.vault)
    if target.ssh is None or target.ssh.host_key is not None:
        return login
    survey = await services.fleet.survey(target)
    if survey is None:
        return login
    fleet = services.fleet.fleet_uuid
    around = Surroundings(fleet, (), False, False, services.global_settings[CLOCK_OFFSET])
    owner = await services.db.read(name_of, survey.owner_host_uuid)
    check_server(survey, login.server_uuid, f"Ceph monitor {login.hostname}", around, owner)
    return msgspec.structs.replace(login, host_key=survey.host_key)


async def join_server(services: Services, login: Login, task_uuid: str, report: Report) -> Joined:
    """Bring the agent to a server and have it look at the cluster; what is in place is left as it is."""
    target = target_of(login, services.vault)
    endpoint = await services.fleet.deploy(target, report)
    command = Connect(host_uuid=login.server_uuid, fleet_uuid=services.fleet.fleet_uuid)
    reply = await services.fleet.call(endpoint, command, task_uuid)
    await services.db.write(save_joined, endpoint, login.host_key, reply.inventory)
    services.fleet.acknowledge(endpoint, task_uuid)
    return Joined(login.hostname, reply.inventory)


async def follow_server(services: Services, uuid: str) -> None:
    """Begin the link to a server anew, where its agent is now."""
    await services.fleet.untrack(uuid)
    found = await services.db.read(load_followed, uuid)
    if found is not None:
        target = Target(uuid, found[0].address, agent=CEPH_AGENT)
        services.fleet.track(target, found[0], found[1])


async def leave_server(services: Services, login: Login, task_uuid: str) -> None:
    """Take the agent from a server that no monitor row has any more, and forget the server.

    Raises HardpointError when the agent cannot be removed.
    """
    row = await services.db.read(server_of, login.server_uuid)
    if row is None or await services.db.read(is_used, login.server_uuid):
        return
    await services.fleet.untrack(login.server_uuid)
    if row.agent_port is not None:
        await _release(services, endpoint_of(row), task_uuid)
    await services.fleet.undeploy(target_of(login, services.vault))
    await services.db.write(forget_server, login.server_uuid)


async def _release(services: Services, endpoint: Endpoint, task_uuid: str) -> None:
    """Have an agent that answers give its server back; one that does not is undeployed, or that fails."""
    try:
        if (await services.fleet.hello(endpoint)).host_uuid != endpoint.host_uuid:
            return
    except HardpointError:
        return
    command = Release(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    try:
        await services.fleet.call(endpoint, command, task_uuid)
    finally:  # a failure, too: it is tried again
        services.fleet.acknowledge(endpoint, task_uuid)


async def track_servers(services: Services) -> None:
    """Begin the links to all servers when the management node starts."""
    services.fleet.observe(ServerObserver(services.db, set_status, save_endpoint, save_report), CEPH_AGENT)
    for uuid in await services.db.write(expect_servers):
        await follow_server(services, uuid)


def target_of(login: Login, vault: Vault) -> Target:
    """Return a server as deployment knows it."""
    password = vault.open(login.sealed_password, SEALED_FOR)
    ssh = SshTarget(login.hostname, login.ssh_port, login.username, password, login.host_key)
    return Target(login.server_uuid, login.hostname, ssh, agent=CEPH_AGENT)


def name_of(connection: Connection, uuid: str | None) -> str | None:
    """Return a server's host name, None when there is no such one."""
    return connection.execute(select(server_table.c.hostname).where(server_table.c.uuid == uuid)).scalar()


def login_of(connection: Connection, mon: Row[Any]) -> Login:
    """Return how to log in to a monitor's server."""
    server = server_of(connection, mon.server_uuid)
    key = server.ssh_host_key if server is not None else None
    return Login(mon.server_uuid, mon.hostname, mon.ssh_username, mon.sealed_password, mon.ssh_port, key)


def is_used(connection: Connection, uuid: str) -> bool:
    """Say whether a storage has a monitor on a server."""
    for kind in kinds:
        mine = kind.mons.c.server_uuid == uuid
        if connection.execute(select(kind.mons.c.uuid).where(mine).limit(1)).first() is not None:
            return True
    return False


def forget_server(connection: Connection, uuid: str) -> None:
    """Remove a server's row, unless a storage has come to use it."""
    if not is_used(connection, uuid):
        connection.execute(delete(server_table).where(server_table.c.uuid == uuid))


def expect_servers(connection: Connection) -> list[str]:
    """Note that it is not known yet whether servers answer; return those that have an agent."""
    with_agent = server_table.c.agent_port.is_not(None)
    connection.execute(update(server_table).where(with_agent).values(status="Connecting"))
    return list(connection.execute(select(server_table.c.uuid).where(with_agent)).scalars())


def load_followed(connection: Connection, uuid: str) -> tuple[Endpoint, str] | None:
    """Return where a server's agent listens and the hash of what it said last."""
    row = server_of(connection, uuid)
    return None if row is None or row.agent_port is None else (endpoint_of(row), row.inventory_hash)


def save_joined(
    connection: Connection, endpoint: Endpoint, host_key: str | None, report: ClusterReport
) -> None:
    """Write where a server's agent is and what it says."""
    values: dict[str, Any] = {"agent_address": endpoint.address, "agent_port": endpoint.port}
    if host_key is not None:
        values["ssh_host_key"] = host_key
    change_server(connection, endpoint.host_uuid, **values)
    save_report(connection, endpoint.host_uuid, report)


def save_report(connection: Connection, uuid: str, report: ClusterReport) -> None:
    """Write what a server's agent says, and what follows for the storages of its cluster."""
    kept = msgspec.to_builtins(report)
    change_server(connection, uuid, status="Connected", report=kept, inventory_hash=report.hash)
    refresh_users(connection, uuid)


def refresh_users(connection: Connection, server_uuid: str) -> None:
    """Write what has become of the storages that have a monitor on a server."""
    for kind in kinds:
        mine = kind.mons.c.server_uuid == server_uuid
        owners = select(kind.mons.c[kind.owner]).where(mine).distinct()
        for uuid in list(connection.execute(owners).scalars()):
            refresh_storage(connection, kind, uuid)


def refresh_storage(connection: Connection, kind: Kind, uuid: str) -> None:
    """Write the states of a storage's monitors, and of the storage: one monitor that answers is enough."""
    table = kind.resource.table
    row = connection.execute(select(table).where(table.c.uuid == uuid)).first()
    if row is None or row.fsid is None:
        return
    best: ClusterReport | None = None
    for mon in kind.mon_rows(connection, uuid):
        server = server_of(connection, mon.server_uuid)
        report = report_of(server) if server is not None else None
        answers = server is not None and server.status == "Connected" and report is not None
        reason = _fault(row.fsid, mon, report) if answers and report else "its agent does not answer"
        _save_mon(connection, kind, mon, reason, report)
        if reason is None:
            best = best or report
    kind.refresh(connection, row, best)


def _fault(fsid: str, mon: Row[Any], report: ClusterReport) -> str | None:
    """Return why a monitor cannot be used, None when it can."""
    if report.reason is not None:
        return report.reason
    if report.fsid != fsid:
        return f"it is of the Ceph cluster {report.fsid} now, not of {fsid}"
    found = mon_at(report, mon.hostname, mon.mon_port)
    if found is None:
        return "its host has no monitor of the cluster any more"
    return None if found.in_quorum else f"monitor {found.name} is not in the quorum"


def _save_mon(
    connection: Connection, kind: Kind, mon: Row[Any], reason: str | None, report: ClusterReport | None
) -> None:
    status = "Connected" if reason is None else "Disconnected"
    found = mon_at(report, mon.hostname, mon.mon_port) if report is not None else None
    address = found.address if found is not None else mon.mon_addr
    if (mon.status, mon.reason, mon.mon_addr) != (status, reason, address):
        if mon.status != status:
            extra = {"mon": mon.hostname, "status": status, "reason": reason}
            log.info("Ceph monitor", extra=extra)
        where = kind.mons.c.uuid == mon.uuid
        values = {"status": status, "reason": reason, "mon_addr": address}
        connection.execute(update(kind.mons).where(where).values(**values))


def set_status(connection: Connection, uuid: str, status: str) -> None:
    """Write whether a server answers, and what follows."""
    row = server_of(connection, uuid)
    if row is not None and row.status != status:
        change_server(connection, uuid, status=status)
        refresh_users(connection, uuid)


def save_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Write where an agent listens now."""
    change_server(connection, endpoint.host_uuid, agent_address=endpoint.address, agent_port=endpoint.port)
