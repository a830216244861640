"""How volumes come and go; what other facilities may call of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select

from agentkit.errors import HardpointError
from kvmagent.protocol_storage import CreateDisk, DiskReply, StorageSpec
from mn.db.global_settings import GlobalSettings
from mn.db.schema import now_s
from mn.facilities.common import find
from mn.facilities.primary_storage.capacity import Place, release, reserve
from mn.facilities.primary_storage.connecting import HostPlace, host_at
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.image_cache import ImageToCache, bring_image, images_used_by
from mn.facilities.primary_storage.leaving import when_place_goes
from mn.facilities.primary_storage.refusals import illegal, refused
from mn.facilities.primary_storage.tables import LOCAL, PRIMARY_STORAGE, load_storage
from mn.facilities.primary_storage.tables import VOLUME as VOLUME_ROW
from mn.facilities.primary_storage.working import on_disk, remove_files, remove_made
from mn.facilities.tags.rules import drop_tags, write_tags
from mn.facilities.volumes.tables import (
    VOLUME,
    change_volume,
    load_volume,
    snapshot_table,
    snapshots_of,
    volume_table,
)
from mn.facilities.volumes.use import DETACHING, volume_in
from mn.rest.services import Job

FORMAT = "qcow2"


class NewVolume(msgspec.Struct, frozen=True):
    """A volume that is to be made; without a storage it is made when it is first attached to a VM."""

    uuid: str
    name: str
    type: str
    size: int
    description: str | None = None
    storage_uuid: str | None = None
    host_uuid: str | None = None
    disk_offering_uuid: str | None = None
    image_uuid: str | None = None
    vm_uuid: str | None = None
    device_id: int | None = None
    system_tags: list[str] = []
    user_tags: list[str] = []


class Disk(msgspec.Struct, frozen=True):
    """A disk of a VM: `path` is within `storage`, `host_path` what its host opens.

    `leaving` says that the VM is to let go of it.
    """

    volume_uuid: str
    type: str
    storage: StorageSpec
    path: str
    host_path: str
    format: str
    size: int
    device_id: int
    host_uuid: str | None
    leaving: bool


def disks_of(connection: Connection, vm_uuid: str) -> list[Disk]:
    """Return a VM's disks, its root volume first, as far as they are on a storage."""
    table = volume_table
    mine = (table.c.vm_instance_uuid == vm_uuid) & table.c.path.is_not(None)
    rows = connection.execute(select(table).where(mine).order_by(table.c.device_id, table.c.seq)).all()
    return [_disk(connection, row) for row in sorted(rows, key=lambda row: row.type != "Root")]


def note_attached(connection: Connection, uuid: str, vm_uuid: str, device_id: int) -> None:
    """Write that a volume is a VM's."""
    change_volume(connection, uuid, vm_instance_uuid=vm_uuid, device_id=device_id)


def note_detached(connection: Connection, uuid: str) -> None:
    """Write that a volume is no VM's."""
    change_volume(connection, uuid, vm_instance_uuid=None, device_id=None)


def begin_detaching(connection: Connection, uuid: str) -> None:
    """Write that a volume's VM is to let go of it. Raises HardpointError (SYS.1003, VOLUME.1000)."""
    volume_in(connection, uuid, "Ready")
    change_volume(connection, uuid, status=DETACHING)


def end_detaching(connection: Connection, uuid: str) -> None:
    """Write that a volume may be used again, by its VM or others."""
    row = load_volume(connection, uuid)
    if row is not None and row.status == DETACHING:
        change_volume(connection, uuid, status="Ready")


async def create_root_volume(
    job: Job,
    vm_uuid: str,
    image: ImageToCache,
    storage_uuid: str,
    host_uuid: str | None,
    *,
    name: str,
    size: int | None = None,
    system_tags: Sequence[str] = (),
) -> str:
    """Make a VM's root volume of an image, undone when the job fails; return its uuid.

    `host_uuid` is where it is to be when the storage is local. Raises HardpointError: PS.1000 for too little
    room, PS.1003 when no host can make it, what fetching the image raises.
    """
    new = NewVolume(
        job.uuid_for(f"root volume of {vm_uuid}"),
        name,
        "Root",
        max(size or 0, image.virtual_size),
        storage_uuid=storage_uuid,
        host_uuid=host_uuid,
        image_uuid=image.uuid,
        vm_uuid=vm_uuid,
        device_id=0,
        system_tags=list(system_tags),
    )
    await create_volume(job, new, image)
    return new.uuid


async def create_volume(job: Job, new: NewVolume, image: ImageToCache | None = None) -> None:
    """Make a volume, empty or of an image; undone when the job fails."""
    settings = job.services.global_settings
    await job.transact(insert_volume, new, settings, undo=remove_row)
    if new.storage_uuid is not None:
        await fill_volume(job, new.uuid, image)


async def instantiate_volume(job: Job, uuid: str, storage_uuid: str, host_uuid: str | None) -> None:
    """Put a volume that is NotInstantiated on a storage, as its first VM needs; undone when the job fails."""
    settings = job.services.global_settings
    await job.transact(place_volume, uuid, storage_uuid, host_uuid, settings, undo=displace_volume)
    await fill_volume(job, uuid, None)


async def fill_volume(job: Job, uuid: str, image: ImageToCache | None) -> None:
    """Make the file of a volume that has a place."""
    coming = await job.transact(load_coming, uuid)
    backing = None
    if image is not None:
        backing = await bring_image(job, coming.place, coming.at, image)
    command = CreateDisk(
        storage=coming.at.storage,
        path=coming.path,
        format=coming.format,
        size=coming.size,
        backing=backing,
        backing_format=format_of(backing) if backing is not None else FORMAT,
    )
    made = await on_disk(job, coming.at, command, undo=remove_made)
    await job.transact(finish_volume, uuid, made, backing)


async def expunge_volume(job: Job, uuid: str) -> None:
    """Remove a volume for good with its files and snapshots; one that is gone is gone already."""
    going = await job.transact(load_going, uuid)
    if going is None:
        return
    if going.at is not None:
        await job.step(remove_files, job.services, going.at, [going.folder], None)
    await job.transact(drop_volume, uuid)


class Coming(msgspec.Struct, frozen=True):
    """A volume whose file is to be made."""

    place: Place
    at: HostPlace
    path: str
    format: str
    size: int


class Going(msgspec.Struct, frozen=True):
    """A volume whose files are to be removed; without `at` it has none."""

    folder: str
    at: HostPlace | None


def folder_of(kind: str, uuid: str) -> str:
    """Return the folder of a volume in its storage."""
    return f"{'rootVolumes' if kind == 'Root' else 'dataVolumes'}/vol-{uuid}"


def folder_in(path: str, uuid: str) -> str:
    """Return the folder of a volume that a path is in."""
    return path.partition(uuid)[0] + uuid


def format_of(path: str) -> str:
    """Return the format of an image by its path."""
    return path.rpartition(".")[2]


def place_of(row: Row[Any]) -> Place:
    """Return where a volume is."""
    return Place(row.primary_storage_uuid, row.host_uuid)


def insert_volume(connection: Connection, new: NewVolume, settings: GlobalSettings) -> None:
    """Insert the row and reserve room.

    Raises HardpointError: SYS.1003, SYS.1006, SYS.1007 for a storage or host that does not fit, PS.1000.
    """
    if load_volume(connection, new.uuid) is not None:
        raise illegal(
            f"resourceUuid {new.uuid} belongs to another Volume", "choose another uuid or leave it out"
        )
    now = now_s()
    values = {
        "uuid": new.uuid,
        "name": new.name,
        "description": new.description,
        "type": new.type,
        "size": new.size,
        "disk_offering_uuid": new.disk_offering_uuid,
        "root_image_uuid": new.image_uuid,
        "vm_instance_uuid": new.vm_uuid,
        "device_id": new.device_id,
        "state": "Enabled",
        "status": "NotInstantiated",
        "is_shareable": False,
        "create_date": now,
        "last_op_date": now,
    }
    connection.execute(insert(volume_table), values)
    write_tags(connection, VOLUME, new.uuid, new.system_tags, new.user_tags)
    if new.storage_uuid is not None:
        place_volume(connection, new.uuid, new.storage_uuid, new.host_uuid, settings)


def place_volume(
    connection: Connection, uuid: str, storage_uuid: str, host_uuid: str | None, settings: GlobalSettings
) -> None:
    """Give a volume a place and reserve room there; raises HardpointError as `insert_volume` does."""
    row, place = find(connection, VOLUME, uuid), fitting_place(connection, storage_uuid, host_uuid)
    reserve(connection, place, uuid, VOLUME_ROW, row.size, settings)
    storage = find(connection, PRIMARY_STORAGE, storage_uuid)
    driver = driver_of(storage.type)
    path = f"{folder_of(row.type, uuid)}/{uuid}.{driver.disk_format}"
    path = driver.volume_path(connection, storage, row, path)
    change_volume(
        connection,
        uuid,
        primary_storage_uuid=storage_uuid,
        host_uuid=place.host_uuid,
        path=path,
        install_path=shown_path(storage, path),
        format=driver.disk_format,
        status="Creating",
    )


def displace_volume(connection: Connection, uuid: str, *_: object) -> None:
    """Take a volume that was not made from its place."""
    row = load_volume(connection, uuid)
    if row is not None and row.primary_storage_uuid is not None:
        release(connection, place_of(row), uuid)
        nowhere = dict.fromkeys(("primary_storage_uuid", "host_uuid", "path", "install_path", "format"))
        change_volume(connection, uuid, **nowhere, status="NotInstantiated")


def remove_row(connection: Connection, new: NewVolume, *_: object) -> None:
    """Remove the row of a volume that was not made."""
    displace_volume(connection, new.uuid)
    connection.execute(delete(volume_table).where(volume_table.c.uuid == new.uuid))
    drop_tags(connection, new.uuid)


def fitting_place(connection: Connection, storage_uuid: str, host_uuid: str | None) -> Place:
    """Return where something new on a storage is to be.

    Raises HardpointError: SYS.1003 for no such storage, SYS.1006 when it takes nothing new, SYS.1007 when a
    local one lacks the host, PS.1003 when no host can use it now.
    """
    row = find(connection, PRIMARY_STORAGE, storage_uuid)
    if row.state != "Enabled":
        raise refused(
            f"primary storage {row.name} ({storage_uuid}) is {row.state} and takes nothing new",
            "enable it first",
        )
    if row.type == LOCAL and host_uuid is None:
        raise illegal(
            f"primary storage {row.name} ({storage_uuid}) is local, and no host is named",
            "give the system tag localStorage::hostUuid::<uuid of the host>",
        )
    place = Place(storage_uuid, host_uuid if row.type == LOCAL else None)
    host_at(connection, place)
    return place


def shown_path(storage: Row[Any], path: str) -> str:
    """Return a path as the API shows it."""
    return driver_of(storage.type).shown_path(storage, path)


def load_coming(connection: Connection, uuid: str) -> Coming:
    """Return what is needed to make a volume's file."""
    row = find(connection, VOLUME, uuid)
    place = place_of(row)
    return Coming(place, host_at(connection, place), row.path, row.format, row.size)


def finish_volume(connection: Connection, uuid: str, made: DiskReply, backing: str | None) -> None:
    """Write that a volume is Ready."""
    values = {"size": made.size, "actual_size": made.actual_size, "backing_path": backing}
    change_volume(connection, uuid, status="Ready", **values)


def load_going(connection: Connection, uuid: str) -> Going | None:
    """Return what there is of a volume to be removed. Raises HardpointError (PS.1003) when no host can."""
    row = load_volume(connection, uuid)
    if row is None:
        return None
    if row.path is None:
        return Going("", None)
    return Going(folder_in(row.path, uuid), host_at(connection, place_of(row)))


def drop_volume(connection: Connection, uuid: str) -> None:
    """Remove the rows of a volume and its snapshots, and give back their room."""
    row = load_volume(connection, uuid)
    if row is None:
        return
    if row.primary_storage_uuid is not None:
        for each in (uuid, *(snapshot.uuid for snapshot in snapshots_of(connection, uuid))):
            release(connection, place_of(row), each)
    _delete_rows(connection, [uuid])


def _delete_rows(connection: Connection, uuids: list[str]) -> None:
    snapshots = snapshot_table
    below = snapshots.c.volume_uuid.in_(uuids)
    gone = list(connection.execute(select(snapshots.c.uuid).where(below)).scalars())
    connection.execute(delete(snapshots).where(below))
    connection.execute(delete(volume_table).where(volume_table.c.uuid.in_(uuids)))
    drop_tags(connection, *uuids, *gone)


def _forget_place(connection: Connection, place: Place) -> None:
    """Remove the rows of volumes whose storage, or host of it, is gone."""
    table = volume_table
    there = table.c.primary_storage_uuid == place.storage_uuid
    if place.host_uuid is not None:
        there &= table.c.host_uuid == place.host_uuid
    _delete_rows(connection, list(connection.execute(select(table.c.uuid).where(there)).scalars()))


def _images_at(connection: Connection, place: Place) -> set[str]:
    table = volume_table
    there = (table.c.primary_storage_uuid == place.storage_uuid) & table.c.root_image_uuid.is_not(None)
    if place.host_uuid is not None:
        there &= table.c.host_uuid == place.host_uuid
    return set(connection.execute(select(table.c.root_image_uuid).where(there)).scalars())


when_place_goes(_forget_place)
images_used_by(_images_at)


def _disk(connection: Connection, row: Row[Any]) -> Disk:
    storage = load_storage(connection, row.primary_storage_uuid)
    if storage is None:
        raise HardpointError("SYS.1000", "Internal error", f"volume {row.uuid} is on no primary storage")
    driver = driver_of(storage.type)
    return Disk(
        row.uuid,
        row.type,
        driver.spec(connection, storage),
        row.path,
        driver.host_path(storage, row.path),
        row.format,
        row.size,
        row.device_id or 0,
        row.host_uuid,
        row.status == DETACHING,
    )
