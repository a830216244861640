"""Images go: deleted ones can be recovered until they are expunged."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from agentkit.errors import Blame, HardpointError
from mn.db.global_settings import IMAGE_DELETION, IMAGE_EXPUNGE_PERIOD
from mn.db.schema import new_uuid, now_s
from mn.facilities.backup_storage.tables import Store, connected_store
from mn.facilities.common import DeletionMode, find, inventory
from mn.facilities.images.storing import drop_image
from mn.facilities.images.tables import (
    IMAGE,
    change_image,
    change_ref,
    image_table,
    refs_of,
    remove_image_row,
    remove_ref,
)
from mn.jobs.engine import journalled_locks
from mn.jobs.live import JobRequest
from mn.rest.operation import Action, Delete, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref, Uuid

TIMEOUT_S = 3600.0
DELAY = 0


class DeleteImage(Delete, path="/images/{uuid}", timeout_s=TIMEOUT_S):
    """Delete an image, or take it from some backup storages.

    The global setting image deletionPolicy says whether it can be recovered for a while (RecoverImage).
    """

    uuid: Uuid
    backup_storage_uuids: list[Ref] = msgspec.field(default_factory=list)
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Mark it; with the policy Direct take it out at once. One that does not exist is deleted already."""
        direct = job.services.global_settings[IMAGE_DELETION] != DELAY
        chosen = await job.transact(mark_deleted, self.uuid, self.backup_storage_uuids, direct)
        if chosen.direct:
            await expunge(job, self.uuid, chosen.storage_uuids)
        return {}


class RecoverImage(Action, path="/images/{imageUuid}/actions", reply=IMAGE):
    """Take back the deletion of an image that has not been expunged."""

    image_uuid: Ref
    backup_storage_uuids: list[Ref] = msgspec.field(default_factory=list)

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.image_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the rows."""
        await job.transact(recover, self.image_uuid, self.backup_storage_uuids)
        return await inventory(job.services, IMAGE, self.image_uuid)


class ExpungeImage(Action, path="/images/{imageUuid}/actions", timeout_s=TIMEOUT_S):
    """Take a deleted image out of its backup storages; their space is freed by ReclaimSpaceFromImageStore."""

    image_uuid: Ref
    backup_storage_uuids: list[Ref] = msgspec.field(default_factory=list)

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.image_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Take it out of one backup storage after the other."""
        chosen = await job.transact(find_deleted, self.image_uuid, self.backup_storage_uuids)
        await expunge(job, self.image_uuid, chosen)
        return {}


class Marked(msgspec.Struct, frozen=True):
    """Backup storages that an image was deleted from, and whether it is to be taken out at once."""

    storage_uuids: list[str]
    direct: bool


async def expunge(job: Job, image_uuid: str, storage_uuids: list[str]) -> None:
    """Take an image out of backup storages and forget it there."""
    for storage_uuid in storage_uuids:
        store = await job.transact(reachable, storage_uuid)
        task = job.task_uuid()
        await job.step(drop_image, job.services, store, image_uuid, task)
        await job.transact(remove_ref, image_uuid, storage_uuid)


def reachable(connection: Connection, storage_uuid: str) -> Store:
    """Return a backup storage that can be worked with; raises as `connected_store` does."""
    return connected_store(connection, storage_uuid)


def mark_deleted(connection: Connection, uuid: str, chosen: list[str], direct: bool) -> Marked:
    """Write that an image is deleted from some of its backup storages, from all if none is named."""
    row = connection.execute(select(image_table).where(image_table.c.uuid == uuid)).first()
    if row is None:
        return Marked([], direct=False)
    refs = refs_of(connection, uuid)
    if any(ref.status == "Creating" for ref in refs):
        raise _refused(row.name, uuid, "is being added", "cancel its AddImage job, or wait for it")
    if not refs:
        remove_image_row(connection, uuid)
    mine = [r.backup_storage_uuid for r in refs if not chosen or r.backup_storage_uuid in chosen]
    for storage_uuid in mine:
        change_ref(connection, uuid, storage_uuid, status="Deleted")
    _note_status(connection, uuid)
    return Marked(mine, direct)


def recover(connection: Connection, uuid: str, chosen: list[str]) -> None:
    """Write that an image is Ready on backup storages again. Raises HardpointError: SYS.1003, SYS.1006."""
    for storage_uuid in find_deleted(connection, uuid, chosen):
        change_ref(connection, uuid, storage_uuid, status="Ready")
    _note_status(connection, uuid)


def find_deleted(connection: Connection, uuid: str, chosen: list[str]) -> list[str]:
    """Return the backup storages that an image is deleted from.

    Raises HardpointError: SYS.1003 when there is no such image, SYS.1006 when it is not deleted.
    """
    row = find(connection, IMAGE, uuid)
    deleted = [ref.backup_storage_uuid for ref in refs_of(connection, uuid) if ref.status == "Deleted"]
    mine = [storage_uuid for storage_uuid in deleted if not chosen or storage_uuid in chosen]
    if not mine:
        where = " from these backup storages" if chosen else ""
        raise _refused(row.name, uuid, f"is not deleted{where}", "delete it first (DeleteImage)")
    return mine


def _note_status(connection: Connection, uuid: str) -> None:
    refs = refs_of(connection, uuid)
    if refs and all(ref.status == "Deleted" for ref in refs):
        change_image(connection, uuid, status="Deleted", deleted_at=now_s())
    elif refs:
        change_image(connection, uuid, status="Ready", deleted_at=None)


async def expunge_due(services: Services) -> None:
    """Submit the expunging of images that were deleted long enough ago; what fails is tried again later."""
    before = now_s() - int(services.global_settings[IMAGE_EXPUNGE_PERIOD])
    for uuid in await services.db.read(load_due, before):
        operation = ExpungeImage(image_uuid=uuid)
        request = JobRequest(
            new_uuid(),
            ExpungeImage.spec.name,
            services.codec.encode(operation),
            services.codec.digest(operation),
            journalled_locks(operation.locks()),
            TIMEOUT_S,
            fresh=True,
        )
        await services.engine.submit(request)


def load_due(connection: Connection, before: int) -> list[str]:
    """Return the images that were deleted before a moment."""
    table = image_table
    query = select(table.c.uuid).where(table.c.status == "Deleted", table.c.deleted_at <= before)
    return list(connection.execute(query).scalars())


def _refused(name: str, uuid: str, what: str, remedy: str) -> HardpointError:
    return HardpointError(
        "SYS.1006", "Operation failed", f"image {name} ({uuid}) {what}", remedy=remedy, blame=Blame.CALLER
    )
