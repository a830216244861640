"""Steps of jobs that work on an image's content, on whatever backup storage it lies."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from agentkit.errors import Blame, HardpointError
from agentkit.images import ImageDescription
from mn.facilities.backup_storage.driver import Held, Opened, driver_of
from mn.facilities.backup_storage.tables import Store, connected_store
from mn.facilities.common import find
from mn.facilities.images.tables import IMAGE, refs_of
from mn.facilities.undoing import undoing
from mn.rest.services import Job, Services


def teller(job: Job, begin: int, end: int) -> Callable[[int], None]:
    """Return what shows the percent of an import as the job's, between `begin` and `end`."""

    def tell(percent: int) -> None:
        job.at(begin + (end - begin) * percent // 100)

    return tell


async def import_image(
    services: Services, store: Store, image: ImageDescription, task_uuid: str, tell: Callable[[int], None]
) -> Held:
    """Bring in an image from its URL."""
    return await driver_of(store).import_image(services, store, image, task_uuid, tell)


async def undo_import(
    services: Services, store: Store, image: ImageDescription, task_uuid: str, _tell: Callable[[int], None]
) -> None:
    """Take out what has arrived of an image; ends an import that still runs."""
    with undoing(services, store.endpoint, task_uuid) as task:
        await drop_image(services, store, image.uuid, task)


async def drop_image(services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
    """Take an image out of a backup storage."""
    await driver_of(store).drop_image(services, store, image_uuid, task_uuid)


async def open_image(
    services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
) -> Opened:
    """Let an image be downloaded for a while."""
    return await driver_of(store).open_image(services, store, image_uuid, lifetime_s, task_uuid)


def ready_on(connection: Connection, image_uuid: str, storage_uuid: str) -> Store:
    """Return a backup storage, connected and enabled, that an image is Ready on.

    Raises HardpointError: SYS.1003 when either does not exist, SYS.1006 when the backup storage cannot be
    worked with or the image is not Ready, SYS.1007 when it does not lie there.
    """
    image = find(connection, IMAGE, image_uuid)
    store = connected_store(connection, storage_uuid, enabled=True)
    ref = next((r for r in refs_of(connection, image_uuid) if r.backup_storage_uuid == storage_uuid), None)
    if ref is None:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"image {image.name} ({image_uuid}) does not lie on backup storage {store.name} ({storage_uuid})",
            remedy="see the image's backupStorageRefs",
            blame=Blame.CALLER,
        )
    if (image.status, ref.status) != ("Ready", "Ready"):
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"image {image.name} ({image_uuid}) is {image.status}, and on {store.name} {ref.status}",
            remedy="wait until it is Ready, or recover it (RecoverImage)",
            blame=Blame.CALLER,
        )
    return store
