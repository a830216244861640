"""The deployer for simulated hosts: folders that one simulator process of this machine serves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from agentkit.errors import ErrorBody, HardpointError
from agentkit.files import write_durably
from mn.fleet.agents import KVM_AGENT, AgentKind
from mn.fleet.ca import CertificateAuthority
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report, Simulated, Target, silent
from mn.fleet.local import already_running, spawn, until_running
from mn.fleet.processes import running_port
from mn.fleet.survey import HostSurvey

HOSTS, CONTROL = "hosts", "control"
ANSWER_TIMEOUT_S = 60.0
FAILURE_KEPT_S = 5.0
"""After a start that failed, so long nobody tries again: thousands of links ask at the same time."""


class SimulatorDeployer:
    """Simulated hosts have folders below `directory`/hosts, named by uuid: what they are, certificate, state.

    The simulator process is started when a host needs it; it serves what has a folder, also after it was
    killed. It outlives this process; its lock file says whether it runs, as a local agent's does.
    """

    def __init__(self, directory: Path, ca: CertificateAuthority) -> None:
        self._directory = directory
        self._ca = ca
        self._simulator = _Simulator(directory, ca)

    def serves(self, target: Target) -> bool:
        """Say whether the host is, or is to be, simulated."""
        if target.agent is not KVM_AGENT:
            return False
        return target.simulated is not None or self._home(target).is_dir()

    async def survey(self, target: Target) -> HostSurvey | None:
        """Nothing has to be asked: what it will be was recorded."""
        return None

    def wanted_version(self, agent: AgentKind) -> str:
        """Return this installation's version: the simulator runs from it."""
        return metadata.version("hardpoint")

    async def deploy(self, target: Target, report: Report = silent) -> Endpoint:
        """Make the host's folder unless it is there, have it served, return where it listens."""
        if target.simulated is not None:
            await asyncio.to_thread(self._prepare, target, target.simulated)
        port = await self._simulator.port()
        await self._simulator.ask("serve", target.host_uuid)
        return Endpoint(target.host_uuid, target.address, port)

    async def undeploy(self, target: Target) -> None:
        """Have the host served no more and remove its folder."""
        if await asyncio.to_thread(running_port, self._directory) is not None:
            await self._simulator.ask("drop", target.host_uuid)
        await asyncio.to_thread(shutil.rmtree, self._home(target), ignore_errors=True)

    async def revive(self, target: Target) -> Endpoint:
        """Start the simulator when it has died; a host that only plays dead is left alone."""
        return Endpoint(target.host_uuid, target.address, await self._simulator.port())

    def _home(self, target: Target) -> Path:
        return self._directory / HOSTS / target.host_uuid

    def _prepare(self, target: Target, wanted: Simulated) -> None:
        home = self._home(target)
        if (home / "host.json").exists():
            return
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate, key = self._ca.issue_server(target.host_uuid, target.address)
        write_durably(home / "agent.pem", certificate + key)
        description: dict[str, Any] = {
            "address": target.address,
            "machine": wanted.machine,
            "memoryBytes": wanted.memory_bytes,
            "cpus": wanted.cpus,
        }
        given = {key: value for key, value in description.items() if value is not None}
        write_durably(home / "host.json", msgspec.json.encode(given))


class _Simulator:
    """The simulator process: started once however many ask, spoken to over one kept connection."""

    def __init__(self, directory: Path, ca: CertificateAuthority) -> None:
        self._directory = directory
        self._ca = ca
        self._turn = asyncio.Lock()
        self._port: int | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._failure: tuple[float, HardpointError] | None = None

    async def port(self) -> int:
        """Return the port of all simulated hosts; starts the process when it does not run."""
        async with self._turn:
            return await self._connected()

    async def ask(self, order: str, host_uuid: str) -> None:
        """Have the simulator do something with a host. Raises its HardpointError."""
        async with self._turn:
            await self._connected()
            assert self._reader  # noqa: S101 connected
            assert self._writer  # noqa: S101
            try:
                self._writer.write(msgspec.json.encode({"do": order, "host": host_uuid}) + b"\n")
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    line = await self._reader.readline()
                answer = msgspec.json.decode(line, type=dict[str, Any])
            except BaseException:  # an answer that comes late must not be taken for the next one's
                self._hang_up()
                raise
        if "error" in answer:
            raise HardpointError.from_body(msgspec.convert(answer["error"], ErrorBody))

    async def _connected(self) -> int:
        if self._port is not None and self._reader is not None and not self._reader.at_eof():
            return self._port
        self._hang_up()
        if self._failure is not None and time.monotonic() - self._failure[0] < FAILURE_KEPT_S:
            raise self._failure[1]
        try:
            port = await self._running()
            with _short(self._directory) as directory:
                self._reader, self._writer = await asyncio.open_unix_connection(f"{directory}/{CONTROL}")
        except (OSError, HardpointError) as error:
            failure = error if isinstance(error, HardpointError) else _unable(self._directory, error)
            self._failure = (time.monotonic(), failure)
            raise failure from error
        self._port = port
        return port

    async def _running(self) -> int:
        port = await already_running(self._directory, self._directory)
        if port is not None:
            return port
        await asyncio.to_thread(self._prepare)
        state = str(self._directory)
        process = await asyncio.to_thread(spawn, self._directory, "simulator", "serve", "--state", state)
        return await until_running(self._directory, process)

    def _prepare(self) -> None:
        (self._directory / HOSTS).mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._directory / "ca.pem", self._ca.ca_path.read_bytes())

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._port = self._reader = self._writer = None


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Give a short name of a folder: that of a socket may have 108 bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _unable(directory: Path, error: OSError) -> HardpointError:
    return HardpointError(
        "HOST.1003",
        "Connection error",
        f"the simulator of this node does not answer: {error}",
        remedy=f"see {directory / 'agent.log'}",
    )
