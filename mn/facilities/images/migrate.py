"""Moving images between backup storages (manual 4.5.12, 4.5.13)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, delete, select

from agentkit.errors import Blame, HardpointError
from mn.facilities.backup_storage.driver import Held, Opened, driver_of
from mn.facilities.backup_storage.tables import (
    BACKUP_STORAGE,
    Store,
    backup_storage_table,
    store_of,
    zones_of,
)
from mn.facilities.common import find, inventory
from mn.facilities.images.storing import drop_image, open_image, ready_on, teller
from mn.facilities.images.tables import (
    IMAGE,
    add_ref,
    change_image,
    columns_of,
    note_refs,
    ref_table,
    refs_of,
)
from mn.facilities.undoing import undoing
from mn.query.plan import load_one
from mn.rest.operation import Action, Get, Reply
from mn.rest.services import Call, Job, Services
from mn.rest.types import Ref

log = logging.getLogger(__name__)

TIMEOUT_S = 24 * 3600.0
COPY_LIFETIME_S = TIMEOUT_S


class Move(msgspec.Struct, frozen=True):
    """The backup storages of a migration."""

    source: Store
    target: Store


class BackupStorageMigrateImage(
    Action, path="/backup-storage/images/{imageUuid}/actions", reply=IMAGE, timeout_s=TIMEOUT_S
):
    """Move an image to another backup storage (manual 4.5.12): it is copied, checked, then taken away."""

    image_uuid: Ref
    src_backup_storage_uuid: Ref
    dst_backup_storage_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.image_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Copy, switch, take away; until the switch, all goes back when a step fails."""
        services, uuid = job.services, self.image_uuid
        move = await job.transact(
            begin_move, uuid, self.src_backup_storage_uuid, self.dst_backup_storage_uuid, undo=end_move
        )
        task = job.task_uuid()
        opened = await job.step(open_image, services, move.source, uuid, COPY_LIFETIME_S, task)
        task = job.task_uuid()
        tell = teller(job, 0, 95)
        held = await job.step(copy_image, services, move.target, opened, task, tell, undo=undo_copy)
        await job.transact(switch, uuid, move, held)
        task = job.task_uuid()
        await job.step(drop_source, services, move.source, uuid, task)
        return await inventory(services, IMAGE, uuid)


class GetBackupStorageCandidatesForImageMigration(
    Get,
    path="/backup-storage/{srcBackupStorageUuid}/migration-candidates",
    returns={"inventories": Annotated[list[Any], Meta(description="backup storages")]},
):
    """List the backup storages that images of one can be moved to (manual 4.5.13)."""

    src_backup_storage_uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """List connected and enabled ones that share a zone with it."""
        rows = await call.services.db.read(load_candidates, self.src_backup_storage_uuid)
        return {"inventories": [msgspec.Raw(row.encode()) for row in rows]}


def candidates(connection: Connection, source_uuid: str) -> list[str]:
    """Return the uuids of backup storages that images of one can be moved to.

    Raises HardpointError (SYS.1003) when there is no such one.
    """
    find(connection, BACKUP_STORAGE, source_uuid)
    zones = set(zones_of(connection, source_uuid))
    table = backup_storage_table
    fit = (table.c.state == "Enabled") & (table.c.status == "Connected")
    query = select(table.c.uuid).where(fit, table.c.uuid != source_uuid).order_by(table.c.seq)
    return [uuid for uuid in connection.execute(query).scalars() if zones & set(zones_of(connection, uuid))]


def load_candidates(connection: Connection, source_uuid: str) -> list[str]:
    """Return the inventories of the candidates."""
    found = (load_one(connection, BACKUP_STORAGE, uuid) for uuid in candidates(connection, source_uuid))
    return [row for row in found if row is not None]


def begin_move(connection: Connection, image_uuid: str, source_uuid: str, target_uuid: str) -> Move:
    """Make an image Migrating.

    Raises HardpointError: SYS.1007 when it is on the target already or the target is no candidate, BS.1003
    when it does not fit there, and as `ready_on` does.
    """
    source = ready_on(connection, image_uuid, source_uuid)
    target = find(connection, BACKUP_STORAGE, target_uuid)
    image = find(connection, IMAGE, image_uuid)
    where = f"backup storage {target.name} ({target_uuid})"
    if any(ref.backup_storage_uuid == target_uuid for ref in refs_of(connection, image_uuid)):
        raise _bad(f"image {image.name} ({image_uuid}) lies on {where} already", "choose another one")
    if target_uuid not in candidates(connection, source_uuid):
        remedy = "choose one of GetBackupStorageCandidatesForImageMigration"
        raise _bad(f"{where} is not connected and enabled in a common zone", remedy)
    if target.available_capacity < (image.actual_size or 0):
        raise HardpointError(
            "BS.1003",
            "Not enough capacity",
            f"image {image.name} has {image.actual_size} bytes, {where} has {target.available_capacity} left",
            remedy="delete images there and reclaim their space, or choose another backup storage",
            blame=Blame.CALLER,
        )
    change_image(connection, image_uuid, status="Migrating")
    return Move(source, store_of(connection, target))


def end_move(connection: Connection, image_uuid: str, *_: object) -> None:
    """Make an image that stays Ready again."""
    change_image(connection, image_uuid, status="Ready")


async def copy_image(
    services: Services, target: Store, source: Opened, task_uuid: str, tell: Callable[[int], None]
) -> Held:
    """Copy the image; the copy has the checksum of the original, or it is none.

    One that becomes raw on its way is checked by who converts it.
    """
    held = await driver_of(target).copy_image(services, target, source, task_uuid, tell)
    same_format = held.image.format == source.held.image.format
    if same_format and held.sha256 != source.held.sha256:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"image {held.image.uuid} on backup storage {target.name} has another content than the original",
            remedy="delete the image that lies there under the same uuid",
        )
    return held


async def undo_copy(
    services: Services, target: Store, source: Opened, task_uuid: str, _tell: Callable[[int], None]
) -> None:
    """Take the copy, or what there is of it, away."""
    with undoing(services, target.endpoint, task_uuid) as task:
        await drop_image(services, target, source.held.image.uuid, task)


def switch(connection: Connection, image_uuid: str, move: Move, held: Held) -> None:
    """Write that the image lies on the other backup storage now."""
    table = ref_table
    mine = (table.c.image_uuid == image_uuid) & (table.c.backup_storage_uuid == move.source.uuid)
    connection.execute(delete(table).where(mine))
    add_ref(connection, image_uuid, move.target.uuid, "Ready", install_path=held.install_path)
    note_refs(connection, image_uuid)
    change_image(connection, image_uuid, status="Ready", **columns_of(held))


async def drop_source(services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
    """Take the original away; one that cannot be is left, for the image is where it belongs."""
    try:
        await drop_image(services, store, image_uuid, task_uuid)
    except HardpointError as error:
        extra = {"image": image_uuid, "backup_storage": store.uuid, "reason": error.details}
        log.warning("the original of a migrated image was left behind", extra=extra)


def _bad(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)
