"""The deployer of real hosts: it looks at them by SSH and has ansible install the agent as a service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agentkit.errors import Blame, HardpointError
from agentkit.wire import Hello
from mn.fleet.agents import AGENTS, AgentKind
from mn.fleet.ansible_run import PlayError, Runs
from mn.fleet.ca import CertificateAuthority, is_due
from mn.fleet.client import AgentClient, Endpoint
from mn.fleet.deploy import Report, Target, silent
from mn.fleet.families import KNOWN, family
from mn.fleet.protocol import check_protocol
from mn.fleet.ssh import SshPool, SshTarget
from mn.fleet.survey import HostSurvey, take_survey
from mn.fleet.wheelhouse import Wheelhouse, host_python, release

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 20.0
"""A started agent has said that it is ready; it must answer this management node within so long."""
POLL_S = 0.2


@dataclass(frozen=True)
class Agents:
    """How agents are installed: ports by kind where they are not the usual ones, the address to listen on."""

    ports: Mapping[str, int] = field(default_factory=dict)
    listen_address: str = "0.0.0.0"  # noqa: S104 - every address of the host; the certificate decides


class AnsibleDeployer:
    """Agents as systemd services of hosts, reached by SSH; serves every target."""

    def __init__(
        self,
        fleet_uuid: str,
        client: AgentClient,
        ca: CertificateAuthority,
        ssh: SshPool,
        runs: Runs,
        wheelhouse: Wheelhouse,
        agents: Agents,
    ) -> None:
        self._fleet_uuid = fleet_uuid
        self._client = client
        self._ca = ca
        self._ssh = ssh
        self._runs = runs
        self._wheelhouse = wheelhouse
        self._agents = agents

    def serves(self, target: Target) -> bool:
        """Any address may be a host's."""
        return True

    async def survey(self, target: Target) -> HostSurvey:
        """Log in and look."""
        return await take_survey(self._ssh, _login(target), target.agent)

    def wanted_version(self, agent: AgentKind) -> str:
        """Return the version that is installed on hosts."""
        return release(agent).version

    async def deploy(self, target: Target, report: Report = silent) -> Endpoint:
        """Install and start the agent; an agent that answers and is the wanted one is left alone.

        Raises HardpointError: those of the survey; HOST.1003 for a host of another fleet, or when the new
        agent cannot be reached; SYS.1006 for a host that cannot carry an agent; HOST.1000 when installing
        failed, with the failing task and what the host said.
        """
        endpoint = Endpoint(target.host_uuid, target.address, self._port(target), target.agent.name)
        if await self._is_in_place(endpoint):
            return endpoint
        report("look at the host")
        survey = await self.survey(target)
        self._check(target, survey)
        report("pack the agent")
        python = host_python(survey.python, survey.architecture, survey.libc)
        bundle = await self._wheelhouse.bundle(python, target.agent)
        variables = await self._variables(target, survey, bundle)
        await self._run("deploy.yml", target, survey, variables, report)
        report("wait for the agent")
        await self._gate(endpoint, target, survey, variables, report)
        return endpoint

    async def undeploy(self, target: Target) -> None:
        """Stop the agent and remove it; a host that has none, or another fleet's, is left as it is.

        Raises HardpointError as the survey does when the host cannot be reached.
        """
        survey = await self.survey(target)
        owner = (survey.owner_fleet_uuid, survey.owner_host_uuid)
        if owner == (self._fleet_uuid, target.host_uuid):
            variables = self._common_variables(target, survey)
            await self._run("remove.yml", target, survey, variables, silent)

    async def revive(self, target: Target) -> Endpoint | None:
        """Nothing: an agent that ended is started again by its host's systemd."""
        return None

    async def _is_in_place(self, endpoint: Endpoint) -> bool:
        """Say whether the wanted agent answers as this host or as nobody's, with time left to be renewed."""
        try:
            hello = await self._client.hello(endpoint)
            ends_s = await self._client.certificate_end(endpoint)
        except HardpointError:
            return False
        return (
            _is_wanted(endpoint, hello)
            and hello.host_uuid in {None, endpoint.host_uuid}
            and not is_due(ends_s)
        )

    def _check(self, target: Target, survey: HostSurvey) -> None:
        """Raise HardpointError for a host that must not or cannot have this fleet's agent."""
        if survey.owner_fleet_uuid not in {None, self._fleet_uuid}:
            raise HardpointError(
                "HOST.1003",
                "Connection error",
                f"{target.address} has the agent of fleet {survey.owner_fleet_uuid}, as host "
                f"{survey.owner_host_uuid}",
                remedy="delete the host in that fleet first; when that fleet is gone, remove "
                "/etc/hardpoint and /var/lib/hardpoint on the host",
                blame=Blame.CALLER,
            )
        if not survey.admin:
            raise _unfit(
                f"user {_login(target).username} of {target.address} is not root and may not become root "
                "with sudo and its password",
                "use root, or allow the user sudo",
            )
        if not survey.systemd:
            raise _unfit(f"{target.address} does not run systemd", "use a distribution that does")
        _family(survey)

    async def _variables(self, target: Target, survey: HostSurvey, bundle: Path) -> dict[str, object]:
        version = release(target.agent).version
        return self._common_variables(target, survey) | {
            "hardpoint_family": _family(survey),
            "hardpoint_version": version,
            "hardpoint_present": version in survey.releases,
            "hardpoint_bundle": str(bundle),
            "hardpoint_python": survey.python_path,
            "hardpoint_address": target.address,
            "hardpoint_listen_address": self._agents.listen_address,
            "hardpoint_owner": {"hostUuid": target.host_uuid, "fleetUuid": self._fleet_uuid},
            "hardpoint_credentials": await asyncio.to_thread(self._credentials, target, survey),
        }

    def _common_variables(self, target: Target, survey: HostSurvey) -> dict[str, object]:
        return {
            "hardpoint_agent": target.agent.name,
            "hardpoint_port": self._port(target),
            "hardpoint_firewalld": survey.firewalld,
        }

    def _port(self, target: Target) -> int:
        return self._agents.ports.get(target.agent.name, target.agent.port)

    def _credentials(self, target: Target, survey: HostSurvey) -> dict[str, object]:
        """Return the files of a new certificate, none when the one in place is right."""
        if survey.certificate and self._ca.vouches_for(
            survey.certificate, survey.authority, target.host_uuid, target.address
        ):
            return {}
        certificate, key = self._ca.issue_server(target.host_uuid, target.address)
        folder = f"/etc/hardpoint/{target.agent.name}"
        return {
            f"{folder}/agent.pem": {"content": certificate.decode(), "mode": "0644"},
            f"{folder}/agent.key": {"content": key.decode(), "mode": "0600"},
            f"{folder}/ca.pem": {"content": self._ca.ca_path.read_text(), "mode": "0644"},
        }

    async def _run(
        self,
        playbook: str,
        target: Target,
        survey: HostSurvey,
        variables: dict[str, object],
        report: Report,
    ) -> str:
        try:
            played = await self._runs.play(playbook, _login(target), survey, variables, report)
        except PlayError as error:
            raise _not_deployed(target, error) from error
        log.info(
            "ansible has played",
            extra={"host": target.host_uuid, "playbook": playbook, "changed": played.changed},
        )
        return played.log

    async def _gate(
        self,
        endpoint: Endpoint,
        target: Target,
        survey: HostSurvey,
        variables: dict[str, object],
        report: Report,
    ) -> None:
        """Wait until the agent answers with the wanted version; go back to the version before if not."""
        reason = await self._answer(endpoint)
        if reason is None:
            return
        report("go back to the version before")
        said = await self._run("rollback.yml", target, survey, variables, report)
        before, version = survey.agent_version, release(target.agent).version
        outcome = f"; version {before} runs again" if before and before != version else ""
        raise HardpointError(
            "HOST.1000",
            "Unable to add host",
            f"version {version} of the agent runs on {target.address}, but {reason.details}"
            f"{outcome}{_last_lines(said)}",
            remedy=reason.remedy,
            cause=reason,
        )

    async def _answer(self, endpoint: Endpoint) -> HardpointError | None:
        """Return why the agent does not answer as it should, None when it does."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            try:
                hello = await self._client.hello(endpoint)
                check_protocol(hello, str(endpoint))
                if _is_wanted(endpoint, hello):
                    return None
                reason = _other_version(endpoint, hello)
            except HardpointError as error:
                reason = error
            if time.monotonic() > deadline:
                return reason
            await asyncio.sleep(POLL_S)


def _is_wanted(endpoint: Endpoint, hello: Hello) -> bool:
    kind = AGENTS[endpoint.agent]
    return (hello.agent, hello.version) == (kind.name, release(kind).version)


def _other_version(endpoint: Endpoint, hello: Hello) -> HardpointError:
    return HardpointError(
        "HOST.1003",
        "Connection error",
        f"the agent at {endpoint} is version {hello.version}",
        remedy="see whether another process of the host has the agent's port",
    )


def _login(target: Target) -> SshTarget:
    if target.ssh is None:
        raise HardpointError(
            "HOST.1003",
            "Connection error",
            f"it is not known how to log in to {target.address}",
            remedy="give the host a user name and password (UpdateKVMHost)",
        )
    return target.ssh


def _family(survey: HostSurvey) -> str:
    """Return the file of a distribution's differences. Raises HardpointError (SYS.1006)."""
    found = family(survey)
    if found is None:
        named = survey.distribution_name or survey.distribution or "unknown"
        raise _unfit(f"the host's distribution is {named}", f"use {KNOWN}")
    return found


def _unfit(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)


def _not_deployed(target: Target, error: PlayError) -> HardpointError:
    where = f"task `{error.task}` on {target.address}" if error.task else f"ansible for {target.address}"
    return HardpointError(
        "HOST.1000",
        "Unable to add host",
        f"{where} failed: {error.message}{_last_lines(error.log)}",
        remedy=error.remedy or "do what the message says, then try again",
    )


def _last_lines(said: str) -> str:
    return f"; its last log lines: {said}" if said else ""
