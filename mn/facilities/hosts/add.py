"""AddKVMHost: look, check, insert, deploy the agent, connect; all of it undone when a step fails."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, delete

from agentkit.commands import Release
from agentkit.errors import HardpointError
from kvmagent.protocol import ConnectReply
from mn.db.global_settings import CPU_RATIO, GlobalSettings
from mn.facilities.common import add, inventory
from mn.facilities.hosts.addresses import check_free, claim, resolve_address
from mn.facilities.hosts.connecting import (
    deploy_agent,
    look_around,
    name_of,
    reporter,
    save_connected,
    survey_host,
    take_host,
    undeploy_agent,
)
from mn.facilities.hosts.hypervisors import fitting_cluster
from mn.facilities.hosts.rules import (
    Surroundings,
    check_address,
    check_facts,
    check_fit,
    check_survey,
    former_host,
)
from mn.facilities.hosts.tables import HOST, SEALED_FOR, host_table
from mn.facilities.tags.rules import drop_tags
from mn.facilities.undoing import undoing
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Target
from mn.fleet.ssh import SshTarget
from mn.fleet.survey import HostSurvey
from mn.rest.operation import Create, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Description, HostAddress, Name, Port, Ref, Secret

TIMEOUT_S = 3 * 3600.0


class AddKVMHost(Create, path="/hosts/kvm", reply=HOST, timeout_s=TIMEOUT_S):
    """Add a KVM host: look at it, deploy its agent, connect it, take stock of its devices (manual 4.3.9)."""

    username: Name
    password: Secret
    name: Name
    management_ip: HostAddress
    cluster_uuid: Ref
    ssh_port: Port = 22
    description: Description | None = None

    def check(self) -> None:
        """Refuse an address that no host can have."""
        check_address(self.management_ip.text)

    def locks(self) -> tuple[str, ...]:
        """One addition of an address at a time."""
        return (f"address/{self.management_ip.text}",)

    async def run(self, job: Job) -> Reply:
        """Do it, undo it."""
        services = job.services
        uuid = self.resource_uuid or job.uuid_for("host")
        addresses = await job.step(resolve_address, self.management_ip.text)
        around = await job.transact(
            check_addition, uuid, self, addresses, services.fleet.fleet_uuid, services.global_settings
        )
        try:
            survey = await self._look(job, uuid, around)
        except HardpointError as error:
            raise self._unable(error) from error
        job.at(10)
        host_key = survey.host_key if survey else None
        sealed = services.vault.seal(self.password.text, SEALED_FOR)
        await job.transact(insert_host, uuid, self, sealed, addresses, host_key, undo=remove_host)
        try:
            endpoint, taken = await self._connect(job, uuid, survey, around)
        except HardpointError as error:
            raise self._unable(error) from error
        ratio = services.global_settings[CPU_RATIO]
        await job.transact(save_connected, endpoint, taken.inventory, ratio, host_key)
        services.fleet.track(self._target(uuid, host_key), endpoint, taken.inventory.hash)
        return await inventory(services, HOST, uuid)

    async def _look(self, job: Job, uuid: str, around: Surroundings) -> HostSurvey | None:
        """Look at the machine before anything is changed; None where there is nothing to look at."""
        survey = await job.step(survey_host, job.services, self._target(uuid))
        if survey is not None:
            owner = await job.transact(name_of, survey.owner_host_uuid)
            check_survey(survey, uuid, self._label, around, owner)
            check_fit(survey, self._label, around)
        return survey

    async def _connect(
        self, job: Job, uuid: str, survey: HostSurvey | None, around: Surroundings
    ) -> tuple[Endpoint, ConnectReply]:
        services = job.services
        target = self._target(uuid, survey.host_key if survey else None)
        endpoint = await job.step(deploy_agent, services, target, reporter(job), undo=undeploy_agent)
        job.at(60)
        former = former_host(survey, uuid, around) if survey else None
        taken = await take_host(job, endpoint, former, undo=release_host)
        job.at(80)
        if survey is not None:
            check_facts(taken.inventory.facts, self._label, around)
        return endpoint, taken

    @property
    def _label(self) -> str:
        return f"host {self.name} ({self.management_ip.text})"

    def _target(self, uuid: str, host_key: str | None = None) -> Target:
        address = self.management_ip.text
        login = SshTarget(address, self.ssh_port, self.username, self.password.text, host_key)
        return Target(uuid, address, login)

    def _unable(self, error: HardpointError) -> HardpointError:
        return HardpointError(
            "HOST.1000",
            "Unable to add host",
            f"{self._label} was not added: {error.details}",
            remedy=error.remedy,
            blame=error.blame,
            cause=error,
        )


def check_addition(
    connection: Connection,
    uuid: str,
    wanted: AddKVMHost,
    addresses: list[str],
    fleet_uuid: str,
    settings: GlobalSettings,
) -> Surroundings:
    """Return what the new host must fit into.

    Raises HardpointError for a cluster that does not fit or an address in use.
    """
    fitting_cluster(connection, wanted.cluster_uuid, "KVM")
    check_free(connection, [wanted.management_ip.text, *addresses], uuid)
    return look_around(connection, wanted.cluster_uuid, uuid, fleet_uuid, settings)


def insert_host(
    connection: Connection,
    uuid: str,
    wanted: AddKVMHost,
    sealed: str,
    addresses: list[str],
    host_key: str | None,
) -> None:
    """Insert the row, Connecting; raises HardpointError as `check_addition` does."""
    cluster = fitting_cluster(connection, wanted.cluster_uuid, "KVM")
    check_free(connection, [wanted.management_ip.text, *addresses], uuid)
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "zone_uuid": cluster.zone_uuid,
        "cluster_uuid": cluster.uuid,
        "management_ip": wanted.management_ip.text,
        "hypervisor_type": "KVM",
        "state": "Enabled",
        "status": "Connecting",
        "username": wanted.username,
        "password": sealed,
        "ssh_port": wanted.ssh_port,
        "ssh_host_key": host_key,
    }
    add(connection, HOST, values, wanted)
    claim(connection, addresses, uuid)


class Addressed(Protocol):
    """The parameters of an addition."""

    management_ip: HostAddress


def remove_host(connection: Connection, uuid: str, wanted: Addressed, *_: object) -> None:
    """Remove the row that this job inserted, with its tags."""
    mine = (host_table.c.uuid == uuid) & (host_table.c.management_ip == wanted.management_ip.text)
    if connection.execute(delete(host_table).where(mine)).rowcount:
        drop_tags(connection, uuid)


async def release_host(services: Services, endpoint: Endpoint, task_uuid: str) -> None:
    """Give the host back; an agent that does not answer holds nothing that undeploying it leaves."""
    command = Release(host_uuid=endpoint.host_uuid, fleet_uuid=services.fleet.fleet_uuid)
    try:
        with undoing(services, endpoint, task_uuid) as task:
            await services.fleet.call(endpoint, command, task)
    except HardpointError as error:
        if error.code != "HOST.1003":
            raise
