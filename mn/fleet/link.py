"""The link to one host: follows its events, says when it is lost and found, keeps its inventory true."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator
from typing import Any, Protocol, cast

import msgspec

from agentkit.errors import HardpointError
from agentkit.wire import Event, EventKind, Hello
from kvmagent.protocol_iscsi import IscsiEvent
from kvmagent.protocol_storage import StorageEvent
from kvmagent.protocol_vms import VmEvent
from mn.db.schema import new_uuid
from mn.fleet.agents import AGENTS
from mn.fleet.client import AgentClient, Endpoint, Revive
from mn.fleet.protocol import check_protocol

log = logging.getLogger(__name__)

RECONNECT_FIRST_S, RECONNECT_MOST_S = 0.2, 5.0
"""Pauses between two attempts at a host, each drawn from half to one and a half times of it."""
ATTEMPTS, HOPEFUL_HANDSHAKES, VAIN_HANDSHAKES, INVENTORIES = 128, 64, 32, 64


class Lane:
    """Hosts that are dialled at once, and those of them that shake hands.

    The others have connected and wait for their turn; agents give them ten seconds.
    """

    def __init__(self, handshakes: int) -> None:
        self.attempts = asyncio.Semaphore(ATTEMPTS)
        self.handshakes = asyncio.Semaphore(handshakes)


class Pacing:
    """What the links of a fleet share, so that a node that starts with all its hosts makes no storm.

    A TLS handshake takes a millisecond or more of both sides: so few are under way at once that none runs out
    of time, however busy the machine, and those that wait for their turn have all the time there is. Hosts
    that did not answer the last time have turns of their own: what answers never waits for what does not.
    """

    def __init__(self) -> None:
        self.hopeful = Lane(HOPEFUL_HANDSHAKES)
        self.vain = Lane(VAIN_HANDSHAKES)
        self.inventory = asyncio.Semaphore(INVENTORIES)


class Observer(Protocol):
    """Who is told what a link sees. Calls for one host come one after the other."""

    async def connected(self, host_uuid: str) -> None:
        """The host answers and its inventory is known."""

    async def lost(self, host_uuid: str, reason: HardpointError) -> None:
        """The host does not answer."""

    async def inventory(self, host_uuid: str, inventory: Any) -> None:
        """The host's inventory, whole, as its kind of agent reports it."""

    async def device(self, host_uuid: str, event: Any, before: str) -> bool:
        """One device of the inventory with the hash `before` has come, gone or changed.

        False asks for the whole inventory instead.
        """

    async def vm(self, host_uuid: str, event: VmEvent) -> None:
        """Something happened to a VM."""

    async def storage(self, host_uuid: str, event: StorageEvent) -> None:
        """A storage answers on the host again, or no longer."""

    async def iscsi(self, host_uuid: str, event: IscsiEvent) -> None:
        """A session or a path to a LUN has come, gone or changed."""

    async def moved(self, host_uuid: str, endpoint: Endpoint) -> None:
        """The agent listens elsewhere now."""


class HostLink:
    """Follows one host until it is stopped."""

    def __init__(
        self,
        client: AgentClient,
        endpoint: Endpoint,
        inventory_hash: str,
        observer: Observer,
        revive: Revive,
        pacing: Pacing,
    ) -> None:
        self._client = client
        self._pacing = pacing
        self._kind = AGENTS[endpoint.agent]
        self._endpoint = endpoint
        self._hash = inventory_hash
        self._observer = observer
        self._revive = revive
        self._instance: str | None = None
        self._since: int | None = None
        self._connected: bool | None = None
        self.looked = asyncio.Event()
        """Set once it has been seen whether the host answers."""
        self._task: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where the agent listens."""
        return self._endpoint

    def start(self) -> None:
        """Begin to follow the host."""
        self._task = asyncio.create_task(self._follow(), name=f"link {self._endpoint.host_uuid}")

    async def stop(self) -> None:
        """Stop following; the host's status stays as it is."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        pause = RECONNECT_FIRST_S
        while True:
            try:
                await self._listen()
            except HardpointError as error:
                if self._connected:
                    pause = RECONNECT_FIRST_S
                try:
                    await self._lose(error)
                except Exception:
                    log.exception("loss not noted, tried again", extra={"host": self._endpoint.host_uuid})
            except Exception:
                log.exception("link failed unexpectedly", extra={"host": self._endpoint.host_uuid})
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 no secret
            pause = min(pause * 2, RECONNECT_MOST_S)

    async def _listen(self) -> None:
        lane = self._pacing.vain if self._connected is False else self._pacing.hopeful
        events = cast(
            "AsyncGenerator[Event, None]",
            self._client.events(self._endpoint, self._instance, self._since, lane.handshakes),
        )
        async with contextlib.aclosing(events):
            async with lane.attempts:
                first = await anext(events)
            await self._meet(msgspec.convert(first.data, Hello))
            self._instance, self._since = first.instance, first.seq
            async for event in events:
                if event.kind is EventKind.DEVICE:
                    await self._device(msgspec.convert(event.data, self._kind.event))
                elif event.kind is EventKind.VM:
                    of_vm = msgspec.convert(event.data, VmEvent)
                    await self._observer.vm(self._endpoint.host_uuid, of_vm)
                elif event.kind is EventKind.STORAGE:
                    told = msgspec.convert(event.data, StorageEvent)
                    await self._observer.storage(self._endpoint.host_uuid, told)
                elif event.kind is EventKind.ISCSI:
                    of_iscsi = msgspec.convert(event.data, IscsiEvent)
                    await self._observer.iscsi(self._endpoint.host_uuid, of_iscsi)
                self._instance, self._since = event.instance, event.seq

    async def _meet(self, hello: Hello) -> None:
        """Make sure of who answers and that the inventory is the known one."""
        self._check(hello)
        if hello.inventory_hash != self._hash:
            await self._take_inventory()
        if self._connected is not True:
            log.info("host connected", extra={"host": self._endpoint.host_uuid, "agent": str(self._endpoint)})
            await self._observer.connected(self._endpoint.host_uuid)
            self._connected = True
            self.looked.set()

    async def _device(self, event: Any) -> None:
        if await self._observer.device(self._endpoint.host_uuid, event, self._hash):
            self._hash = event.inventory_hash
        else:
            await self._take_inventory()

    async def _take_inventory(self) -> None:
        task_uuid = new_uuid()
        async with self._pacing.inventory:
            command = self._kind.take_inventory()
            reply = await self._client.call(self._endpoint, command, task_uuid, self._revive)
            await self._observer.inventory(self._endpoint.host_uuid, reply.inventory)
        self._hash = reply.inventory.hash
        await self._client.acknowledge(self._endpoint, task_uuid)

    def _check(self, hello: Hello) -> None:
        check_protocol(hello, str(self._endpoint))
        if hello.host_uuid != self._endpoint.host_uuid:
            raise HardpointError(
                "HOST.1003",
                "Connection error",
                f"the agent at {self._endpoint} is the one of host {hello.host_uuid or '(none)'}, "
                f"not of {self._endpoint.host_uuid}",
                remedy="check the host's address; delete and add the host when it has been installed anew",
            )

    async def _lose(self, error: HardpointError) -> None:
        if self._connected is not False:
            log.warning(
                "host lost",
                extra={"host": self._endpoint.host_uuid, "code": error.code, "reason": error.details},
            )
            await self._observer.lost(self._endpoint.host_uuid, error)
            self._connected = False
            self.looked.set()
        try:
            endpoint = await self._revive()
        except HardpointError as failure:
            log.warning(
                "agent cannot be started", extra={"host": self._endpoint.host_uuid, "reason": failure.details}
            )
            return
        if endpoint and endpoint != self._endpoint:
            self._endpoint = endpoint
            await self._observer.moved(endpoint.host_uuid, endpoint)
