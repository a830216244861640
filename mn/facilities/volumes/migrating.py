"""Moving a volume with its snapshots: files are copied, then the rows change, then the old files go."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from kvmagent.protocol_ceph import RAW
from kvmagent.protocol_storage import CopyFile, FetchFile
from mn.db.global_settings import GlobalSettings
from mn.db.schema import now_s
from mn.facilities.common import find
from mn.facilities.primary_storage.capacity import Place, lock, release, reserve
from mn.facilities.primary_storage.connecting import HostPlace
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.image_cache import READY, add_cached, is_cached
from mn.facilities.primary_storage.tables import (
    IMAGE_CACHE,
    PRIMARY_STORAGE,
    allocation_table,
)
from mn.facilities.primary_storage.tables import SNAPSHOT as SNAPSHOT_ROW
from mn.facilities.primary_storage.tables import VOLUME as VOLUME_ROW
from mn.facilities.primary_storage.working import (
    offer_file,
    on_disk,
    remove_files,
    remove_made,
    token_of,
    try_to_remove,
    withdraw_offer,
)
from mn.facilities.volumes.life import folder_in, folder_of, format_of, place_of, shown_path
from mn.facilities.volumes.tables import (
    VOLUME,
    change_volume,
    load_volume,
    snapshot_table,
    snapshots_of,
)
from mn.facilities.volumes.use import quiet_volume
from mn.fleet.client import Endpoint
from mn.rest.services import Job


class FileToMove(msgspec.Struct, frozen=True):
    """A file, and what it stands on at the target; `uuid` is that of the volume or snapshot, if it is one."""

    uuid: str | None
    source_path: str
    source_format: str
    path: str
    format: str
    backing: str | None


class Move(msgspec.Struct, frozen=True):
    """How a volume is moved: its files, in an order in which each comes after what it stands on."""

    volume_uuid: str
    folder: str
    source: HostPlace
    target: HostPlace
    source_place: Place
    target_place: Place
    files: list[FileToMove]
    image_uuid: str | None
    """The image that has to come to the target's cache first, None when it is there or there is none."""


async def move_volume(job: Job, move: Move) -> None:
    """Move a volume. A failure before the rows change leaves it where it is, and nothing at the target.

    What an earlier moving could not remove there goes to the trash first, or it would be taken for the copy.
    """
    left_over = folder_in(move.files[-1].path, move.volume_uuid)
    trash = f"{job.uuid}-left-{move.volume_uuid}"
    await job.step(remove_files, job.services, move.target, [left_over], trash)
    share = 90 // max(1, len(move.files))
    for number, file in enumerate(move.files):
        if move.source.host_uuid == move.target.host_uuid:
            await _copy(job, move, file)
        else:
            await _transfer(job, move, file)
        job.at(5 + share * (number + 1))
    await job.transact(switch, move)
    trash = f"{job.uuid}-{move.volume_uuid}"
    await job.step(try_to_remove, job.services, move.source, [move.folder], trash)


async def _copy(job: Job, move: Move, file: FileToMove) -> None:
    command = CopyFile(
        source=move.source.storage,
        source_path=file.source_path,
        storage=move.target.storage,
        path=file.path,
        format=file.format,
        backing=file.backing,
        source_format=file.source_format,
    )
    await on_disk(job, move.target, command, undo=remove_made)


async def _transfer(job: Job, move: Move, file: FileToMove) -> None:
    services = job.services
    offer_uuid, secret = job.uuid_for(f"offer of {file.source_path}"), f"{job.uuid} {file.source_path}"
    given = (services, move.source, file.source_path, offer_uuid, secret)
    offer = await job.step(offer_file, *given, undo=withdraw_offer)
    source = Endpoint(move.source.host_uuid, move.source.address, offer.port)
    command = FetchFile(
        storage=move.target.storage,
        path=file.path,
        url=f"https://{source}{offer.path}",
        size=offer.size,
        sha256=offer.sha256,
        format=file.format,
        backing=file.backing,
        token=token_of(services, secret),
        source_format=file.source_format,
    )
    await on_disk(job, move.target, command, undo=remove_made)
    await job.step(withdraw_offer, *given)


def begin_move(
    connection: Connection,
    volume_uuid: str,
    source: HostPlace,
    target: HostPlace,
    target_place: Place,
    settings: GlobalSettings,
) -> Move:
    """Reserve room at the target and make the volume Migrating.

    Raises HardpointError: VOLUME.1000 and SYS.1006 when it is not to be worked on, PS.1000 for no room.
    """
    row = quiet_volume(connection, volume_uuid)
    image, flat = row.root_image_uuid, is_flat(source, target)
    coming = image if image and not flat and not is_cached(connection, target_place, image) else None
    sizes = _sizes(connection, place_of(row))
    snapshots = snapshots_of(connection, volume_uuid)
    reserve(connection, target_place, volume_uuid, VOLUME_ROW, row.size, settings)
    for snapshot in snapshots:
        size = row.size if flat else snapshot.size
        reserve(connection, target_place, snapshot.uuid, SNAPSHOT_ROW, size, settings)
    folder = _target_folder(connection, row, target_place.storage_uuid)
    files = [_file(each, volume_uuid, folder, flat=flat) for each in (*snapshots, row)]
    if coming is not None:
        reserve(connection, target_place, coming, IMAGE_CACHE, sizes.get(coming, 0), settings)
        below = next((f.backing for f in files if f.backing and f.backing.startswith("imagecache/")), None)
        if below is not None:
            kept_as = format_of(below)
            files.insert(0, FileToMove(None, below, kept_as, below, kept_as, None))
    change_volume(connection, volume_uuid, status="Migrating")
    return Move(
        volume_uuid,
        folder_in(row.path, volume_uuid),
        source,
        target,
        place_of(row),
        target_place,
        files,
        coming,
    )


def is_flat(source: HostPlace, target: HostPlace) -> bool:
    """Say whether files move without what they stand on, each with all that it shows."""
    return any(driver_of(at.storage.kind.value).is_flat for at in (source, target))


def _target_folder(connection: Connection, row: Row[Any], storage_uuid: str) -> str:
    storage = find(connection, PRIMARY_STORAGE, storage_uuid)
    path = f"{folder_of(row.type, row.uuid)}/{row.uuid}"
    return folder_in(driver_of(storage.type).volume_path(connection, storage, row, path), row.uuid)


def _file(each: Row[Any], volume_uuid: str, folder: str, *, flat: bool) -> FileToMove:
    """Return how the file of a volume or snapshot moves to a folder."""
    rest = each.path.removeprefix(folder_in(each.path, volume_uuid))
    if not flat:
        return FileToMove(each.uuid, each.path, each.format, folder + rest, each.format, each.backing_path)
    stem = rest.rpartition(".")[0]
    return FileToMove(each.uuid, each.path, each.format, f"{folder}{stem}.{RAW}", RAW, None)


def end_move(
    connection: Connection,
    volume_uuid: str,
    _source: HostPlace,
    _target: HostPlace,
    target_place: Place,
    _settings: GlobalSettings,
) -> None:
    """Give back what was reserved for a move that failed."""
    row = load_volume(connection, volume_uuid)
    if row is None or place_of(row) == target_place:
        return
    for each in (volume_uuid, *(s.uuid for s in snapshots_of(connection, volume_uuid))):
        release(connection, target_place, each)
    if row.root_image_uuid is not None and not is_cached(connection, target_place, row.root_image_uuid):
        release(connection, target_place, row.root_image_uuid)
    change_volume(connection, volume_uuid, status="Ready")


def switch(connection: Connection, move: Move) -> None:
    """Write that a volume and its snapshots are at the target, and give back the room at the source."""
    for storage_uuid in sorted({move.source_place.storage_uuid, move.target_place.storage_uuid}):
        lock(connection, storage_uuid)
    storage = find(connection, PRIMARY_STORAGE, move.target_place.storage_uuid)
    where = {"primary_storage_uuid": storage.uuid}
    moved = {file.uuid: file for file in move.files}
    for snapshot in snapshots_of(connection, move.volume_uuid):
        file = moved[snapshot.uuid]
        values = {**where, **_columns(file), "last_op_date": now_s()}
        values["primary_storage_install_path"] = shown_path(storage, file.path)
        mine = snapshot_table.c.uuid == snapshot.uuid
        connection.execute(update(snapshot_table).where(mine).values(**values))
        release(connection, move.source_place, snapshot.uuid)
    release(connection, move.source_place, move.volume_uuid)
    if move.image_uuid is not None and not is_cached(connection, move.target_place, move.image_uuid):
        add_cached(connection, move.target_place, move.image_uuid, READY)
    file = moved[move.volume_uuid]
    change_volume(
        connection,
        move.volume_uuid,
        **where,
        **_columns(file),
        host_uuid=move.target_place.host_uuid,
        install_path=shown_path(storage, file.path),
        status="Ready",
    )


def _columns(file: FileToMove) -> dict[str, Any]:
    return {"path": file.path, "format": file.format, "backing_path": file.backing}


def needed_room(connection: Connection, volume_uuid: str, target: Place) -> int:
    """Return how many bytes a volume would take at a place, its snapshots and its image included."""
    row = find(connection, VOLUME, volume_uuid)
    sizes = _sizes(connection, place_of(row))
    mine = [volume_uuid, *(snapshot.uuid for snapshot in snapshots_of(connection, volume_uuid))]
    image = row.root_image_uuid
    if image is not None and not is_cached(connection, target, image):
        mine.append(image)
    return sum(sizes.get(uuid, 0) for uuid in mine)


def _sizes(connection: Connection, place: Place) -> dict[str, int]:
    rows = allocation_table.c
    there = rows.primary_storage_uuid == place.storage_uuid
    if place.host_uuid is not None:
        there &= rows.host_uuid == place.host_uuid
    found = connection.execute(select(rows.resource_uuid, rows.size).where(there))
    return {row.resource_uuid: row.size for row in found}
