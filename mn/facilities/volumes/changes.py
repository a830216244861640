"""Changes of volumes: name, state, size."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from kvmagent.protocol_storage import DiskReply, GetDisk, ResizeDisk
from mn.db.global_settings import GlobalSettings
from mn.facilities.common import change, find, inventory
from mn.facilities.offerings import DiskSize
from mn.facilities.primary_storage.capacity import resize
from mn.facilities.primary_storage.connecting import HostPlace, host_at
from mn.facilities.primary_storage.refusals import illegal
from mn.facilities.primary_storage.working import on_disk
from mn.facilities.states import check_event, state_after
from mn.facilities.volumes.life import place_of
from mn.facilities.volumes.tables import VOLUME, change_volume, load_volume
from mn.facilities.volumes.use import quiet_volume, volume_in
from mn.rest.operation import Action, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, StateEvent

TIMEOUT_S = 3600.0


class _Change(Action):
    """What changes of a volume have in common."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time."""
        return (f"volume/{self.uuid}",)


class UpdateVolume(_Change, path="/volumes/{uuid}/actions", reply=VOLUME):
    """Change a volume's name or description."""

    name: Name | None = None
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_volume, self)
        return await inventory(job.services, VOLUME, self.uuid)


class ChangeVolumeState(_Change, path="/volumes/{uuid}/actions", reply=VOLUME):
    """Enable or disable a volume: a disabled one cannot be attached to a VM."""

    state_event: StateEvent

    def check(self) -> None:
        """Volumes can be enabled and disabled only."""
        check_event(self.state_event, "enable", "disable")

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(change_state, self.uuid, state_after(self.state_event))
        return await inventory(job.services, VOLUME, self.uuid)


class SyncVolumeSize(_Change, path="/volumes/{uuid}/actions", reply=VOLUME):
    """Look how large a volume's file is."""

    async def run(self, job: Job) -> Reply:
        """Ask a host, write the row."""
        disk = await job.transact(load_disk, self.uuid)
        command = GetDisk(storage=disk.at.storage, path=disk.path, format=disk.format)
        found = await on_disk(job, disk.at, command)
        await job.transact(save_size, self.uuid, found)
        return await inventory(job.services, VOLUME, self.uuid)


class _Resize(_Change):
    """What the two operations that make a volume larger have in common."""

    size: DiskSize

    async def run(self, job: Job) -> Reply:
        """Reserve room, then make the file larger. A file that has become larger stays so."""
        settings = job.services.global_settings
        await job.transact(begin_resize, self.uuid, self.size, type(self).__name__)
        disk = await job.transact(load_disk, self.uuid)
        await job.transact(reserve_more, self.uuid, self.size, settings, undo=reserve_less)
        command = ResizeDisk(storage=disk.at.storage, path=disk.path, format=disk.format, size=self.size)
        found = await on_disk(job, disk.at, command)
        await job.transact(end_resize, self.uuid, found)
        return await inventory(job.services, VOLUME, self.uuid)


class ResizeDataVolume(
    _Resize, path="/volumes/data/resize/{uuid}/actions", reply=VOLUME, timeout_s=TIMEOUT_S
):
    """Make a data volume larger; no running VM may have it."""


class ResizeRootVolume(_Resize, path="/volumes/resize/{uuid}/actions", reply=VOLUME, timeout_s=TIMEOUT_S):
    """Make a root volume larger; its VM must be stopped."""


class DiskAt(msgspec.Struct, frozen=True):
    """A volume's file and a host that can work on it."""

    at: HostPlace
    path: str
    format: str


def load_disk(connection: Connection, uuid: str) -> DiskAt:
    """Return a volume's file. Raises HardpointError (SYS.1003, VOLUME.1000, PS.1003)."""
    row = volume_in(connection, uuid, "Ready")
    return DiskAt(host_at(connection, place_of(row)), row.path, row.format)


def update_volume(connection: Connection, wanted: UpdateVolume) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such volume."""
    change(connection, VOLUME, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def change_state(connection: Connection, uuid: str, state: str) -> None:
    """Write a volume's state. Raises HardpointError (SYS.1003) when there is no such volume."""
    change(connection, VOLUME, uuid, {"state": state})


def save_size(connection: Connection, uuid: str, found: DiskReply) -> None:
    """Write how large a volume is."""
    change(connection, VOLUME, uuid, {"size": found.size, "actual_size": found.actual_size})


def begin_resize(connection: Connection, uuid: str, size: int, operation: str) -> None:
    """Raise HardpointError when a volume cannot be made so large.

    SYS.1003 for none, SYS.1007 for a smaller size or a volume of the other type, VOLUME.1000 and SYS.1006
    when it is not to be worked on now.
    """
    row = find(connection, VOLUME, uuid)
    if (row.type == "Root") != (operation == "ResizeRootVolume"):
        other = "ResizeRootVolume" if row.type == "Root" else "ResizeDataVolume"
        raise illegal(f"volume {row.name} ({uuid}) is of the type {row.type}", f"use {other}")
    if size < row.size:
        raise illegal(
            f"volume {row.name} ({uuid}) has {row.size} bytes and cannot become smaller ({size})",
            "give a larger size",
        )
    quiet_volume(connection, uuid)


def reserve_more(connection: Connection, uuid: str, size: int, settings: GlobalSettings) -> int:
    """Reserve what a larger volume takes; return the size that it had. Raises HardpointError (PS.1000)."""
    row = quiet_volume(connection, uuid)
    resize(connection, place_of(row), uuid, size, settings)
    change_volume(connection, uuid, status="Resizing")
    return int(row.size)


def reserve_less(connection: Connection, uuid: str, _size: int, settings: GlobalSettings) -> None:
    """Reserve what the volume takes as it is."""
    row = load_volume(connection, uuid)
    if row is not None:
        resize(connection, place_of(row), uuid, row.size, settings)
        change_volume(connection, uuid, status="Ready")


def end_resize(connection: Connection, uuid: str, found: DiskReply) -> None:
    """Write how large a volume is now."""
    save_size(connection, uuid, found)
    change_volume(connection, uuid, status="Ready")
