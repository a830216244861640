"""One simulated host: the KVM agent on a recorded machine, which can die, fall silent and come back."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from agentkit.agent import Agent, Identity, new_instance
from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.gate import Gate, ProtocolFactory, RefusalLog
from agentkit.owner import Ownership
from agentkit.runner import ScriptedRunner
from agentkit.tls import ServerCredentials
from agentkit.wire import LEASE_TICK_S, EventKind
from kvmagent.door import Door
from kvmagent.handlers import HANDLERS, RERUNNABLE, Context
from kvmagent.host_iommu.keeper import IommuKeeper
from kvmagent.os_update.follower import OsUpdates
from kvmagent.passthrough.keeper import PciKeeper
from kvmagent.protocol import Inventory
from kvmagent.protocol_vms import VmEvent
from kvmagent.server import AGENT, agent_version
from kvmagent.storage.handling import StoragePlace, make_storages
from simulator.identities import Size, distinct
from simulator.iscsi import SimulatedIscsi
from simulator.machines import DEFAULT, Machines
from simulator.networks import SimulatedNetworks
from simulator.passthrough import SimulatedDrivers
from simulator.usb import SimulatedUsb
from simulator.vms import SimulatedMoves, SimulatedVms

HOST_FILE = "host.json"
_RESET = struct.pack("ii", 1, 0)


class State(StrEnum):
    """How a simulated host is."""

    UP = "up"
    DEAD = "dead"
    """Its agent was killed: connections break, new ones are refused."""
    SILENT = "silent"
    """It lost its power or its network: nothing breaks, nothing answers."""


class Wanted(msgspec.Struct, rename="camel", kw_only=True):
    """What `host.json` says of a host."""

    address: str
    machine: str = DEFAULT
    memory_bytes: int | None = None
    cpus: int | None = None


@dataclass(frozen=True)
class Shared:
    """What all hosts of a process have in common."""

    machines: Machines
    ca: Path
    threads: Executor
    refusals: RefusalLog
    factory: ProtocolFactory


class RecordedStock:
    """The stock of a machine that never changes. Made anew when asked for: only its hash is kept."""

    def __init__(self, machines: Machines, wanted: Wanted, host_uuid: str) -> None:
        self._machines = machines
        self._wanted = wanted
        self._uuid = host_uuid
        self._hash: str | None = None

    async def take(self) -> Inventory:
        """Return the inventory."""
        size = Size(self._wanted.memory_bytes, self._wanted.cpus)
        inventory = distinct(self._machines.inventory(self._wanted.machine), self._uuid, size)
        self._hash = inventory.hash
        return inventory

    async def take_devices(self) -> Inventory:
        """Return the inventory."""
        return await self.take()

    async def hash(self) -> str:
        """Return the inventory's hash."""
        return self._hash or (await self.take()).hash


class _SimulatedHub(EventHub):
    """An event hub that can be cut off."""

    def __init__(self, instance: str, audible: asyncio.Event) -> None:
        super().__init__(instance)
        self._audible = audible

    async def subscribe(
        self, instance: str | None, since: int, *, tick_s: float = LEASE_TICK_S, greeting: Any = None
    ) -> AsyncIterator[bytes]:
        """See EventHub; what is said while nobody hears it comes late."""
        async for line in super().subscribe(instance, since, tick_s=tick_s, greeting=greeting):
            await self._audible.wait()
            yield line


class SimulatedHost:
    """The host whose folder is `home`, named by its uuid: `host.json`, certificate and agent's state."""

    def __init__(self, home: Path, shared: Shared) -> None:
        """Read the folder. Raises HardpointError when it is not that of a host or its machine is unknown."""
        self.uuid = home.name
        self._home = home
        self._shared = shared
        self._wanted = _read(home)
        shared.machines.inventory(self._wanted.machine)
        self.state = State.UP
        self._audible = asyncio.Event()
        self._audible.set()
        self._stock = RecordedStock(shared.machines, self._wanted, self.uuid)
        self._unheard: list[socket.socket] = []
        self._life: _Life | None = None

    @property
    def address(self) -> str:
        """The loopback address that is the host's."""
        return self._wanted.address

    @property
    def connections(self) -> int:
        """How many connections there are to it."""
        return self._life.gate.connections if self._life else 0

    def take(self, connection: socket.socket, peer: str) -> None:
        """Let a caller in, as the host's state allows."""
        if self.state is State.DEAD:
            refuse(connection)
        elif self.state is State.SILENT:
            self._unheard.append(connection)
        else:
            self._alive().gate.take(connection, peer)

    async def agent(self) -> Agent[Context]:
        """Return the agent once it has read its journal; waits while the host is silent."""
        life = self._alive()
        async with life.opening:
            if not life.open:
                await life.agent.open()
                life.open = True
        await self._audible.wait()
        return life.agent

    async def prune(self) -> None:
        """Remove results that nobody fetched."""
        if self._life is not None and self._life.open:
            await self._life.agent.desk.prune_once()

    async def die(self) -> None:
        """Be as if the agent's process had been killed."""
        self.state = State.DEAD
        self._audible.set()
        await self.end(0)

    def fall_silent(self) -> None:
        """Be as if the power had been cut: no connection is told of it."""
        self.state = State.SILENT
        self._audible.clear()

    def come_back(self) -> None:
        """Be up again."""
        self.state = State.UP
        self._audible.set()
        for connection in self._unheard:
            refuse(connection)
        self._unheard.clear()

    async def end(self, limit_s: float) -> None:
        """End the agent; tasks have `limit_s` to end, what is left stays in the journal."""
        life, self._life = self._life, None
        if life is None:
            return
        await life.agent.wind_down(limit_s)
        await life.gate.close()
        life.gate.abort()

    def _alive(self) -> _Life:
        if self._life is None:
            self._life = self._rise()
        return self._life

    def _rise(self) -> _Life:
        certificate = self._home / "agent.pem"
        credentials = ServerCredentials(certificate, certificate, self._shared.ca)
        ownership = Ownership(self._home)
        hub = _SimulatedHub(new_instance(), self._audible)
        identity = Identity(AGENT, agent_version(), lambda: ownership.host_uuid, self._stock.hash)
        agent = Agent(
            self._home,
            identity,
            hub,
            self._context(ownership, credentials, hub),
            HANDLERS,
            rerunnable=RERUNNABLE,
            threads=self._shared.threads,
        )
        gate = Gate(self._shared.factory, credentials.context(), refusals=self._shared.refusals)
        return _Life(agent, gate)

    def _context(self, ownership: Ownership, credentials: ServerCredentials, hub: EventHub) -> Context:
        """Return what the handlers work with: no command runs, nothing outside its folder is written."""
        root, runner = self._home / "root", ScriptedRunner({})
        iommu, os_updates = IommuKeeper(root, self._home, runner), OsUpdates(root, self._home, runner)
        vms = SimulatedVms(self._home, lambda uuid: hub.publish(EventKind.VM, VmEvent(uuid=uuid)))
        door = Door(self._home, credentials, self.address, 0)
        place = StoragePlace(self._home, self._shared.ca, root)
        storages = make_storages(place, runner, door, hub, lambda: self.uuid, list)
        networks = SimulatedNetworks()
        drivers = SimulatedDrivers()
        pci = PciKeeper(self._home, drivers, self._stock.take, drivers.read, vms.get)
        return Context(
            ownership=ownership,
            credentials=credentials,
            stock=self._stock,
            iommu=iommu,
            os_updates=os_updates,
            storages=storages,
            vms=vms,
            moves=SimulatedMoves(vms),
            networks=networks,
            pci=pci,
            usb=SimulatedUsb(vms, self._stock),
            iscsi=SimulatedIscsi(self._home),
        )


class _Life:
    """What a host has from one start of its agent to its end."""

    def __init__(self, agent: Agent[Context], gate: Gate) -> None:
        self.agent = agent
        self.gate = gate
        self.opening = asyncio.Lock()
        self.open = False


def refuse(connection: socket.socket) -> None:
    """Break a connection off, as a machine does on whose port nobody listens."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def _read(home: Path) -> Wanted:
    path = home / HOST_FILE
    try:
        return msgspec.convert(json.loads(path.read_bytes()), Wanted)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise HardpointError(
            "SYS.1000",
            "Internal error",
            f"{path} does not describe a simulated host: {error}",
            remedy="delete the host through the API and add it again",
        ) from error
