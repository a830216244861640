"""AddSimulatorHost: a host that is the agent on a recorded machine, for tests and demonstrations."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec
from sqlalchemy import Connection

from agentkit.errors import Blame, HardpointError
from mn.db.global_settings import CPU_RATIO
from mn.facilities.common import add, inventory
from mn.facilities.hosts.add import release_host, remove_host
from mn.facilities.hosts.addresses import check_free, claim
from mn.facilities.hosts.connecting import save_connected, take_host
from mn.facilities.hosts.hypervisors import fitting_cluster
from mn.facilities.hosts.tables import HOST, SEALED_FOR
from mn.fleet.deploy import Simulated, Target
from mn.rest.operation import Create, Reply
from mn.rest.services import Job
from mn.rest.types import Description, HostAddress, Name, Ref

Capacity = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class AddSimulatorHost(Create, path="/hosts/simulators", reply=HOST):
    """Add a simulated host to a Simulator cluster (extension).

    Its address is one of 127.0.0.0/8; its devices are those of a recorded machine, `machine`, with serial
    numbers and MAC addresses of its own.
    """

    name: Name
    management_ip: HostAddress
    cluster_uuid: Ref
    memory_capacity: Capacity | None = None
    cpu_capacity: Capacity | None = None
    machine: Name | None = None
    description: Description | None = None

    def check(self) -> None:
        """Simulated hosts have loopback addresses: nobody else's are touched."""
        text = self.management_ip.text
        try:
            address = ipaddress.ip_address(text)
            if address.version == 4 and address.is_loopback:
                return
        except ValueError:
            pass
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"managementIp {text} is no loopback address, and simulated hosts have no other",
            remedy="give an address of 127.0.0.0/8 that no other host has",
            blame=Blame.CALLER,
        )

    def locks(self) -> tuple[str, ...]:
        """One addition of an address at a time."""
        return (f"address/{self.management_ip.text}",)

    async def run(self, job: Job) -> Reply:
        """Do it, undo it."""
        services = job.services
        uuid = self.resource_uuid or job.uuid_for("host")
        simulated = Simulated(self.machine, self.memory_capacity, self.cpu_capacity)
        target = Target(uuid, self.management_ip.text, simulated=simulated)
        sealed = services.vault.seal("", SEALED_FOR)
        await job.transact(insert_host, uuid, self, sealed, undo=remove_host)
        try:
            endpoint = await job.step(services.fleet.deploy, target, undo=services.fleet.undeploy)
            taken = await take_host(job, endpoint, None, undo=release_host)
        except HardpointError as error:
            raise self._unable(error) from error
        ratio = services.global_settings[CPU_RATIO]
        await job.transact(save_connected, endpoint, taken.inventory, ratio, None)
        services.fleet.track(target, endpoint, taken.inventory.hash)
        return await inventory(services, HOST, uuid)

    def _unable(self, error: HardpointError) -> HardpointError:
        return HardpointError(
            "HOST.1000",
            "Unable to add host",
            f"simulated host {self.name} ({self.management_ip.text}) was not added: {error.details}",
            remedy=error.remedy,
            blame=error.blame,
            cause=error,
        )


def insert_host(connection: Connection, uuid: str, wanted: AddSimulatorHost, sealed: str) -> None:
    """Insert the row, Connecting.

    Raises HardpointError for a cluster that does not fit or an address in use.
    """
    cluster = fitting_cluster(connection, wanted.cluster_uuid, "Simulator")
    check_free(connection, [wanted.management_ip.text], uuid)
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "zone_uuid": cluster.zone_uuid,
        "cluster_uuid": cluster.uuid,
        "management_ip": wanted.management_ip.text,
        "hypervisor_type": "Simulator",
        "state": "Enabled",
        "status": "Connecting",
        "username": "simulator",
        "password": sealed,
        "ssh_port": 22,
    }
    add(connection, HOST, values, wanted)
    claim(connection, [wanted.management_ip.text], uuid)
