"""Shared-block storages as a backend: volume groups that are made, joined, watched, left and brought back."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.runner import CommandError, last_lines
from kvmagent.protocol_shared_block import (
    GroupStanding,
    RecoveryReply,
    RecoveryStep,
    SharedBlockGroup,
    SharedDisk,
)
from kvmagent.protocol_storage import (
    Capacity,
    ExtendGroup,
    InitStorage,
    RecoverGroup,
    RefreshLuns,
    StorageEvent,
    StorageReply,
    StorageSpec,
)
from kvmagent.shared_block.activations import Activations
from kvmagent.shared_block.candidates import (
    LSBLK,
    WIPEFS,
    Surroundings,
    contents,
    readable_disks,
    shared_disks,
)
from kvmagent.shared_block.daemons import Daemons
from kvmagent.shared_block.group import EXCLUSIVE, LIMIT_S, SHARED, STATUS_LIMIT_S, HostPlaces, VolumeGroup
from kvmagent.shared_block.images import LvImages
from kvmagent.shared_block.names import MARK
from kvmagent.shared_block.reports import groups, lockspace_of, physical_volumes
from kvmagent.shared_block.standing import REMEDIES, is_usable, recovery
from kvmagent.storage.backend import Backend, UnusableError
from kvmagent.storage.children import Children, refused

log = logging.getLogger(__name__)

CAPACITY_EVERY_S = 30.0
JOIN_TRIES, JOIN_PAUSE_S = 3, 2.0
TIDY_EVERY_S = 30.0
INSPECTION = "inspection"
_INSPECTION_CONF = (
    "devices {\n  use_devicesfile = 0\n  scan_lvs = 0\n}\nbackup {\n  backup = 0\n  archive = 0\n}\n"
)

_ALL_GROUPS = ("--shared", "--foreign")
"""Groups that other hosts share or own: LVM shows the disks of those as if they held no group at all."""

_READ_AT_ONCE = 8

Fence = Callable[[str], Awaitable[list[str]]]
"""Takes the power of the VMs that have disks below a folder of /dev; returns their uuids."""


async def fence_nobody(_folder: str) -> list[str]:
    """Stand for a host without VMs."""
    return []


class Joined:
    """A group that this host has, or is to have."""

    def __init__(self, group: VolumeGroup, images: LvImages) -> None:
        self.group = group
        self.images = images
        self.capacity: Capacity | None = None
        self.capacity_at = 0.0
        self.tidied_at = 0.0
        self._chores: asyncio.Task[None] | None = None

    def begin_chores(self) -> None:
        """Read the capacity, and give back volumes that nobody uses, when that is due; nobody waits for it.

        LVM waits for locks that other hosts have: how long that takes does not say whether a group lives.
        """
        if self._chores is None or self._chores.done():
            self._chores = asyncio.create_task(self._do_chores(), name=f"chores of {self.group.uuid}")

    async def end_chores(self) -> None:
        """Have that end."""
        if self._chores is not None:
            self._chores.cancel()
            await asyncio.gather(self._chores, return_exceptions=True)

    async def _do_chores(self) -> None:
        now = time.monotonic()
        try:
            if now - self.capacity_at > CAPACITY_EVERY_S:
                self.capacity, self.capacity_at = await self.images.capacity(), now
            if now - self.tidied_at > TIDY_EVERY_S:
                self.tidied_at = now
                await self.images.activations.tidy()
        except HardpointError as error:
            extra = {"storage": self.group.uuid, "reason": error.details}
            log.warning("group not tidied", extra=extra)
        except Exception:
            log.exception("group not tidied", extra={"storage": self.group.uuid})


class SharedBlockBackend(Backend):
    """The volume groups of this host; `tell` publishes what happened to one."""

    is_local = False
    probe_deadline_s = 30.0
    """Daemons are asked, and a lease lives longer: its end is what says that the LUNs are gone."""

    def __init__(
        self, children: Children, places: HostPlaces, tell: Callable[[StorageEvent], object]
    ) -> None:
        self._children = children
        self._places = places
        self._tell = tell
        self._daemons = Daemons(children, places.units)
        self._joined: dict[str, Joined] = {}
        self._making = asyncio.Lock()
        self.fence: Fence = fence_nobody

    def joined(self, uuid: str) -> Joined:
        """Return a group of this host. Raises HardpointError (SYS.1006) when it has no such one."""
        found = self._joined.get(uuid)
        if found is None:
            raise refused(f"the storage {uuid} is not initialised on this host", "reconnect the storage")
        return found

    def stir(self) -> None:
        """Look soon for what nobody uses any more: VMs have changed."""
        for joined in self._joined.values():
            joined.tidied_at = 0.0

    def all_joined(self) -> list[Joined]:
        """Return the groups of this host."""
        return list(self._joined.values())

    def _ensure(self, spec: StorageSpec) -> Joined:
        wanted = _wanted(spec)
        found = self._joined.get(spec.uuid)
        if found is None:
            group = VolumeGroup(spec.uuid, wanted, self._children, self._places)
            images = LvImages(group, Activations(group), self._children, self._places.dev)
            found = self._joined[spec.uuid] = Joined(group, images)
        found.group.wanted = wanted
        return found

    async def open(self, command: InitStorage, *, known: bool) -> tuple[LvImages, Capacity]:
        """Make the group where it has never been, join it, and give back what a former agent has left."""
        spec = command.storage
        joined = self._ensure(spec)
        try:
            devices = await joined.group.configure()
            await self._daemons.ensure(joined.group.wanted)
            async with self._making:  # LVM takes the host's turn to make groups by itself, and fails at once
                if await joined.group.report() is None:
                    await self._make(joined.group, command, devices)
            await self._join(joined.group)
            await joined.images.activations.tidy()
            capacity = await joined.images.capacity()
        except HardpointError:
            if not known:
                self._joined.pop(spec.uuid, None)
            raise
        joined.capacity, joined.capacity_at = capacity, time.monotonic()
        return joined.images, capacity

    async def _make(self, group: VolumeGroup, command: InitStorage, devices: list[Path]) -> None:
        if not command.first:
            raise refused(
                f"the LUNs of the storage {group.uuid} hold no group of it, though it has been made before",
                "see whether they are the same LUNs; nothing is written to them",
            )
        await self._clear(group, group.wanted.disks, command.others, wipe=command.wipe)
        tags = ("--addtag", MARK, "--metadatasize", "64m", "--lockopt", "skipgl")
        names = [str(device) for device in devices]
        limit = LIMIT_S + 10 * group.wanted.io_timeout_s
        argv = ("vgcreate", "-q", "-y", "--shared", *tags, group.uuid, *names)
        (await group.lvm(*argv, timeout_s=limit)).check()

    async def _clear(self, group: VolumeGroup, wwids: list[str], others: list[str], *, wipe: bool) -> None:
        """See that LUNs hold nothing of anybody; wipe what this fleet has left, if that is allowed."""
        disks = await self.disks([*others])
        found = await group.devices()
        for wwid in wwids:
            device = found.get(wwid)
            real = await asyncio.to_thread(device.resolve) if device is not None else None
            disk = next((each for each in disks if real is not None and Path(each.path) == real), None)
            if disk is None:
                raise refused(f"the LUN {wwid} is no disk of this host", "see GetSharedBlockCandidate")
            if disk.reason is None:
                continue
            if not (disk.wipeable and wipe):
                hint = "; the system tag sharedBlock::wipe::true allows to wipe it" if disk.wipeable else ""
                raise refused(
                    f"the LUN {wwid} ({disk.path}) is not taken: {disk.reason}{hint}",
                    "name another LUN, or clear this one by hand",
                )
            (await self._children.run(["wipefs", "-a", "-f", disk.path], LIMIT_S)).check()

    async def _join(self, group: VolumeGroup) -> None:
        _, standing = await group.look()
        if is_usable(standing):
            return
        limit = LIMIT_S + 10 * group.wanted.io_timeout_s
        for left in reversed(range(JOIN_TRIES)):
            completed = await group.lvm("vgchange", "--lock-start", group.uuid, timeout_s=limit)
            _, standing = await group.look()
            if is_usable(standing):
                return
            why = f"{standing.reason}{last_lines(completed)}"
            if left:
                log.info("group not joined yet", extra={"storage": group.uuid, "reason": why})
                await asyncio.sleep(JOIN_PAUSE_S)
        raise UnusableError(standing, f"the group {group.uuid}: {why}", REMEDIES[standing.state])

    async def close(self, spec: StorageSpec) -> None:
        """Leave the group. Raises HardpointError (SYS.1006) while volumes of it are in use here."""
        joined = self._ensure(spec)
        await joined.end_chores()
        if not joined.group.conf.is_dir():
            self._joined.pop(spec.uuid, None)
            return
        await joined.images.activations.tidy()
        used = [lv for lv, count in (await joined.group.active()).items() if count]
        if used:
            raise refused(
                f"{', '.join(used)} of the storage {spec.uuid} is in use here", "stop its VMs first"
            )
        status = await joined.group.status()
        if status is not None and lockspace_of(spec.uuid) in status.lockspaces:
            await joined.group.change("vgchange", "--lock-stop", spec.uuid)
        await asyncio.to_thread(shutil.rmtree, joined.group.conf)
        self._joined.pop(spec.uuid, None)

    async def probe(self, spec: StorageSpec) -> tuple[Capacity, GroupStanding]:
        """Look at the lease, which says whether the group can be used."""
        joined = self.joined(spec.uuid)
        _, standing = await joined.group.look()
        if not is_usable(standing):
            raise UnusableError(standing, f"{standing.state}: {standing.reason}", REMEDIES[standing.state])
        if joined.capacity is None:
            joined.capacity, joined.capacity_at = await joined.images.capacity(), time.monotonic()
        joined.begin_chores()
        return joined.capacity, standing

    async def mend(self, spec: StorageSpec) -> None:
        """Do what brings it back, as far as no VM is ended that the settings keep."""
        joined = self.joined(spec.uuid)
        seen, standing = await joined.group.look()
        steps = recovery(seen)
        if RecoveryStep.FENCE_VMS in steps and not joined.group.wanted.fence_lost:
            return
        await self._do(joined, steps, standing)

    async def recover(self, command: RecoverGroup) -> RecoveryReply:
        """Say what brings a group back, or do it."""
        joined = self._ensure(command.storage)
        seen, standing = await joined.group.look()
        steps = recovery(seen)
        if not command.execute:
            return RecoveryReply(steps=steps, standing=standing)
        if RecoveryStep.FENCE_VMS in steps and not command.fence:
            raise UnusableError(
                standing,
                f"the group {joined.group.uuid} comes back only when its VMs on this host are ended",
                "say so with fenceVms=true, or stop them first",
            )
        fenced = await self._do(joined, steps, standing)
        return RecoveryReply(steps=steps, standing=(await joined.group.look())[1], fenced=fenced)

    async def _do(self, joined: Joined, steps: list[RecoveryStep], standing: GroupStanding) -> list[str]:
        """Take steps; return the VMs whose power was taken, which is told at once."""
        group, fenced = joined.group, list[str]()
        for step in steps:
            if step is RecoveryStep.START_DAEMONS:
                await self._daemons.ensure(group.wanted)
            elif step is RecoveryStep.FENCE_VMS:
                fenced = await self._fence(group)
                self._tell_fenced(group.uuid, standing, fenced)
            elif step is RecoveryStep.DROP_LOCKS:
                await self._children.run(["lvmlockctl", "--drop", group.uuid], LIMIT_S)
            elif step is RecoveryStep.JOIN:
                await group.configure()
                await self._daemons.ensure(group.wanted)
                await self._join(group)
            elif step is RecoveryStep.ADOPT_LOCKS:
                await self._adopt(joined)
        return fenced

    async def _fence(self, group: VolumeGroup) -> list[str]:
        """Let nothing of this host reach the volumes any more, then end who had them."""
        active = await group.active()
        for lv in active:
            argv = ["dmsetup", "wipe_table", "--force", "--noflush", "--nolockfs", f"{group.uuid}-{lv}"]
            await self._children.run(argv, LIMIT_S)
        fenced = await self.fence(str(self._places.dev / group.uuid)) if active else []
        for lv in active:
            await self._children.run(["dmsetup", "remove", "--retry", f"{group.uuid}-{lv}"], LIMIT_S)
        return fenced

    def _tell_fenced(self, uuid: str, standing: GroupStanding, fenced: list[str]) -> None:
        if fenced:
            log.error("VMs ended: the lease was lost", extra={"storage": uuid, "vms": fenced})
            reason = f"{standing.state}: {standing.reason}"
            self._tell(
                StorageEvent(
                    storage_uuid=uuid, answering=False, reason=reason, standing=standing, fenced=fenced
                )
            )

    async def _adopt(self, joined: Joined) -> None:
        """Have the lock again of each volume that is in use here."""
        for lv, count in (await joined.group.active()).items():
            if count:
                try:
                    await joined.group.activate(lv, EXCLUSIVE)
                except HardpointError:  # it is below disks of VMs on several hosts
                    await joined.group.activate(lv, SHARED)
        await joined.images.activations.tidy()

    async def disks(self, in_use: list[str]) -> list[SharedDisk]:
        """Return the disks of this host, and which of them could become part of a group."""
        conf = self._places.conf / INSPECTION
        await asyncio.to_thread(_write_inspection, conf)
        lvm = ["env", f"LVM_SYSTEM_DIR={conf}"]
        how = ["--reportformat", "json", "--units", "b", "--nosuffix", "--nolocking", *_ALL_GROUPS]
        volumes, shared, tree = await asyncio.gather(
            self._children.run([*lvm, "pvs", *how, "-o", "pv_name,vg_name,pv_size"], LIMIT_S),
            self._children.run([*lvm, "vgs", *how, "-o", "vg_name,vg_tags,vg_lock_type"], LIMIT_S),
            self._children.run(list(LSBLK), LIMIT_S),
        )
        links = await asyncio.to_thread(_links, self._places.dev / "disk/by-id")
        described = tree.check().stdout
        paths = readable_disks(described)
        on_them = await self._contents(paths)
        around = Surroundings(
            physical_volumes(volumes.check().stdout), groups(shared.check().stdout), links, in_use, on_them
        )
        return shared_disks(described, around)

    async def _contents(self, paths: list[str]) -> dict[str, list[str] | None]:
        """Return what is on disks; they are read together, and one by one when one of them is in the way."""
        together = await self._read(paths)
        if together is not None:
            return dict(together)
        gate = asyncio.Semaphore(_READ_AT_ONCE)

        async def alone(path: str) -> list[str] | None:
            async with gate:
                read = await self._read([path])
            return None if read is None else read[path]

        return dict(zip(paths, await asyncio.gather(*map(alone, paths)), strict=True))

    async def _read(self, paths: list[str]) -> dict[str, list[str]] | None:
        if not paths:  # wipefs refuses to be asked for nothing
            return {}
        try:
            completed = await self._children.run([*WIPEFS, *paths], STATUS_LIMIT_S)
        except CommandError:  # a path that hangs
            return None
        return contents(completed.stdout, paths) if completed.returncode == 0 else None

    async def extend(self, command: ExtendGroup) -> StorageReply:
        """Take a LUN into a group."""
        joined = self._ensure(command.storage)
        group = joined.group
        await group.configure()
        if command.wwid not in {lun.wwid for lun in await group.luns()}:
            await self._clear(group, [command.wwid], [*command.others, group.uuid], wipe=command.wipe)
            device = (await group.devices())[command.wwid]
            skip = ("-y", "-q", "--lockopt", "skipgl")
            await group.change("vgextend", *skip, group.uuid, str(device))
        return await self._reply(joined)

    async def refresh(self, command: RefreshLuns) -> StorageReply:
        """Look how large LUNs are."""
        joined = self._ensure(command.storage)
        devices = await joined.group.rescan(command.wwids)
        if command.resize:
            for device in devices:
                await joined.group.change("pvresize", "-q", "-y", "--lockopt", "skipgl", str(device))
        return await self._reply(joined)

    async def _reply(self, joined: Joined) -> StorageReply:
        capacity = await joined.images.capacity()
        joined.capacity, joined.capacity_at = capacity, time.monotonic()
        return StorageReply(capacity=capacity, luns=await joined.group.luns())

    async def luns(self, uuid: str) -> StorageReply:
        """Return the capacity of a group and its LUNs."""
        return await self._reply(self.joined(uuid))


def _wanted(spec: StorageSpec) -> SharedBlockGroup:
    if spec.group is None:
        raise refused(f"it is not said what the group {spec.uuid} is", "report it")
    return spec.group


def _write_inspection(conf: Path) -> None:
    conf.mkdir(mode=0o700, parents=True, exist_ok=True)
    (conf / "lvm.conf").write_text(_INSPECTION_CONF)


def _links(folder: Path) -> dict[str, str]:
    return {link.name: str(link.resolve()) for link in folder.iterdir()} if folder.is_dir() else {}
