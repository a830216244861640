"""How a host leaves the fleet: its agent gives the host back and goes."""

from __future__ import annotations

import logging

import msgspec
from sqlalchemy import Connection

from agentkit.commands import Release
from agentkit.errors import HardpointError
from mn.facilities.cascade import child_of, delete_tree
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import DeletionMode
from mn.facilities.hosts.drains import drain_host, forget_host, leave_host
from mn.facilities.hosts.reconnect import follow_host
from mn.facilities.hosts.tables import HOST, change_host, load_host
from mn.facilities.hosts.targets import load_target
from mn.fleet.client import Endpoint
from mn.rest.operation import Delete, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Uuid

log = logging.getLogger(__name__)

TIMEOUT_S = 3600.0


class Leaving(msgspec.Struct, frozen=True):
    """A host that is to go: its state, and where its agent listens when it has one."""

    state: str
    agent: Endpoint | None


class DeleteHost(Delete, path="/hosts/{uuid}", timeout_s=TIMEOUT_S):
    """Delete a host (manual 4.3.2): its agent is removed from it, its devices and tags go with it.

    Permissive fails, and keeps the host, when the agent cannot be removed; Enforcing deletes it all the same.
    """

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a host at a time."""
        return (f"host/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Take the agent away, then the rows."""
        await delete_tree(job, HOST, self.uuid, self.delete_mode)
        return {}


async def remove_host(job: Job, uuid: str, mode: DeletionMode) -> None:
    """Release a host and undeploy its agent; Enforcing goes on when the host does not answer."""
    services = job.services
    leaving = await job.transact(load_leaving, uuid)
    if leaving is None:
        return
    await job.step(unfollow_host, services, uuid, undo=follow_host)
    await job.transact(disable_host, uuid, leaving.state, undo=restore_state)
    agent = leaving.agent
    if agent is not None and (mode == "Permissive" or await job.step(answers, services, agent)):
        await _drain(job, uuid, mode)
        await _release(job, agent, mode)
    await job.transact(forget_host, uuid)
    await job.step(undeploy_host, services, uuid)
    await services.fleet.untrack(uuid)  # no step: a node that was started after them has a link again


async def _drain(job: Job, uuid: str, mode: DeletionMode) -> None:
    try:
        await drain_host(job, uuid)
        await leave_host(job, uuid)
    except HardpointError as error:
        if mode == "Permissive":
            raise
        log.warning("not all has left the host", extra={"host": uuid, "reason": error.details})


async def _release(job: Job, agent: Endpoint, mode: DeletionMode) -> None:
    task = job.task_uuid()
    try:
        await job.step(release, job.services, agent, task)
    except HardpointError as error:
        if mode == "Permissive":
            raise
        log.warning("not released", extra={"host": agent.host_uuid, "reason": error.details})


async def answers(services: Services, endpoint: Endpoint) -> bool:
    """Say whether the agent can be asked to give the host back."""
    try:
        return (await services.fleet.hello(endpoint)).host_uuid == endpoint.host_uuid
    except HardpointError:
        return False


async def release(services: Services, endpoint: Endpoint, task_uuid: str) -> None:
    """Have the agent give its host back."""
    command = Release(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    await services.fleet.call(endpoint, command, task_uuid)


async def unfollow_host(services: Services, uuid: str) -> None:
    """End the link to a host."""
    await services.fleet.untrack(uuid)


async def undeploy_host(services: Services, uuid: str) -> None:
    """Stop the agent of a host and remove what was installed.

    A node that was started after `unfollow_host` has a link again: it follows all hosts that have a row.
    """
    await services.fleet.untrack(uuid)
    target = await services.db.read(load_target, services.vault, uuid)
    if target is not None:
        await services.fleet.undeploy(target)


def load_leaving(connection: Connection, uuid: str) -> Leaving | None:
    """Return what there is to be taken away, None when there is no such host.

    Raises HardpointError (SYS.1006) for a host that is being added.
    """
    row = load_host(connection, uuid)
    if row is None:
        return None
    if row.agent_port is None and row.status == "Connecting":
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"host {row.name} ({uuid}) is being added",
            remedy="wait until its AddKVMHost job has ended",
        )
    agent = Endpoint(uuid, row.agent_address, row.agent_port) if row.agent_port is not None else None
    return Leaving(row.state, agent)


def disable_host(connection: Connection, uuid: str, before: str) -> None:
    """Have nothing new come to a host that goes."""
    if before == "Enabled":
        change_host(connection, uuid, state="Disabled")


def restore_state(connection: Connection, uuid: str, before: str) -> None:
    """Give a host that stays the state that it had."""
    if before == "Enabled":
        change_host(connection, uuid, state=before)


child_of(CLUSTER, HOST, "cluster_uuid", remove=remove_host, kept_states=("PreMaintenance", "Maintenance"))
