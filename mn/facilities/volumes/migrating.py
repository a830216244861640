"""Moving a volume with its snapshots: files are copied, then the rows change, then the old files go."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select, update

from kvmagent.protocol_storage import CopyFile, FetchFile
from mn.db.global_settings import GlobalSettings
from mn.db.schema import now_s
from mn.facilities.common import find
from mn.facilities.primary_storage.capacity import Place, lock, release, reserve
from mn.facilities.primary_storage.connecting import HostPlace
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
    remove_made,
    token_of,
    try_to_remove,
    withdraw_offer,
)
from mn.facilities.volumes.life import folder_of, place_of, shown_path
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
    """A file of a volume, and what it stands on."""

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
    """Move a volume. A failure before the rows change leaves it where it is, and nothing at the target."""
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
        source_path=file.path,
        storage=move.target.storage,
        path=file.path,
        format=file.format,
        backing=file.backing,
    )
    await on_disk(job, move.target, command, undo=remove_made)


async def _transfer(job: Job, move: Move, file: FileToMove) -> None:
    services = job.services
    offer_uuid, secret = job.uuid_for(f"offer of {file.path}"), f"{job.uuid} {file.path}"
    given = (services, move.source, file.path, offer_uuid, secret)
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
    image = row.root_image_uuid
    coming = image if image is not None and not is_cached(connection, target_place, image) else None
    sizes = _sizes(connection, place_of(row))
    snapshots = snapshots_of(connection, volume_uuid)
    reserve(connection, target_place, volume_uuid, VOLUME_ROW, row.size, settings)
    for snapshot in snapshots:
        reserve(connection, target_place, snapshot.uuid, SNAPSHOT_ROW, snapshot.size, settings)
    files = [FileToMove(s.path, s.format, s.backing_path) for s in snapshots]
    files.append(FileToMove(row.path, row.format, row.backing_path))
    if coming is not None:
        reserve(connection, target_place, coming, IMAGE_CACHE, sizes.get(coming, 0), settings)
        below = next((f.backing for f in files if f.backing and f.backing.startswith("imagecache/")), None)
        if below is not None:
            files.insert(0, FileToMove(below, below.rpartition(".")[2], None))
    change_volume(connection, volume_uuid, status="Migrating")
    folder = folder_of(row.type, volume_uuid)
    return Move(volume_uuid, folder, source, target, place_of(row), target_place, files, coming)


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
    row = find(connection, VOLUME, move.volume_uuid)
    storage = find(connection, PRIMARY_STORAGE, move.target_place.storage_uuid)
    where = {"primary_storage_uuid": storage.uuid}
    for snapshot in snapshots_of(connection, move.volume_uuid):
        path = shown_path(storage, snapshot.path)
        values = {**where, "primary_storage_install_path": path, "last_op_date": now_s()}
        mine = snapshot_table.c.uuid == snapshot.uuid
        connection.execute(update(snapshot_table).where(mine).values(**values))
        release(connection, move.source_place, snapshot.uuid)
    release(connection, move.source_place, move.volume_uuid)
    if move.image_uuid is not None and not is_cached(connection, move.target_place, move.image_uuid):
        add_cached(connection, move.target_place, move.image_uuid, READY)
    change_volume(
        connection,
        move.volume_uuid,
        **where,
        host_uuid=move.target_place.host_uuid,
        install_path=shown_path(storage, row.path),
        status="Ready",
    )


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
