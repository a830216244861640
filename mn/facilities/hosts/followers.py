"""What happens when a host is connected, is lost or tells of what it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agentkit.errors import HardpointError
from kvmagent.protocol_iscsi import IscsiEvent
from kvmagent.protocol_storage import StorageEvent
from kvmagent.protocol_vms import VmEvent
from mn.rest.services import Services

log = logging.getLogger(__name__)

Follow = Callable[[Services, str], Awaitable[None]]
StorageTold = Callable[[Services, str, StorageEvent], Awaitable[None]]
IscsiTold = Callable[[Services, str, IscsiEvent], Awaitable[None]]
VmTold = Callable[[Services, str, VmEvent], Awaitable[None]]

_connected: list[Follow] = []
_connected_beside: list[Follow] = []
_lost: list[Follow] = []
_storage_told: list[StorageTold] = []
_iscsi_told: list[IscsiTold] = []
_vm_told: list[VmTold] = []


def when_connected(follow: Follow, *, beside: bool = False) -> None:
    """Have `follow` run with the uuid of each host that is connected, or found again.

    Those run one after the other; with `beside` it runs beside them, as long as it likes.
    """
    (_connected_beside if beside else _connected).append(follow)


def when_lost(follow: Follow) -> None:
    """Have `follow` run with the uuid of each host that is lost."""
    _lost.append(follow)


def when_storage_told(follow: StorageTold) -> None:
    """Have `follow` run with each event of a host's storages."""
    _storage_told.append(follow)


def when_iscsi_told(follow: IscsiTold) -> None:
    """Have `follow` run with each event of a host's iSCSI sessions."""
    _iscsi_told.append(follow)


def when_vm_told(follow: VmTold) -> None:
    """Have `follow` run with each event of a host's VMs."""
    _vm_told.append(follow)


class Followers:
    """Runs them beside the links: what takes long with one host holds up no other."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: set[asyncio.Task[None]] = set()

    def connected(self, host_uuid: str) -> None:
        """Begin to do what is to be done with a host that is connected."""
        for follows in ([follow] for follow in _connected_beside):
            self._begin(follows, host_uuid, "connected")
        self._begin(_connected, host_uuid, "connected")

    async def lost(self, host_uuid: str) -> None:
        """Do what is to be done when a host is lost."""
        await self._follow(_lost, host_uuid)

    async def storage(self, host_uuid: str, event: StorageEvent) -> None:
        """Pass on what a host says of its storages."""
        for follow in _storage_told:
            await follow(self._services, host_uuid, event)

    async def iscsi(self, host_uuid: str, event: IscsiEvent) -> None:
        """Pass on what a host says of its iSCSI sessions."""
        for follow in _iscsi_told:
            await follow(self._services, host_uuid, event)

    def vm(self, host_uuid: str, event: VmEvent) -> None:
        """Begin to look at what a host says of its VMs."""

        def told(follow: VmTold) -> Follow:
            return lambda services, uuid: follow(services, uuid, event)

        self._begin([told(follow) for follow in _vm_told], host_uuid, "vm")

    async def stop(self) -> None:
        """Leave what is not done for the next time that the host is connected."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, follows: list[Follow], host_uuid: str, what: str) -> None:
        task = asyncio.create_task(self._follow(follows, host_uuid), name=f"{what} {host_uuid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, follows: list[Follow], host_uuid: str) -> None:
        for follow in follows:
            try:
                await follow(self._services, host_uuid)
            except HardpointError as error:
                extra = {"host": host_uuid, "code": error.code, "reason": error.details}
                log.warning("not all was done that a host's news ask for", extra=extra)
            except Exception:
                log.exception("news of a host were not looked after", extra={"host": host_uuid})
