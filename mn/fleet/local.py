"""The deployer for agents on this machine: processes without SSH and without a service manager."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import shutil
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.files import write_durably
from agentkit.turns import Turns
from agentkit.working import in_thread
from mn.fleet.agents import CEPH_AGENT, KVM_AGENT, AgentKind
from mn.fleet.ca import CertificateAuthority, KeyPair
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report, Target, silent
from mn.fleet.processes import (
    AGENT_CONFIGURATION,
    begun,
    lock_holder,
    running_port,
    stop_agent,
    stop_begun,
)
from mn.fleet.survey import HostSurvey

START_TIMEOUT_S = 60.0
BEGUN_TIMEOUT_S = 60.0
"""So long a daemon is waited for that somebody else has started."""
POLL_S = 0.02


class LocalDeployer:
    """Agents as processes of this machine, for its loopback addresses: no SSH, no service manager.

    Each has a folder below `directory`, named by its host's uuid: configuration, certificates, log and state.
    The directories of local storages are below `storage`, in a folder for each host; they outlive the agent.
    The agent's lock file says whether it runs, so that a management node started anew finds it.
    """

    def __init__(
        self,
        directory: Path,
        ca: CertificateAuthority,
        *,
        root: Path,
        storage: Path,
        rescan_s: float,
        libvirt: str | None = None,
        ceph: Path | None = None,
    ) -> None:
        self._directory = directory
        self._ca = ca
        self._root = root
        self._storage = storage
        self._rescan_s = rescan_s
        self._libvirt = libvirt
        self._ceph = ceph
        self._turns = Turns()

    def serves(self, target: Target) -> bool:
        """Say whether the address is this machine's loopback."""
        if target.address == "localhost":
            return True
        try:
            return ipaddress.ip_address(target.address).is_loopback
        except ValueError:
            return False

    async def survey(self, target: Target) -> HostSurvey | None:
        """Nothing has to be asked: it is this machine."""
        return None

    def wanted_version(self, agent: AgentKind) -> str:
        """Return this installation's version: the agents run from it."""
        return metadata.version("hardpoint")

    async def deploy(self, target: Target, report: Report = silent) -> Endpoint:
        """Start the agent unless it runs, return where it listens; callers that come together start one."""
        async with self._turns.of(target.host_uuid):
            return await self._deploy(target)

    async def _deploy(self, target: Target) -> Endpoint:
        home = self._home(target)
        await in_thread(_forget_other_address, home, target.address)
        running = await already_running(home, home / AGENT_CONFIGURATION)
        if running is None:
            started: list[subprocess.Popen[bytes]] = []
            try:
                await in_thread(lambda: started.append(self._start(home, target)))
                running = await until_running(home, started[0])
            except asyncio.CancelledError:  # or it would come up in a folder that the undo has removed
                for process in started:
                    process.kill()
                raise
        return Endpoint(target.host_uuid, target.address, running, target.agent.name)

    async def undeploy(self, target: Target) -> None:
        """Stop the agent and remove its folder."""
        async with self._turns.of(target.host_uuid):
            await in_thread(self._remove, self._home(target))

    async def revive(self, target: Target) -> Endpoint | None:
        """Start the agent again when its process is gone."""
        # Who removes it meanwhile has removed it, not half of it.
        async with self._turns.of(target.host_uuid):
            if not self._home(target).exists():
                return None
            return await self._deploy(target)

    def _home(self, target: Target) -> Path:
        return self._directory / target.host_uuid

    def _start(self, home: Path, target: Target) -> subprocess.Popen[bytes]:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair = self._ca.server(home, target.host_uuid, target.address)
        configuration = home / AGENT_CONFIGURATION
        write_durably(configuration, self._configuration(home, target, pair).encode())
        return spawn(home, target.agent.name, "serve", "--config", str(configuration))

    def _configuration(self, home: Path, target: Target, pair: KeyPair) -> str:
        values: dict[str, str | float] = {
            "listen_address": target.address,
            "port": 0,
            "state_dir": str(home),
            "certificate": str(pair.certificate),
            "key": str(pair.key),
            "ca": str(pair.ca),
        }
        if target.agent is KVM_AGENT:
            values |= {
                "transfer_port": 0,
                "root": str(self._root),
                "local_storage_root": str(self._storage / target.host_uuid),
                "management_address": target.address,
                "rescan_s": self._rescan_s,
            }
            if self._libvirt is not None:
                values |= {"libvirt_uri": self._libvirt, "emulate": True}
        if target.agent is CEPH_AGENT and self._ceph is not None:
            values["ceph_configuration"] = str(self._ceph)
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

    def _remove(self, home: Path) -> None:
        if home.exists():
            stop_agent(home)
            shutil.rmtree(home)


def _forget_other_address(home: Path, address: str) -> None:
    """End an agent that listens elsewhere, and forget its certificate, which is for that address."""
    try:
        configured = tomllib.loads((home / AGENT_CONFIGURATION).read_text())["listen_address"]
    except (FileNotFoundError, tomllib.TOMLDecodeError, KeyError):
        return
    if configured != address:
        stop_agent(home)
        (home / "agent.pem").unlink(missing_ok=True)


def spawn(home: Path, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a daemon of this installation whose log is in `home`; it outlives this process."""
    argv = [sys.executable, "-m", module, *arguments]
    with (home / "agent.log").open("ab") as log:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )


async def already_running(home: Path, argument: Path) -> int | None:
    """Return the port of the daemon of a folder that runs, or that a killed management node was starting.

    `argument` is what its command line says of the folder. None when there is none, or none that comes up:
    that one is ended, so that the next is the only one.
    """
    deadline = time.monotonic() + BEGUN_TIMEOUT_S
    while True:
        port = await asyncio.to_thread(running_port, home)
        if port is not None or not await asyncio.to_thread(begun, argument):
            return port
        if time.monotonic() > deadline:
            await asyncio.to_thread(stop_begun, argument)
            return None
        await asyncio.sleep(POLL_S)


async def until_running(home: Path, process: subprocess.Popen[bytes]) -> int:
    """Return the port of a daemon that was just started. Raises HardpointError with what it said last."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        port = await asyncio.to_thread(running_port, home)
        if port is not None:
            return port
        if process.poll() is not None and lock_holder(home) is None:
            raise _start_error(home, f"it ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            process.kill()
            raise _start_error(home, f"it was not ready after {START_TIMEOUT_S:.0f} s")
        await asyncio.sleep(POLL_S)


def _start_error(home: Path, reason: str) -> HardpointError:
    log_file = home / "agent.log"
    lines = log_file.read_text(errors="replace").splitlines()[-1:] if log_file.exists() else []
    said = f": {lines[0][:500]}" if lines else ""
    return HardpointError(
        "HOST.1000",
        "Unable to add host",
        f"the agent of this machine could not be started, {reason}{said}",
        remedy=f"see {log_file}",
    )
