"""Reconnecting a backup storage: the agent is deployed again unless it is in place, and its store opened."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection

from agentkit.commands import Release
from agentkit.errors import Blame, HardpointError
from mn.facilities.backup_storage.connecting import (
    connect_store,
    endpoint_of,
    follow_store,
    save_connected,
    target_of,
    untrack_store,
)
from mn.facilities.backup_storage.driver import care_of, register_care
from mn.facilities.backup_storage.tables import (
    BACKUP_STORAGE,
    IMAGE_STORE,
    IMAGE_STORE_TYPE,
    change_storage,
    load_storage,
)
from mn.facilities.common import find, inventory
from mn.facilities.hosts.connecting import reporter
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report
from mn.query.resource import Resource
from mn.rest.operation import Action, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref

TIMEOUT_S = 3 * 3600.0


@dataclasses.dataclass(frozen=True)
class Deployed:
    """Where an agent was brought to, and the SSH host key that its server showed."""

    endpoint: Endpoint
    host_key: str | None


class _Reconnect(Action):
    """What both operations do."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a backup storage at a time."""
        return (f"backup-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Connect; a failure leaves it Disconnected."""
        resource = self.spec.reply
        if resource is None:
            raise AssertionError("a reconnect is answered with an inventory")
        return await _reconnect(job, resource, self.uuid)


class ReconnectBackupStorage(
    _Reconnect, path="/backup-storage/{uuid}/actions", reply=BACKUP_STORAGE, timeout_s=TIMEOUT_S
):
    """Connect a backup storage again (manual 4.5.3)."""


class ReconnectImageStoreBackupStorage(
    _Reconnect, path="/backup-storage/image-store/{uuid}/actions", reply=IMAGE_STORE, timeout_s=TIMEOUT_S
):
    """Connect an image store again (manual 4.5.14.3)."""


async def _reconnect(job: Job, resource: Resource, uuid: str) -> Reply:
    kind = await job.transact(begin_reconnect, uuid, undo=give_up_reconnect)
    try:
        await care_of(kind).reconnect(job, uuid)
    except HardpointError as error:
        raise _unable(uuid, error) from error
    return await inventory(job.services, resource, uuid)


class ImageStoreCare:
    """Image stores; see the contract (`Care`) for the methods."""

    async def reconnect(self, job: Job, uuid: str) -> None:
        """Bring the agent there again, open the store."""
        services = job.services
        url = await job.transact(url_of, uuid)
        await job.step(untrack_store, services, uuid, undo=follow_store)
        deployed = await job.step(redeploy_agent, services, uuid, reporter(job))
        job.at(70)
        task = job.task_uuid()
        reply = await job.step(connect_store, services, deployed.endpoint, url, task)
        services.fleet.acknowledge(deployed.endpoint, task)
        await job.transact(save_connected, deployed.endpoint, reply.inventory, deployed.host_key)
        await job.step(follow_store, services, uuid)

    async def leave(self, job: Job, uuid: str) -> None:
        """Take the agent away."""
        await job.step(untrack_store, job.services, uuid, undo=follow_store)
        await job.step(undeploy_store, job.services, uuid, job.task_uuid())
        await job.services.fleet.untrack(uuid)  # no step: a node that was started after them has a link again


register_care(IMAGE_STORE_TYPE, ImageStoreCare())


def begin_reconnect(connection: Connection, uuid: str) -> str:
    """Make a backup storage Connecting; return its type. Raises HardpointError (SYS.1003) for none."""
    row = find(connection, BACKUP_STORAGE, uuid)
    change_storage(connection, uuid, status="Connecting")
    return str(row.type)


def url_of(connection: Connection, uuid: str) -> str:
    """Return a store's folder. Raises HardpointError (SYS.1003) when there is no such store."""
    return str(find(connection, BACKUP_STORAGE, uuid).url)


def give_up_reconnect(connection: Connection, uuid: str) -> None:
    """Leave one that is not connected Disconnected."""
    row = load_storage(connection, uuid)
    if row is not None and row.status == "Connecting":
        change_storage(connection, uuid, status="Disconnected")


async def redeploy_agent(services: Services, uuid: str, report: Report) -> Deployed:
    """Bring the agent to the server again; one that is in place and right is left alone."""
    row = await services.db.read(load_storage, uuid)
    if row is None:
        raise HardpointError("SYS.1003", "Resource not found", f"backup storage {uuid} was deleted meanwhile")
    target, host_key = target_of(row, services.vault), None
    if target.ssh is not None and target.ssh.host_key is None:
        survey = await services.fleet.survey(target)
        if survey is not None:
            host_key = survey.host_key
            target = dataclasses.replace(target, ssh=dataclasses.replace(target.ssh, host_key=host_key))
    return Deployed(await services.fleet.deploy(target, report), host_key)


async def undeploy_store(services: Services, uuid: str, task_uuid: str) -> None:
    """Have the agent give the server back, then take it from there.

    A node that was started after `untrack_store` has a link again: it follows all stores that have a row.
    """
    await services.fleet.untrack(uuid)
    row = await services.db.read(load_storage, uuid)
    if row is None:
        return
    if row.agent_port is not None:
        await _release(services, endpoint_of(row), task_uuid)
    await services.fleet.undeploy(target_of(row, services.vault))


async def _release(services: Services, endpoint: Endpoint, task_uuid: str) -> None:
    """Release a store whose agent answers; one that does not is undeployed, or that fails."""
    try:
        if (await services.fleet.hello(endpoint)).host_uuid != endpoint.host_uuid:
            return
    except HardpointError:
        return
    command = Release(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    await services.fleet.call(endpoint, command, task_uuid)


def _unable(uuid: str, error: HardpointError) -> HardpointError:
    return HardpointError(
        "BS.1500",
        "Unable to reconnect backup storage",
        f"backup storage {uuid} was not reconnected: {error.details}",
        remedy=error.remedy,
        blame=Blame.SYSTEM,
        cause=error,
    )
