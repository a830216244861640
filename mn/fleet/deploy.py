"""Deployment of agents: what every way to bring an agent to a host has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mn.fleet.agents import KVM_AGENT, AgentKind
from mn.fleet.client import Endpoint
from mn.fleet.ssh import SshTarget
from mn.fleet.survey import HostSurvey

Report = Callable[[str], None]
"""Told what a deployment is at, `install the agent`."""


def silent(_doing: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulated host is made of: a recorded machine, None for the usual one.

    Memory in bytes and the number of CPUs are the recorded machine's unless they are given.
    """

    machine: str | None = None
    memory_bytes: int | None = None
    cpus: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A host that an agent of the kind `agent` is deployed to; `ssh` is None where nobody logs in.

    `simulated` is given when a simulated host is made; one that exists is known by its uuid.
    """

    host_uuid: str
    address: str
    ssh: SshTarget | None = None
    simulated: Simulated | None = None
    agent: AgentKind = KVM_AGENT


class Deployer(Protocol):
    """A way to bring an agent to a host. All calls may be repeated."""

    def serves(self, target: Target) -> bool:
        """Say whether this way leads to the host."""

    async def survey(self, target: Target) -> HostSurvey | None:
        """Log in and look at the host, changing nothing; None where there is nothing to ask before.

        Raises HardpointError: HOST.1003 when it cannot be reached or shows another host key, HOST.1012 when
        the user or password is refused.
        """

    def wanted_version(self, agent: AgentKind) -> str:
        """Return the version that an agent it deploys says it has."""

    async def deploy(self, target: Target, report: Report = silent) -> Endpoint:
        """Install and start the agent, return where it listens; what is in place is left as it is."""

    async def undeploy(self, target: Target) -> None:
        """Stop the agent and remove what was installed."""

    async def revive(self, target: Target) -> Endpoint | None:
        """Start a dead agent again when it is this deployer's part; return where it listens, None
        when not.
        """
