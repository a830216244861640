"""RecoverSharedBlockGroup: what brings a group back on a host that has lost it, said or done (extension)."""

from __future__ import annotations

import logging
from typing import Annotated

from msgspec import Meta
from sqlalchemy import Connection, insert

from agentkit.errors import HardpointError
from kvmagent.protocol_shared_block import RecoveryReply
from kvmagent.protocol_storage import RecoverGroup, StorageEvent
from mn.db.audit import audit_table
from mn.db.schema import new_uuid, now_s
from mn.facilities.common import find
from mn.facilities.hosts.followers import when_storage_told
from mn.facilities.hosts.tables import HOST
from mn.facilities.primary_storage.connecting import HostPlace, connect_storage, load_wanted
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.primary_storage.shared_block.operations import GROUPS
from mn.facilities.primary_storage.shared_block.tables import GROUP
from mn.rest.operation import Action, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref

log = logging.getLogger(__name__)

FENCED = "FenceVmsOfSharedBlockGroup"
"""What the audit log calls what a host has done by itself, as the settings say."""
_LISTS = {
    "steps": Annotated[list[str], Meta(description="what has to be done, or was, in order")],
    "lockState": Annotated[str, Meta(description="how the group is on the host")],
    "reason": Annotated[str, Meta(description="why")],
    "fencedVms": Annotated[list[str], Meta(description="VMs whose power was taken")],
}


class RecoverSharedBlockGroup(Action, path=f"{GROUPS}/{{uuid}}/actions", returns=_LISTS, timeout_s=3600.0):
    """Bring a shared-block storage back on a host; without `execute` it is said what that takes (extension).

    When the lease was lost, that takes the power of the VMs which have disks on it there: `fenceVms` allows
    it.
    """

    uuid: Ref
    host_uuid: Ref
    execute: bool = False
    fence_vms: bool = False

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Ask the host; then initialise the storage there again, which writes how it is."""
        services = job.services
        at = await job.transact(load_place, self.uuid, self.host_uuid)
        command = RecoverGroup(storage=at.storage, execute=self.execute, fence=self.fence_vms)
        task = job.task_uuid()
        reply = await job.step(recover, services, at, command, task)
        services.fleet.acknowledge(at.endpoint, task)
        if self.execute:
            await job.step(connect_again, services, self.uuid, self.host_uuid)
        standing = reply.standing
        return {
            "steps": [step.value for step in reply.steps],
            "lockState": standing.state.value,
            "reason": standing.reason or "",
            "fencedVms": reply.fenced,
        }


def load_place(connection: Connection, storage_uuid: str, host_uuid: str) -> HostPlace:
    """Return a host with a storage as it is to have it. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = find(connection, GROUP, storage_uuid)
    host = find(connection, HOST, host_uuid)
    if host.cluster_uuid not in row.attached_cluster_uuids:
        raise refused(
            f"primary storage {row.name} ({storage_uuid}) is not attached to the cluster of host {host_uuid}",
            "attach it",
        )
    wanted = load_wanted(connection, storage_uuid, host_uuid)
    if wanted is None or host.status != "Connected":
        raise refused(f"host {host.name} ({host_uuid}) is {host.status}", "reconnect the host first")
    return wanted.at


async def recover(services: Services, at: HostPlace, command: RecoverGroup, task: str) -> RecoveryReply:
    """Ask the host."""
    return await services.fleet.call(at.endpoint, command, task)


async def connect_again(services: Services, storage_uuid: str, host_uuid: str) -> None:
    """Initialise the storage on the host."""
    try:
        await connect_storage(services, storage_uuid, host_uuid)
    except HardpointError as error:
        extra = {"storage": storage_uuid, "host": host_uuid, "reason": error.details}
        log.warning("storage not recovered on a host", extra=extra)


async def follow_fencing(services: Services, host_uuid: str, event: StorageEvent) -> None:
    """Put on record that a host has taken the power of VMs."""
    if event.fenced:
        reason = event.reason or "its lease was lost"
        await services.db.write(note_fenced, event.storage_uuid, host_uuid, event.fenced, reason)


when_storage_told(follow_fencing)


def note_fenced(
    connection: Connection, storage_uuid: str, host_uuid: str, vms: list[str], reason: str
) -> None:
    """Write a line of the audit log with the evidence."""
    now = now_s()
    values = {
        "uuid": new_uuid(),
        "client_address": f"host {host_uuid}",
        "operation": FENCED,
        "resource_uuid": storage_uuid,
        "related_uuids": ",".join([host_uuid, *vms]),
        "status": 200,
        "duration_ms": 0,
        "details": {"hostUuid": host_uuid, "vmInstanceUuids": vms, "reason": reason},
        "begun_ms": int(now * 1000),
        "create_date": now,
    }
    connection.execute(insert(audit_table), values)
