"""How a host is connected, what adding and reconnecting have in common: look, deploy, take, save."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from sqlalchemy import Connection, select

from agentkit.commands import Release
from kvmagent.protocol import Connect, ConnectReply, HostFacts, Inventory
from mn.db.global_settings import (
    CLOCK_OFFSET,
    SAME_CPU_MODEL,
    SAME_DISTRIBUTION,
    SSH_PATIENCE,
    SSH_PROBE,
    GlobalSettings,
)
from mn.facilities.common import find
from mn.facilities.hosts.rules import Peer, Surroundings
from mn.facilities.hosts.stock import save_inventory
from mn.facilities.hosts.tables import HOST, Login, change_host, host_table, save_endpoint
from mn.facilities.hosts.tags import connected_now
from mn.facilities.tags.rules import tag_value, write_inherent
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report, Target
from mn.fleet.probe import survey_patiently
from mn.fleet.survey import HostSurvey
from mn.rest.services import Job, Services

CPU_MODEL_TAG = "check::cluster::cpu::model::{enable}"


def look_around(
    connection: Connection, cluster_uuid: str, host_uuid: str, fleet_uuid: str, settings: GlobalSettings
) -> Surroundings:
    """Return what a host of a cluster must fit into."""
    table = host_table
    others = (table.c.cluster_uuid == cluster_uuid) & (table.c.uuid != host_uuid)
    known = others & (table.c.status == "Connected") & table.c.facts.is_not(None)
    found = select(table.c.name, table.c.facts).where(known).order_by(table.c.name)
    tag = tag_value(connection, "Cluster", cluster_uuid, CPU_MODEL_TAG)
    return Surroundings(
        fleet_uuid=fleet_uuid,
        peers=_one_of_each(_peer(row.name, row.facts) for row in connection.execute(found)),
        same_distribution=bool(settings[SAME_DISTRIBUTION]),
        same_cpu_model=bool(settings[SAME_CPU_MODEL]) if tag is None else tag == "true",
        clock_offset_s=settings[CLOCK_OFFSET],
    )


def name_of(connection: Connection, host_uuid: str | None) -> str | None:
    """Return a host's name, None when there is no such host."""
    query = select(host_table.c.name).where(host_table.c.uuid == host_uuid)
    return connection.execute(query).scalar()


def _one_of_each(peers: Iterable[Peer]) -> list[Peer]:
    kinds: dict[Peer, Peer] = {}
    for peer in peers:
        kinds.setdefault(dataclasses.replace(peer, name=""), peer)
    return list(kinds.values())


def _peer(name: str, kept: object) -> Peer:
    facts = msgspec.convert(kept, HostFacts)
    return Peer(name, facts.distribution, facts.distribution_version, facts.architecture, facts.cpu_model)


async def survey_host(services: Services, target: Target) -> HostSurvey | None:
    """Log in and look at the host, waiting for its SSH port as long as the settings say."""
    settings = services.global_settings
    return await survey_patiently(services.fleet, target, settings[SSH_PATIENCE], settings[SSH_PROBE])


async def deploy_agent(services: Services, target: Target, report: Report) -> Endpoint:
    """Bring the agent to the host; return where it listens."""
    return await services.fleet.deploy(target, report)


async def undeploy_agent(services: Services, target: Target, _report: Report) -> None:
    """Take the agent from the host."""
    await services.fleet.undeploy(target)


def reporter(job: Job) -> Report:
    """Return what shows the doings of a deployment as the job's step."""

    def report(doing: str) -> None:
        job.progress.step = doing

    return report


async def release_former(services: Services, endpoint: Endpoint, former: str, task_uuid: str) -> None:
    """Have the agent forget the host that the machine was before, which was deleted while it was away."""
    command = Release(host_uuid=former, fleet_uuid=services.fleet.fleet_uuid)
    await services.fleet.call(endpoint, command, task_uuid)


async def connect_host(services: Services, endpoint: Endpoint, task_uuid: str) -> ConnectReply:
    """Take the host for this fleet."""
    command = Connect(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    return await services.fleet.call(endpoint, command, task_uuid)


async def take_host(
    job: Job,
    endpoint: Endpoint,
    former: str | None,
    undo: Callable[[Services, Endpoint, str], Awaitable[None]] | None = None,
) -> ConnectReply:
    """Take the host for this fleet, from its own former self where need be."""
    if former is not None:
        task = job.task_uuid()
        await job.step(release_former, job.services, endpoint, former, task)
        job.services.fleet.acknowledge(endpoint, task)
    task = job.task_uuid()
    reply = await job.step(connect_host, job.services, endpoint, task, undo=undo)
    job.services.fleet.acknowledge(endpoint, task)
    return reply


def save_connected(
    connection: Connection,
    endpoint: Endpoint,
    taken: Inventory,
    cpu_over_provisioning: float,
    host_key: str | None,
) -> None:
    """Write what a host shows: it is Connected.

    Raises HardpointError (SYS.1003) when the host was deleted meanwhile.
    """
    uuid = endpoint.host_uuid
    row = find(connection, HOST, uuid)
    save_endpoint(connection, uuid, endpoint)
    save_inventory(connection, uuid, taken, cpu_over_provisioning)
    change_host(
        connection,
        uuid,
        status="Connected",
        login=Login.VERIFIED,
        reconnect_attempts=0,
        ssh_host_key=row.ssh_host_key or host_key,
    )
    write_inherent(connection, HOST, uuid, connected_now())
