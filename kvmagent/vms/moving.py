"""Moving running VMs between hosts: libvirt's own migration, tunnelled from agent to agent (ADR 13)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from agentkit.errors import HardpointError
from agentkit.lean import web
from kvmagent.door import Door, digest_of, shows
from kvmagent.protocol_vms import AdmitVmReply, MigrateVm, VmSeen
from kvmagent.vms.domain_xml import Machine, dashed, moved
from kvmagent.vms.keeper import LibvirtVms
from kvmagent.vms.library import (
    INVALID_OPERATION,
    MIGRATE_AUTO_CONVERGE,
    MIGRATE_BY_DAEMONS,
    MIGRATE_LIVE,
    MIGRATE_NOT_AFTER_IO_ERROR,
    MIGRATE_TUNNELLED,
    MIGRATE_UNSAFE,
    NO_DOMAIN,
    LibvirtError,
)
from kvmagent.vms.libvirt import Libvirt
from kvmagent.vms.tunnel import HEARTBEAT_S, carry, refusal, tunnel

log = logging.getLogger(__name__)

PATH = "/v1/vms/{uuid}"
SOCKETS = (Path("/run/libvirt/virtqemud-sock"), Path("/run/libvirt/libvirt-sock"))
FLAGS = (
    MIGRATE_LIVE
    | MIGRATE_BY_DAEMONS
    | MIGRATE_TUNNELLED
    | MIGRATE_NOT_AFTER_IO_ERROR
    # libvirt knows a few file systems as shared ones and refuses all others. Whoever sends the command has
    # seen that both hosts have the same storage, and disks are opened past the hosts' caches.
    | MIGRATE_UNSAFE
)


Arrive = Callable[[str], Awaitable[None]]
"""Has what a VM needs here that comes by an admission, when it does come. Raises HardpointError."""


async def nothing_needed(_admission_uuid: str) -> None:
    """Stand for a host whose VMs need nothing."""


class Moves(Protocol):
    """What a host can do to have VMs come and go while they run."""

    async def admit(self, admission_uuid: str, token: str) -> AdmitVmReply:
        """Let an agent with a token bring a VM."""

    async def dismiss(self, admission_uuid: str) -> None:
        """End an admission."""

    async def send(self, command: MigrateVm) -> VmSeen | None:
        """Move a VM away; returns it when it is here all the same."""

    async def abort(self, uuid: str) -> None:
        """Keep a VM that is on its way."""


class LibvirtMoves:
    """VMs of libvirt. Admissions last as long as the agent: one that was restarted has broken the tunnel."""

    def __init__(
        self, libvirt: Libvirt, vms: LibvirtVms, machine: Callable[[], Machine], door: Door, ca: Path
    ) -> None:
        self._libvirt = libvirt
        self._vms = vms
        self._machine = machine
        self._door = door
        self._ca = ca
        self._admitted: dict[str, str] = {}
        self._coming: dict[str, set[asyncio.Task[None]]] = {}
        self.arrive: Arrive = nothing_needed
        door.serve(PATH, self._serve)

    async def admit(self, admission_uuid: str, token: str) -> AdmitVmReply:
        """Open the door for one VM."""
        port = await self._door.open()
        self._admitted[admission_uuid] = digest_of(token)
        path = PATH.format(uuid=admission_uuid)
        return AdmitVmReply(port=port, path=path, console_address=self._machine().console_address)

    async def dismiss(self, admission_uuid: str) -> None:
        """Close it, also behind one that is coming in."""
        self._admitted.pop(admission_uuid, None)
        coming = self._coming.pop(admission_uuid, set())
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        uuid = request.match_info["uuid"]
        if uuid not in self._admitted or not shows(request, self._admitted[uuid]):
            raise web.HTTPNotFound
        try:
            await self.arrive(uuid)
        except HardpointError as error:
            log.warning("VM not let in", extra={"admission": uuid, "reason": error.details})
            raise web.HTTPServiceUnavailable(headers=refusal(error.details)) from error
        socket = _socket_of(self._libvirt.uri)
        try:
            reader, writer = await asyncio.open_unix_connection(socket)
        except OSError as error:
            log.warning("libvirt not reached", extra={"socket": str(socket), "reason": str(error)})
            raise web.HTTPServiceUnavailable(reason=f"libvirt cannot be reached: {error.strerror}") from error
        response = web.WebSocketResponse(heartbeat=HEARTBEAT_S, compress=False, max_msg_size=0)
        await response.prepare(request)
        carrying = asyncio.ensure_future(carry(response, reader, writer))
        coming = self._coming.setdefault(uuid, set())
        coming.add(carrying)
        try:
            await asyncio.wait([carrying])
        finally:
            carrying.cancel()
            coming.discard(carrying)
        return response

    async def send(self, command: MigrateVm) -> VmSeen | None:
        """Move a VM to where it is admitted; one that is not here has been moved already.

        Raises HardpointError (SYS.1006) with what libvirt says; then the VM runs on here.
        """
        if await self._vms.get(command.uuid) is None:
            return None
        flags = FLAGS | (MIGRATE_AUTO_CONVERGE if command.auto_converge else 0)
        name, there = dashed(command.uuid), command.console_address
        users = {disk.rbd.storage_uuid: disk.rbd.user for disk in command.disks if disk.rbd is not None}
        async with tunnel(command.url, command.token, self._ca) as way:
            uri = f"qemu+unix:///system?socket={way.socket}"
            try:
                await self._libvirt.call(
                    lambda session: session.migrate(
                        name, uri, lambda xml: moved(xml, there, users), flags, command.downtime_ms
                    ),
                    limit_s=None,
                )
            except LibvirtError as error:
                if await self._vms.get(command.uuid) is not None:
                    reason = f"{error}" if way.failure is None else f"{error} (the tunnel: {way.failure})"
                    raise _not_moved(command.uuid, reason) from error
        return await self._vms.get(command.uuid)

    async def abort(self, uuid: str) -> None:
        """Have libvirt give a migration up. Raises HardpointError (SYS.1006) with what it says."""
        try:
            await self._libvirt.call(lambda session: session.abort_migration(dashed(uuid)))
        except LibvirtError as error:
            if error.code not in (NO_DOMAIN, INVALID_OPERATION):
                raise _not_moved(uuid, f"its migration was not given up: {error}") from error


def _socket_of(uri: str) -> Path:
    """Return the unix socket of a libvirt on this host."""
    named = parse_qs(urlsplit(uri).query).get("socket")
    if named:
        return Path(named[0])
    return next((path for path in SOCKETS if path.exists()), SOCKETS[-1])


def _not_moved(uuid: str, reason: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"VM {uuid} was not moved to another host: {reason}",
        remedy="see the log of libvirt on both hosts; the VM runs on where it is",
    )
