"""ReconnectHost: an agent that answers as it should is asked for its inventory, others are deployed anew."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from agentkit.errors import Blame, ErrorBody, HardpointError
from kvmagent.protocol import ConnectReply
from mn.db.global_settings import CPU_RATIO, GlobalSettings
from mn.facilities.common import find, inventory
from mn.facilities.hosts.connecting import (
    look_around,
    name_of,
    reporter,
    save_connected,
    survey_host,
    take_host,
)
from mn.facilities.hosts.rules import Surroundings, check_survey, check_virtualisation, former_host
from mn.facilities.hosts.tables import HOST, Login, change_host, load_host
from mn.facilities.hosts.targets import load_target, target_of
from mn.facilities.pci.iommu import iommu_lock, is_wanted, write_again
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report, Target
from mn.fleet.survey import HostSurvey
from mn.jobs.engine import journalled_locks
from mn.jobs.journal import job_number, last_job_number
from mn.jobs.live import JobRequest
from mn.rest.operation import Action, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref

TIMEOUT_S = 3 * 3600.0


@dataclass(frozen=True)
class Turn:
    """A reconnect whose turn has come.

    `ended`: one that was under way when this was asked for has ended, with `error` or well; its outcome is
    this one's. Otherwise `agent` is where an agent may still do, None when it is to be deployed anyway.
    """

    name: str
    ended: bool
    error: ErrorBody | None = None
    agent: Endpoint | None = None
    around: Surroundings | None = None


class ReconnectHost(Action, path="/hosts/{uuid}/actions", reply=HOST, timeout_s=TIMEOUT_S):
    """Connect a host again and take stock of its devices (manual 4.3.5).

    Calls that come while one is under way share its outcome.
    """

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a host, and of its boot settings, at a time."""
        return (f"host/{self.uuid}", iommu_lock(self.uuid))

    async def run(self, job: Job) -> Reply:
        """Connect; a failure leaves the host Disconnected."""
        services = job.services
        await job.step(have_link_renewed, services, self.uuid, undo=follow_host)
        turn = await job.transact(
            begin_reconnect,
            self.uuid,
            job.uuid,
            services.fleet.fleet_uuid,
            services.global_settings,
            undo=give_up_reconnect,
        )
        if turn.ended:
            if turn.error is not None:
                raise HardpointError.from_body(turn.error)
            return await inventory(services, HOST, self.uuid)
        await job.step(services.fleet.untrack, self.uuid)
        try:
            await self._connect(job, turn)
        except HardpointError as error:
            failure = _unable(turn.name, error)
            await job.transact(fail_reconnect, self.uuid, failure.to_body())
            raise failure from error
        await job.step(follow_host, services, self.uuid)
        return await inventory(services, HOST, self.uuid)

    async def _connect(self, job: Job, turn: Turn) -> None:
        services = job.services
        endpoint, host_key, former = None, None, None
        survey: HostSurvey | None = None
        if turn.agent is not None:
            endpoint = await job.step(find_agent, services, turn.agent)
            job.at(50)
        if endpoint is None:
            survey = await job.step(survey_known_host, services, self.uuid)
            if survey is not None and turn.around is not None:
                owner = await job.transact(name_of, survey.owner_host_uuid)
                check_survey(survey, self.uuid, turn.name, turn.around, owner)
                host_key, former = survey.host_key, former_host(survey, self.uuid, turn.around)
            job.at(10)
            endpoint = await job.step(redeploy_agent, services, self.uuid, host_key, reporter(job))
            job.at(60)
        taken: ConnectReply = await take_host(job, endpoint, former)
        if survey is not None:
            check_virtualisation(taken.inventory.facts, turn.name)
        job.at(90)
        ratio = services.global_settings[CPU_RATIO]
        if await job.transact(save_reconnected, endpoint, taken, ratio, host_key):
            await job.step(write_again, services, endpoint, job.task_uuid())


def reconnect_request(services: Services, uuid: str, job_uuid: str, *, fresh: bool) -> JobRequest:
    """Return the job that reconnects a host; `fresh` says that nothing has the job's uuid yet."""
    operation = ReconnectHost(uuid=uuid)
    return JobRequest(
        job_uuid,
        ReconnectHost.spec.name,
        services.codec.encode(operation),
        services.codec.digest(operation),
        journalled_locks(operation.locks()),
        TIMEOUT_S,
        fresh=fresh,
    )


def begin_reconnect(
    connection: Connection, uuid: str, job_uuid: str, fleet_uuid: str, settings: GlobalSettings
) -> Turn:
    """Make the host Connecting, unless a reconnect that has ended since the job was submitted counts for it.

    Raises HardpointError: SYS.1003 when there is no such host, HOST.1002 when it is not to be reconnected.
    """
    row = find(connection, HOST, uuid)
    name = f"host {row.name} ({row.management_ip})"
    if row.reconnect_through is not None and job_number(connection, job_uuid) <= row.reconnect_through:
        kept = row.reconnect_error
        error = msgspec.json.decode(kept, type=ErrorBody) if kept is not None else None
        return Turn(name, ended=True, error=error)
    if row.state in ("PreMaintenance", "Maintenance"):
        raise _unable(name, _refused(f"{name} is in the state {row.state}", "enable or disable it first"))
    if row.agent_port is None:
        raise _unable(name, _refused(f"{name} is being added", "wait until its AddKVMHost job has ended"))
    change_host(connection, uuid, status="Connecting")
    same = row.login == Login.VERIFIED and row.agent_address == row.management_ip
    agent = Endpoint(uuid, row.agent_address, row.agent_port) if same else None
    around = look_around(connection, row.cluster_uuid, uuid, fleet_uuid, settings)
    return Turn(name, ended=False, agent=agent, around=around)


def give_up_reconnect(connection: Connection, uuid: str, *_: object) -> None:
    """Leave a host that is not connected Disconnected."""
    row = load_host(connection, uuid)
    if row is not None and row.status == "Connecting":
        change_host(connection, uuid, status="Disconnected")


def fail_reconnect(connection: Connection, uuid: str, error: ErrorBody) -> None:
    """Write why a host was not reconnected."""
    values = {"login": Login.REFUSED} if error.code == "HOST.1012" else {}
    change_host(
        connection,
        uuid,
        status="Disconnected",
        reconnect_through=last_job_number(connection),
        reconnect_error=msgspec.json.encode(error).decode(),
        **values,
    )


def save_reconnected(
    connection: Connection,
    endpoint: Endpoint,
    taken: ConnectReply,
    cpu_over_provisioning: float,
    host_key: str | None,
) -> bool:
    """Write what the host shows: it is Connected, for all jobs that have been submitted so far.

    Returns whether its IOMMU is wanted.
    """
    save_connected(connection, endpoint, taken.inventory, cpu_over_provisioning, host_key)
    number = last_job_number(connection)
    change_host(connection, endpoint.host_uuid, reconnect_through=number, reconnect_error=None)
    return is_wanted(connection, endpoint.host_uuid)


async def find_agent(services: Services, endpoint: Endpoint) -> Endpoint | None:
    """Return where the agent listens when it answers as it should, None when it does not."""
    try:
        hello = await services.fleet.hello(endpoint)
    except HardpointError:
        return None
    wanted = services.fleet.wanted_version(Target(endpoint.host_uuid, endpoint.address))
    return endpoint if (hello.host_uuid, hello.version) == (endpoint.host_uuid, wanted) else None


async def survey_known_host(services: Services, uuid: str) -> HostSurvey | None:
    """Log in to a host and look at it."""
    return await survey_host(services, await _target(services, uuid))


async def redeploy_agent(services: Services, uuid: str, host_key: str | None, report: Report) -> Endpoint:
    """Bring the agent to a host again; return where it listens.

    A host that was deleted meanwhile, with its cluster, does not keep it: HardpointError (SYS.1003).
    """
    target = await _target(services, uuid)
    if target.ssh is not None and target.ssh.host_key is None:
        login = dataclasses.replace(target.ssh, host_key=host_key)
        target = dataclasses.replace(target, ssh=login)
    try:
        endpoint = await services.fleet.deploy(target, report)
    except HardpointError:
        await _leave_deleted(services, target)
        raise
    await _leave_deleted(services, target)
    return endpoint


async def _leave_deleted(services: Services, target: Target) -> None:
    """Take the agent away again when the host's row is gone. Raises HardpointError (SYS.1003) then."""
    if await services.db.read(load_host, target.host_uuid) is None:
        await services.fleet.undeploy(target)
        raise _gone(target.host_uuid)


async def have_link_renewed(services: Services, uuid: str) -> None:
    """Do nothing yet: when the job fails, however it does, the host's link begins anew (`follow_host`)."""


async def follow_host(services: Services, uuid: str) -> None:
    """Begin the host's link anew, so that it says what is the case, where the host is now."""
    await services.fleet.untrack(uuid)
    row = await services.db.read(load_host, uuid)
    if row is not None and row.agent_port is not None:
        endpoint = Endpoint(uuid, row.agent_address, row.agent_port)
        services.fleet.track(target_of(row, services.vault), endpoint, row.inventory_hash)


async def _target(services: Services, uuid: str) -> Target:
    target = await services.db.read(load_target, services.vault, uuid)
    if target is None:
        raise _gone(uuid)
    return target


def _gone(uuid: str) -> HardpointError:
    return HardpointError("SYS.1003", "Resource not found", f"host {uuid} was deleted meanwhile")


def _unable(name: str, error: HardpointError) -> HardpointError:
    if error.code == "HOST.1012":
        return error
    return HardpointError(
        "HOST.1002",
        "Unable to reconnect host",
        f"{name} was not reconnected: {error.details}",
        remedy=error.remedy,
        blame=error.blame,
        cause=error,
    )


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
