"""Exports of images (manual 4.5.8, 4.5.9): a URL that works until it expires or is deleted."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from sqlalchemy import Connection

from mn.db.global_settings import EXPORT_LIFETIME
from mn.facilities.backup_storage.driver import Opened, driver_of
from mn.facilities.backup_storage.tables import Store, connected_store
from mn.facilities.common import find
from mn.facilities.images.storing import ready_on
from mn.facilities.images.tables import IMAGE, change_ref
from mn.facilities.undoing import undoing
from mn.rest.operation import Action, Delete, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref, Uuid


class ExportImageFromBackupStorage(
    Action,
    path="/backup-storage/{backupStorageUuid}/actions",
    returns={"imageUrl": Annotated[str, Meta(description="HTTPS URL of the image; whoever knows it has it")]},
):
    """Let an image be downloaded by its URL (manual 4.5.8); exported already, its URL is renewed.

    The global setting backupStorage export.lifetime says how long the URL works.
    """

    backup_storage_uuid: Ref
    image_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.image_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Get the URL, note it."""
        store = await job.transact(find_store, self.image_uuid, self.backup_storage_uuid)
        lifetime_s = await job.transact(read_lifetime, job.services.global_settings[EXPORT_LIFETIME])
        task = job.task_uuid()
        opened = await job.step(
            export_image, job.services, store, self.image_uuid, lifetime_s, task, undo=undo_export
        )
        await job.transact(note_export, self.image_uuid, store.uuid, opened.url)
        return {"imageUrl": opened.url}


class DeleteExportedImageFromBackupStorage(
    Delete, path="/backup-storage/{backupStorageUuid}/exported-images/{imageUuid}"
):
    """End the export of an image (manual 4.5.9); done also when it is not exported."""

    backup_storage_uuid: Uuid
    image_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.image_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Take the URL back, note it."""
        store = await job.transact(find_any, self.image_uuid, self.backup_storage_uuid)
        task = job.task_uuid()
        await job.step(delete_export, job.services, store, self.image_uuid, task)
        await job.transact(note_export, self.image_uuid, store.uuid, None)
        return {}


def find_store(connection: Connection, image_uuid: str, storage_uuid: str) -> Store:
    """Return the backup storage that exports; raises as `ready_on` does."""
    return ready_on(connection, image_uuid, storage_uuid)


def find_any(connection: Connection, image_uuid: str, storage_uuid: str) -> Store:
    """Return the backup storage of an export. Raises HardpointError: SYS.1003, or SYS.1006 for a lost one."""
    find(connection, IMAGE, image_uuid)
    return connected_store(connection, storage_uuid)


def read_lifetime(_connection: Connection, seconds: float) -> float:
    """Return the setting as it is when the job begins."""
    return seconds


def note_export(connection: Connection, image_uuid: str, storage_uuid: str, url: str | None) -> None:
    """Write where an image is exported."""
    change_ref(connection, image_uuid, storage_uuid, export_url=url)


async def export_image(
    services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
) -> Opened:
    """Have the image exported."""
    return await driver_of(store).export_image(services, store, image_uuid, lifetime_s, task_uuid)


async def undo_export(
    services: Services, store: Store, image_uuid: str, _lifetime_s: float, task_uuid: str
) -> None:
    """End an export that nobody was told of."""
    with undoing(services, store.endpoint, task_uuid) as task:
        await delete_export(services, store, image_uuid, task)


async def delete_export(services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
    """Have the export ended."""
    await driver_of(store).delete_export(services, store, image_uuid, task_uuid)
