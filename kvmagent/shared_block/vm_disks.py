"""Disks of VMs that a host has to do something for: logical volumes, and RBD images, which need a key.

Volumes are active alone where a VM runs, shared while it moves, given back after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from agentkit.errors import HardpointError
from kvmagent.protocol_vms import VmDisk
from kvmagent.shared_block.backend import Joined, SharedBlockBackend
from kvmagent.shared_block.names import full_size, lv_name, next_size

log = logging.getLogger(__name__)

GROW_EVERY_S = 2.0
Written = Callable[[str], Awaitable[dict[str, tuple[int, int]]]]
"""Says of VMs' disks below a folder of /dev how many bytes are written, and how large the VM sees them."""

Revive = Callable[[str, set[str]], Awaitable[list[str]]]
"""Has VMs go on that wait as a disk below a folder of /dev was full, given those with room; returns them."""


GiveKeys = Callable[[Sequence[VmDisk]], Awaitable[None]]
"""Has libvirt know the keys of those disks that are RBD images."""


async def no_keys(_disks: Sequence[VmDisk]) -> None:
    """Stand for a host without VMs."""


async def nothing_written(_folder: str) -> dict[str, tuple[int, int]]:
    """Stand for a host without VMs."""
    return {}


async def none_revived(_folder: str, _devices: set[str]) -> list[str]:
    """Stand for a host without VMs, too."""
    return []


@dataclass
class _Admission:
    disks: list[VmDisk]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    arrived: bool = False


class VmDisks:
    """Sees to the disks of this host's VMs, as far as they are on shared-block or Ceph storages."""

    def __init__(self, backend: SharedBlockBackend) -> None:
        self._backend = backend
        self._admitted: dict[str, _Admission] = {}
        self.written: Written = nothing_written
        self.revive: Revive = none_revived
        self.give_keys: GiveKeys = no_keys

    def _of(self, disk: VmDisk) -> tuple[Joined, str] | None:
        if disk.storage_uuid is None or disk.name is None:
            return None
        return self._backend.joined(disk.storage_uuid), lv_name(disk.storage_uuid, disk.name)

    @asynccontextmanager
    async def starting(self, disks: Sequence[VmDisk], *, shared: bool = False) -> AsyncIterator[None]:
        """Have disks active, with what they stand on, while a VM opens them.

        What it has not is given back.
        """
        await self.give_keys(disks)
        async with AsyncExitStack() as stack:
            for disk in disks:
                place = self._of(disk)
                if place is not None:
                    joined, lv = place
                    await stack.enter_async_context(joined.images.activations.held([lv], shared=shared))
                    for below in await joined.images.chain(lv):
                        held = joined.images.activations.held([below], shared=True)
                        await stack.enter_async_context(held)
            yield

    async def tidy(self) -> None:
        """Give back what VMs have left."""
        for joined in self._backend.all_joined():
            try:
                await joined.images.activations.tidy()
            except HardpointError as error:
                extra = {"storage": joined.group.uuid, "reason": error.details}
                log.warning("logical volumes not given back", extra=extra)

    async def admit(self, admission_uuid: str, disks: list[VmDisk]) -> None:
        """Expect a VM from another host, which has its disks alone until it sends the VM."""
        await self.give_keys(disks)
        if any(map(self._of, disks)):
            self._admitted.setdefault(admission_uuid, _Admission(disks))

    async def arrive(self, admission_uuid: str) -> None:
        """Have the disks of a VM that comes now, as shared ones; done already, or none: nothing.

        Raises HardpointError (SYS.1006) when the host that it comes from has them alone.
        """
        admission = self._admitted.get(admission_uuid)
        if admission is None:
            return
        async with admission.turn:
            if not admission.arrived:
                await admission.stack.enter_async_context(self.starting(admission.disks, shared=True))
                admission.arrived = True

    async def dismiss(self, admission_uuid: str) -> None:
        """Have the disks of a VM that has come alone, or not at all when it has not."""
        admission = self._admitted.pop(admission_uuid, None)
        if admission is None:
            return
        async with admission.turn:
            await admission.stack.aclose()
        if admission.arrived:
            await self._set_mode(admission.disks, shared=False)

    @asynccontextmanager
    async def leaving(self, disks: Sequence[VmDisk]) -> AsyncIterator[None]:
        """Let another host have the disks of a VM that goes there; what is still open after it stays here."""
        await self._set_mode(disks, shared=True)
        try:
            yield
        finally:
            await self.tidy()
            await self._set_mode(disks, shared=False)

    async def _set_mode(self, disks: Sequence[VmDisk], *, shared: bool) -> None:
        for disk in disks:
            place = self._of(disk)
            if place is not None:
                joined, lv = place
                await joined.images.activations.set_mode([lv], shared=shared)

    async def run(self) -> None:
        """Extend thin volumes before what is written to them reaches their end."""
        while True:
            await asyncio.sleep(GROW_EVERY_S)
            for joined in self._backend.all_joined():
                if joined.group.wanted.thin:
                    try:
                        await self.grow(joined)
                    except HardpointError as error:
                        extra = {"storage": joined.group.uuid, "reason": error.details}
                        log.warning("thin volumes not extended", extra=extra)

    async def grow(self, joined: Joined) -> None:
        """Extend those volumes of a group that are nearly full; who had to wait for one goes on."""
        folder = joined.images.folder
        written = await self.written(folder)
        if not written:
            return
        sizes = {volume.lv: volume.size for volume in await joined.group.volumes()}
        roomy = set()
        for path, (used, size) in written.items():
            lv = path.removeprefix(f"{folder}/")
            if lv not in sizes:
                continue
            step, full = joined.group.wanted.step_bytes, full_size(size, "qcow2")
            larger = next_size(sizes[lv], used, full, step)
            if larger is not None:
                await joined.images.extend_to(lv, larger)
                log.info("thin volume extended", extra={"volume": lv, "size": larger})
            if (larger or sizes[lv]) > used:
                roomy.add(path)
        for vm in await self.revive(folder, roomy):
            log.warning("a VM went on that a full thin volume had stopped", extra={"vm": vm})
