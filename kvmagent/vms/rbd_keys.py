"""The keys that VMs' disks on Ceph are opened with: secrets of libvirt, kept by it in memory only."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Awaitable, Callable, Sequence

from agentkit.errors import HardpointError
from kvmagent.protocol_vms import VmDisk
from kvmagent.vms.domain_xml import dashed, secret_xml
from kvmagent.vms.library import NO_SECRET, LibvirtError, Session
from kvmagent.vms.libvirt import Libvirt

KeyOf = Callable[[str, str], Awaitable[str]]
"""Returns the key that this host has of a storage as a client, as `ceph auth get-key` has it."""


class RbdKeys:
    """Gives libvirt the keys that this host has; each is called by its storage's uuid."""

    def __init__(self, libvirt: Libvirt, key_of: KeyOf) -> None:
        self._libvirt = libvirt
        self._key_of = key_of

    async def give(self, disks: Sequence[VmDisk]) -> None:
        """Have libvirt know the keys of disks: it forgets them when it is restarted.

        Raises HardpointError (SYS.1006).
        """
        clients = {disk.rbd.storage_uuid: disk.rbd.user for disk in disks if disk.rbd is not None}
        for uuid, user in sorted(clients.items()):
            key = _decoded(uuid, await self._key_of(uuid, user))
            set_secret = functools.partial(_set, secret_xml(uuid), key)
            try:
                await self._libvirt.call(set_secret)
            except LibvirtError as error:
                raise _failed(f"libvirt does not take the key of the storage {uuid}", error) from error

    async def forget(self, storage_uuid: str) -> None:
        """Have libvirt not know a key; VMs that run go on. Raises HardpointError (SYS.1006)."""
        try:
            await self._libvirt.call(lambda session: session.forget_secret(dashed(storage_uuid)))
        except LibvirtError as error:
            if error.code != NO_SECRET:
                raise _failed(f"libvirt keeps the key of the storage {storage_uuid}", error) from error


def _set(xml: str, key: bytes, session: Session) -> None:
    session.set_secret(xml, key)


def _decoded(storage_uuid: str, key: str) -> bytes:
    try:
        return base64.b64decode(key, validate=True)
    except binascii.Error as error:
        details = f"the key of the storage {storage_uuid} is none of Ceph's"
        raise HardpointError(
            "SYS.1006", "Operation failed", details, remedy="reconnect the storage"
        ) from error


def _failed(what: str, error: LibvirtError) -> HardpointError:
    remedy = "see the log of libvirt on the host (journalctl -u libvirtd)"
    return HardpointError("SYS.1006", "Operation failed", f"{what}: {error}", remedy=remedy)
