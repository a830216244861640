"""How a host leaves the fleet: its agent gives the host back and goes."""

from __future__ import annotations

from sqlalchemy import Connection, select

from agentkit.errors import HardpointError
from kvmagent.protocol import Release
from mn.facilities.cascade import child_of
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import DeletionMode
from mn.facilities.hosts.tables import HOST, host_table
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Target
from mn.rest.services import Job, Services


async def remove_host(job: Job, uuid: str, mode: DeletionMode) -> None:
    """Release a host and undeploy its agent; Enforcing goes on when the host does not answer."""
    found = await job.transact(load_endpoint, uuid)
    if found is None:
        return
    address, port = found
    services, target = job.services, Target(uuid, address)
    await job.step(services.fleet.untrack, uuid)
    try:
        if port is not None:
            await job.step(release, services, Endpoint(uuid, address, port), job.task_uuid())
    except HardpointError:
        if mode == "Permissive":
            services.fleet.track(target, Endpoint(uuid, address, port or 0), "")
            raise
    await job.step(services.fleet.undeploy, target)


async def release(services: Services, endpoint: Endpoint, task_uuid: str) -> None:
    """Have the agent give its host back."""
    command = Release(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    await services.fleet.call(endpoint, command, task_uuid)


def load_endpoint(connection: Connection, uuid: str) -> tuple[str, int | None] | None:
    """Return a host's address and its agent's port, None when there is no such host.

    Raises HardpointError (SYS.1006) for a host that is being added.
    """
    row = connection.execute(select(host_table).where(host_table.c.uuid == uuid)).first()
    if row is None:
        return None
    if row.agent_port is None and row.status == "Connecting":
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"host {row.name} ({uuid}) is being added",
            remedy="wait until its AddKVMHost job has ended",
        )
    return row.agent_address or row.management_ip, row.agent_port


child_of(CLUSTER, HOST, "cluster_uuid", remove=remove_host, kept_states=("PreMaintenance", "Maintenance"))
