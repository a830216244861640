"""Snapshots: a volume's file stays as it is, and the volume goes on in a new file on top of it."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select, update

from kvmagent.protocol_storage import CreateDisk, DiskReply, GetDisk, RebaseDisk
from mn.db.global_settings import GlobalSettings
from mn.db.schema import now_s
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.primary_storage.capacity import release, reserve
from mn.facilities.primary_storage.connecting import HostPlace, host_at
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.primary_storage.tables import PRIMARY_STORAGE
from mn.facilities.primary_storage.tables import SNAPSHOT as SNAPSHOT_ROW
from mn.facilities.primary_storage.working import on_disk, remove_made, try_to_remove
from mn.facilities.tags.rules import drop_tags
from mn.facilities.volumes.life import FORMAT, folder_in, format_of, place_of, shown_path
from mn.facilities.volumes.tables import (
    SNAPSHOT,
    VOLUME,
    change_volume,
    snapshot_table,
    snapshots_of,
)
from mn.facilities.volumes.use import quiet_volume
from mn.rest.operation import Action, Create, Delete, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, Uuid

TIMEOUT_S = 24 * 3600.0


class CreateVolumeSnapshot(Create, path="/volumes/{volumeUuid}/volume-snapshots", reply=SNAPSHOT):
    """Keep a volume as it is now; no running VM may have it."""

    volume_uuid: Ref
    name: Name
    description: Description | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time."""
        return (f"volume/{self.volume_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Put a new file on top of the volume's, then write that the volume is the new one."""
        uuid = self.resource_uuid or job.uuid_for("snapshot")
        tree = job.uuid_for("tree")
        top = await job.transact(load_top, self.volume_uuid)
        get = GetDisk(storage=top.at.storage, path=top.path, format=top.format)
        found = await on_disk(job, top.at, get)
        settings = job.services.global_settings
        await job.transact(begin_snapshot, uuid, tree, self, found, settings, undo=drop_snapshot)
        command = overlay(top, f"{top.folder}/snapshots/{uuid}.{top.made_as}")
        made = await on_disk(job, top.at, command, undo=remove_made)
        await job.transact(end_snapshot, uuid, command.path, made)
        return await inventory(job.services, SNAPSHOT, uuid)


class UpdateVolumeSnapshot(Action, path="/volume-snapshots/{uuid}/actions", reply=SNAPSHOT):
    """Change a snapshot's name or description."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_snapshot, self)
        return await inventory(job.services, SNAPSHOT, self.uuid)


class RevertVolumeFromSnapshot(Action, path="/volume-snapshots/{uuid}/actions", timeout_s=TIMEOUT_S):
    """Make a volume what it was when a snapshot was taken; what it is now is lost unless one has it."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a snapshot at a time; its volume's is taken by the status."""
        return (f"volume-snapshot/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Put a new file on top of the snapshot's; the volume's former file goes."""
        below = await job.transact(begin_revert, self.uuid, undo=end_work)
        command = overlay(below, f"{below.folder}/{job.uuid_for('reverted')}.{below.made_as}")
        made = await on_disk(job, below.at, command, undo=remove_made)
        former = await job.transact(end_revert, self.uuid, command.path, made)
        await job.step(try_to_remove, job.services, below.at, [former], None)
        return {}


class DeleteVolumeSnapshot(Delete, path="/volume-snapshots/{uuid}", timeout_s=TIMEOUT_S):
    """Delete a snapshot with those that were taken after it; the volume stays as it is."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a snapshot at a time."""
        return (f"volume-snapshot/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Have the volume stand on what is below them, if it stands on them; then remove their files."""
        going = await job.transact(begin_deletion, self.uuid, undo=end_work)
        if going is None:
            return {}
        stands_on = going.below
        if going.top is not None:
            command = RebaseDisk(
                storage=going.at.storage,
                path=going.top,
                backing=going.below,
                backing_format=going.below_format,
            )
            found = await on_disk(job, going.at, command)
            stands_on = going.below if found.backing is not None else None
        await job.transact(end_deletion, self.uuid, going, stands_on)
        await job.step(try_to_remove, job.services, going.at, going.paths, None)
        return {}


class Top(msgspec.Struct, frozen=True):
    """A file that another one is to be put on, which is `made_as` the storage keeps volumes."""

    at: HostPlace
    folder: str
    path: str
    format: str
    size: int
    made_as: str


class GoingSnapshots(msgspec.Struct, frozen=True):
    """Snapshots that go: `top` is the volume's file if it stands on them, `below` what it is to stand on."""

    volume_uuid: str
    at: HostPlace
    uuids: list[str]
    paths: list[str]
    top: str | None
    below: str | None
    below_format: str


def overlay(top: Top, path: str) -> CreateDisk:
    """Return the command that puts a file on top of another one."""
    return CreateDisk(
        storage=top.at.storage,
        path=path,
        format=top.made_as,
        size=top.size,
        backing=top.path,
        backing_format=top.format,
    )


def load_top(connection: Connection, volume_uuid: str) -> Top:
    """Return a volume's file. Raises HardpointError (SYS.1003, VOLUME.1000, SYS.1006, PS.1003)."""
    row = quiet_volume(connection, volume_uuid)
    return _top(connection, row, row.path, row.format)


def begin_snapshot(
    connection: Connection,
    uuid: str,
    tree_uuid: str,
    wanted: CreateVolumeSnapshot,
    found: DiskReply,
    settings: GlobalSettings,
) -> None:
    """Insert the row and reserve room for what the new file will take; raises HardpointError (PS.1000)."""
    volume = quiet_volume(connection, wanted.volume_uuid)
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "type": "Storage",
        "volume_uuid": volume.uuid,
        "tree_uuid": volume.tree_uuid or tree_uuid,
        "parent_uuid": volume.parent_uuid,
        "primary_storage_uuid": volume.primary_storage_uuid,
        "primary_storage_install_path": volume.install_path,
        "volume_type": volume.type,
        "format": volume.format,
        "latest": False,
        "size": found.actual_size,
        "state": "Enabled",
        "status": "Creating",
        "path": volume.path,
        "backing_path": volume.backing_path,
    }
    add(connection, SNAPSHOT, values, wanted)
    reserve(connection, place_of(volume), uuid, SNAPSHOT_ROW, found.actual_size, settings)
    change_volume(connection, volume.uuid, status="Snapshotting")


def drop_snapshot(
    connection: Connection, uuid: str, _tree: str, wanted: CreateVolumeSnapshot, *_: object
) -> None:
    """Remove the row of a snapshot that was not made."""
    row = connection.execute(select(snapshot_table).where(snapshot_table.c.uuid == uuid)).first()
    if row is not None and row.status == "Creating":
        release(connection, place_of(find(connection, VOLUME, wanted.volume_uuid)), uuid)
        connection.execute(delete(snapshot_table).where(snapshot_table.c.uuid == uuid))
        drop_tags(connection, uuid)
        change_volume(connection, wanted.volume_uuid, status="Ready")


def end_snapshot(connection: Connection, uuid: str, path: str, made: DiskReply) -> None:
    """Write that a snapshot is Ready, and that its volume goes on in another file."""
    row = find(connection, SNAPSHOT, uuid)
    _set_latest(connection, row.volume_uuid, uuid)
    change(connection, SNAPSHOT, uuid, {"status": "Ready"})
    _move_top(connection, row, path, made)


def update_snapshot(connection: Connection, wanted: UpdateVolumeSnapshot) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such snapshot."""
    change(connection, SNAPSHOT, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def begin_revert(connection: Connection, uuid: str) -> Top:
    """Return a snapshot's file, and let nothing else work on its volume meanwhile.

    Raises HardpointError (SYS.1003, VOLUME.1000, SYS.1006, PS.1003).
    """
    row = _ready_snapshot(connection, uuid)
    volume = quiet_volume(connection, row.volume_uuid)
    top = _top(connection, volume, row.path, row.format)
    change_volume(connection, volume.uuid, status="Reverting")
    return top


def end_revert(connection: Connection, uuid: str, path: str, made: DiskReply) -> str:
    """Write that a volume goes on from a snapshot; return the file that is no longer needed."""
    row = find(connection, SNAPSHOT, uuid)
    former = str(find(connection, VOLUME, row.volume_uuid).path)
    _set_latest(connection, row.volume_uuid, uuid)
    _move_top(connection, row, path, made)
    change_volume(connection, row.volume_uuid, size=made.size)
    return former


def end_work(connection: Connection, uuid: str) -> None:
    """Let a snapshot's volume be worked on again."""
    row = connection.execute(select(snapshot_table).where(snapshot_table.c.uuid == uuid)).first()
    if row is not None:
        change_volume(connection, row.volume_uuid, status="Ready")


def begin_deletion(connection: Connection, uuid: str) -> GoingSnapshots | None:
    """Return what goes with a snapshot, None when it is gone; its volume is Merging meanwhile.

    Raises HardpointError (VOLUME.1000, SYS.1006, PS.1003).
    """
    if connection.execute(select(snapshot_table.c.uuid).where(snapshot_table.c.uuid == uuid)).first() is None:
        return None
    row = _ready_snapshot(connection, uuid)
    volume = quiet_volume(connection, row.volume_uuid)
    rows = snapshots_of(connection, row.volume_uuid)
    gone = with_descendants(uuid, [(r.uuid, r.parent_uuid) for r in rows])
    stands_on_them = volume.parent_uuid in gone and volume.backing_path is not None
    going = GoingSnapshots(
        volume.uuid,
        host_at(connection, place_of(volume)),
        gone,
        [r.path for r in rows if r.uuid in gone],
        volume.path if stands_on_them else None,
        row.backing_path,
        format_of(row.backing_path) if row.backing_path is not None else FORMAT,
    )
    change_volume(connection, volume.uuid, status="Merging")
    return going


def end_deletion(connection: Connection, uuid: str, going: GoingSnapshots, stands_on: str | None) -> None:
    """Remove the rows of snapshots and give back their room; write what their volume stands on now."""
    row, volume = find(connection, SNAPSHOT, uuid), find(connection, VOLUME, going.volume_uuid)
    if volume.parent_uuid in going.uuids:
        backing = stands_on if going.top is not None else volume.backing_path
        change_volume(connection, volume.uuid, backing_path=backing, parent_uuid=row.parent_uuid)
        _set_latest(connection, volume.uuid, row.parent_uuid)
    for each in going.uuids:
        release(connection, place_of(volume), each)
    connection.execute(delete(snapshot_table).where(snapshot_table.c.uuid.in_(going.uuids)))
    drop_tags(connection, *going.uuids)
    change_volume(connection, volume.uuid, status="Ready")


def with_descendants(uuid: str, parents: list[tuple[str, str | None]]) -> list[str]:
    """Return a snapshot and all that were taken after it; each of `parents` is a snapshot and its parent.

    Parents come before their children in it.
    """
    gone = [uuid]
    for each, parent in parents:
        if parent in gone:
            gone.append(each)
    return gone


def _ready_snapshot(connection: Connection, uuid: str) -> Row[Any]:
    row = find(connection, SNAPSHOT, uuid)
    if row.status != "Ready":
        raise refused(f"snapshot {row.name} ({uuid}) is {row.status}", "wait for the job that works on it")
    return row


def _top(connection: Connection, volume: Row[Any], path: str, disk_format: str) -> Top:
    at = host_at(connection, place_of(volume))
    made_as = driver_of(at.storage.kind.value).disk_format
    return Top(at, folder_in(path, volume.uuid), path, disk_format, volume.size, made_as)


def _move_top(connection: Connection, snapshot: Row[Any], path: str, made: DiskReply) -> None:
    storage = find(connection, PRIMARY_STORAGE, snapshot.primary_storage_uuid)
    change_volume(
        connection,
        snapshot.volume_uuid,
        path=path,
        install_path=shown_path(storage, path),
        format=format_of(path),
        backing_path=snapshot.path,
        parent_uuid=snapshot.uuid,
        status="Ready",
        tree_uuid=snapshot.tree_uuid,
        actual_size=made.actual_size,
    )


def _set_latest(connection: Connection, volume_uuid: str, uuid: str | None) -> None:
    rows = snapshot_table
    mine = rows.c.volume_uuid == volume_uuid
    latest = {"latest": rows.c.uuid == uuid if uuid is not None else False, "last_op_date": now_s()}
    connection.execute(update(rows).where(mine).values(**latest))
