"""AddKVMHost: check, insert, deploy the agent, connect, take stock; all of it undone when a step fails."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, delete, select

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol import Connect, ConnectReply, Inventory, Release
from mn.db.global_settings import CPU_RATIO
from mn.facilities.common import add, find, inventory
from mn.facilities.hosts.hypervisors import fitting_cluster
from mn.facilities.hosts.stock import save_inventory
from mn.facilities.hosts.tables import HOST, SEALED_FOR, change_host, host_table, save_endpoint
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Target
from mn.fleet.ssh import SshTarget
from mn.rest.operation import Create, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Description, HostAddress, Name, Port, Ref, Secret

TIMEOUT_S = 3 * 3600.0


class AddKVMHost(Create, path="/hosts/kvm", reply=HOST, timeout_s=TIMEOUT_S):
    """Add a KVM host: deploy its agent, connect it, take stock of its devices (manual 4.3.9)."""

    username: Name
    password: Secret
    name: Name
    management_ip: HostAddress
    cluster_uuid: Ref
    ssh_port: Port = 22
    description: Description | None = None

    def locks(self) -> tuple[str, ...]:
        """One addition of an address at a time."""
        return (f"address/{self.management_ip.text}",)

    async def run(self, job: Job) -> Reply:
        """Do it, undo it."""
        services = job.services
        uuid = self.resource_uuid or job.uuid_for("host")
        login = SshTarget(self.management_ip.text, self.ssh_port, self.username, self.password.text)
        target = Target(uuid, self.management_ip.text, login)
        sealed = services.vault.seal(self.password.text, SEALED_FOR)
        await job.transact(insert_host, uuid, self, sealed, undo=remove_host)
        job.at(10)
        try:
            endpoint = await job.step(services.fleet.deploy, target, undo=services.fleet.undeploy)
            job.at(60)
            task = job.task_uuid()
            connected = await job.step(connect_host, services, endpoint, task, undo=release_host)
            job.at(80)
        except HardpointError as error:
            raise _unable(self, error) from error
        await job.transact(save_host, endpoint, connected.inventory, services.global_settings[CPU_RATIO])
        services.fleet.acknowledge(endpoint, task)
        services.fleet.track(target, endpoint, connected.inventory.hash)
        return await inventory(services, HOST, uuid)


def insert_host(connection: Connection, uuid: str, wanted: AddKVMHost, sealed: str) -> None:
    """Insert the row, Connecting.

    Raises HardpointError for a cluster that does not fit or an address in use.
    """
    cluster = fitting_cluster(connection, wanted.cluster_uuid, "KVM")
    address = wanted.management_ip.text
    check_address_free(connection, address)
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "zone_uuid": cluster.zone_uuid,
        "cluster_uuid": cluster.uuid,
        "management_ip": address,
        "hypervisor_type": "KVM",
        "state": "Enabled",
        "status": "Connecting",
        "username": wanted.username,
        "password": sealed,
        "ssh_port": wanted.ssh_port,
    }
    add(connection, HOST, values, wanted)


def check_address_free(connection: Connection, address: str) -> None:
    """Raise HardpointError (SYS.1007) when a host has the address."""
    other = connection.execute(
        select(host_table.c.uuid, host_table.c.name).where(host_table.c.management_ip == address)
    ).first()
    if other is not None:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"managementIp {address} belongs to host {other.name} ({other.uuid}) already",
            remedy="use that host, or delete it before you add the address again",
            blame=Blame.CALLER,
        )


class Addressed(Protocol):
    """The parameters of an addition."""

    management_ip: HostAddress


def remove_host(connection: Connection, uuid: str, wanted: Addressed, _sealed: str) -> None:
    """Remove the row that this job inserted."""
    mine = (host_table.c.uuid == uuid) & (host_table.c.management_ip == wanted.management_ip.text)
    connection.execute(delete(host_table).where(mine))


async def connect_host(services: Services, endpoint: Endpoint, task_uuid: str) -> ConnectReply:
    """Take the host for this fleet."""
    command = Connect(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    return await services.fleet.call(endpoint, command, task_uuid)


async def release_host(services: Services, endpoint: Endpoint, task_uuid: str) -> None:
    """Give the host back; an agent that does not answer holds nothing that undeploying it leaves."""
    command = Release(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    try:
        await services.fleet.call(endpoint, command, f"{int(task_uuid, 16) ^ 1:032x}")
    except HardpointError as error:
        if error.code != "HOST.1003":
            raise


def save_host(
    connection: Connection, endpoint: Endpoint, taken: Inventory, cpu_over_provisioning: float
) -> None:
    """Write what the new host shows: it is Connected.

    Raises HardpointError (SYS.1003) when the host was deleted meanwhile.
    """
    find(connection, HOST, endpoint.host_uuid)
    save_endpoint(connection, endpoint.host_uuid, endpoint)
    save_inventory(connection, endpoint.host_uuid, taken, cpu_over_provisioning)
    change_host(connection, endpoint.host_uuid, status="Connected")


def _unable(wanted: AddKVMHost, error: HardpointError) -> HardpointError:
    return HardpointError(
        "HOST.1000",
        "Unable to add host",
        f"host {wanted.name} ({wanted.management_ip.text}) was not added: {error.details}",
        remedy=error.remedy,
        blame=error.blame,
        cause=error,
    )
