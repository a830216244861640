"""The fleet: a link to every host, calls to agents, deployment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TypeVar

from agentkit.commands import InstallCertificate
from agentkit.errors import HardpointError
from agentkit.wire import Command, Hello
from mn.db.schema import new_uuid
from mn.fleet.agents import AGENTS, KVM_AGENT, AgentKind
from mn.fleet.ca import CertificateAuthority, is_due
from mn.fleet.client import AgentClient, Endpoint, Revive
from mn.fleet.deploy import Deployer, Report, Target, silent
from mn.fleet.link import HostLink, Observer, Pacing
from mn.fleet.places import Places
from mn.fleet.ssh import SshPool
from mn.fleet.survey import HostSurvey

log = logging.getLogger(__name__)

R = TypeVar("R")


class Fleet:
    """What the management node does with hosts. `fleet_uuid` is what agents know their owner by."""

    def __init__(
        self,
        fleet_uuid: str,
        client: AgentClient,
        ca: CertificateAuthority,
        deployers: list[Deployer],
        ssh: SshPool,
    ) -> None:
        self.fleet_uuid = fleet_uuid
        self.ssh = ssh
        self.os_updates = Places()
        """Updates of hosts' operating systems, of whatever cluster."""
        self._ca = ca
        self._client = client
        self._deployers = deployers
        self._links: dict[str, HostLink] = {}
        self._pacing = Pacing()
        self._acknowledgements: set[asyncio.Task[None]] = set()
        self._observers: dict[str, Observer] = {}

    def observe(self, observer: Observer, agent: AgentKind = KVM_AGENT) -> None:
        """Say who is told what links to agents of a kind see; to be called before `track`."""
        self._observers[agent.name] = observer

    def authority(self) -> str:
        """Return the certificate (PEM) of the CA that all agents' certificates are of."""
        return self._ca.ca_path.read_text()

    async def survey(self, target: Target) -> HostSurvey | None:
        """Look at a host before anything is installed on it; None where there is nothing to look at."""
        return await self._deployer(target).survey(target)

    def wanted_version(self, target: Target) -> str:
        """Return the version that the agent of a host is to have."""
        return self._deployer(target).wanted_version(target.agent)

    async def deploy(self, target: Target, report: Report = silent) -> Endpoint:
        """Install and start the agent of a host; done before, it is found in place.

        Returns where it listens.
        """
        return await self._deployer(target).deploy(target, report)

    async def undeploy(self, target: Target) -> None:
        """Stop and remove the agent of a host; nothing happens when there is none."""
        deployer = self._find_deployer(target)
        if deployer is not None:
            await deployer.undeploy(target)

    async def call(self, endpoint: Endpoint, command: Command[R], task_uuid: str) -> R:
        """Have an agent do something once; see `AgentClient.call`."""
        agent = AGENTS[endpoint.agent]
        revive = self._reviver(Target(endpoint.host_uuid, endpoint.address, agent=agent))
        return await self._client.call(endpoint, command, task_uuid, revive)

    async def hello(self, endpoint: Endpoint) -> Hello:
        """Ask an agent who it is. Raises HardpointError (HOST.1003) when it does not answer."""
        return await self._client.hello(endpoint)

    def acknowledge(self, endpoint: Endpoint, task_uuid: str) -> None:
        """Let the agent forget a task whose result is safe here."""
        task = asyncio.create_task(self._client.acknowledge(endpoint, task_uuid))
        self._acknowledgements.add(task)
        task.add_done_callback(self._acknowledgements.discard)

    def track(self, target: Target, endpoint: Endpoint, inventory_hash: str) -> None:
        """Keep a link to a host from now on; a host that is tracked already keeps its link."""
        observer = self._observers.get(target.agent.name)
        if target.host_uuid in self._links or observer is None:
            return
        revive = self._reviver(target)
        link = HostLink(self._client, endpoint, inventory_hash, observer, revive, self._pacing)
        self._links[target.host_uuid] = link
        link.start()

    async def look(self, limit_s: float) -> None:
        """Wait until it has been seen of every tracked host whether it answers, `limit_s` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                for link in list(self._links.values()):
                    await link.looked.wait()

    async def renew_certificates(self) -> list[str]:
        """Give agents whose certificate ends soon another one; return the uuids of their hosts.

        Agents that do not answer are left for the next time.
        """
        renewed = []
        for host_uuid, link in list(self._links.items()):
            try:
                if await self._renew(link.endpoint):
                    renewed.append(host_uuid)
            except HardpointError as error:
                log.warning("certificate not renewed", extra={"host": host_uuid, "reason": error.details})
        return renewed

    async def _renew(self, endpoint: Endpoint) -> bool:
        if not is_due(await self._client.certificate_end(endpoint)):
            return False
        certificate, key = await asyncio.to_thread(
            self._ca.issue_server, endpoint.host_uuid, endpoint.address
        )
        task_uuid = new_uuid()
        command = InstallCertificate(certificate=certificate.decode(), key=key.decode())
        await self.call(endpoint, command, task_uuid)
        self.acknowledge(endpoint, task_uuid)
        log.info("certificate renewed", extra={"host": endpoint.host_uuid})
        return True

    async def untrack(self, host_uuid: str) -> None:
        """End the link to a host."""
        link = self._links.pop(host_uuid, None)
        if link:
            await link.stop()

    async def stop(self) -> None:
        """End all links and connections; agents go on."""
        await asyncio.gather(*(link.stop() for link in self._links.values()))
        self._links.clear()
        await self.ssh.close()
        await self._client.close()

    def _find_deployer(self, target: Target) -> Deployer | None:
        return next((d for d in self._deployers if d.serves(target)), None)

    def _deployer(self, target: Target) -> Deployer:
        deployer = self._find_deployer(target)
        if deployer is not None:
            return deployer
        raise HardpointError(
            "SYS.1014",
            "Not supported",
            f"no agent can be deployed to {target.address}: nothing here deploys to such hosts",
            remedy="see the settings of the management node",
        )

    def _reviver(self, target: Target) -> Revive:
        async def revive() -> Endpoint | None:
            deployer = self._find_deployer(target)
            return await deployer.revive(target) if deployer else None

        return revive
