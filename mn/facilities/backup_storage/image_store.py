"""The driver of image stores: it asks the storage agent on their server."""

from __future__ import annotations

from agentkit.images import DownloadGrant, ImageDescription, StoredImage
from mn.facilities.backup_storage.driver import Held, Opened, Reclaimed, Tell, register
from mn.facilities.backup_storage.following import done, followed
from mn.facilities.backup_storage.tables import IMAGE_STORE_TYPE, Store
from mn.rest.services import Services
from storageagent import protocol

SCHEME = "zstore://"


class ImageStoreDriver:
    """Image stores; see the contract (`Driver`) for the methods."""

    async def import_image(
        self, services: Services, store: Store, image: ImageDescription, task_uuid: str, tell: Tell
    ) -> Held:
        """Bring in an image from its URL."""
        command = protocol.ImportImage(image=image)
        progress = protocol.GetTransfer(image_uuid=image.uuid)
        return _held(await followed(services, store, command, progress, task_uuid, tell))

    async def copy_image(
        self, services: Services, target: Store, source: Opened, task_uuid: str, tell: Tell
    ) -> Held:
        """Have the store fetch what it lacks from the other one, all of it from one of another type."""
        uuid = source.held.image.uuid
        progress = protocol.GetTransfer(image_uuid=uuid)
        if not source.held.install_path.startswith(SCHEME):
            command = protocol.ImportImage(
                image=source.held.image, source=source.url, sha256=source.held.sha256
            )
            return _held(await followed(services, target, command, progress, task_uuid, tell))
        base = source.url.partition("/images/")[0]
        copy = protocol.CopyImage(image_uuid=uuid, source=base, token=source.token)
        return _held(await followed(services, target, copy, progress, task_uuid, tell))

    async def drop_image(self, services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
        """Take an image out; its space is freed by `reclaim`."""
        await done(services, store, protocol.DropImage(image_uuid=image_uuid), task_uuid)

    async def list_images(self, services: Services, store: Store, task_uuid: str) -> list[Held]:
        """Say which images lie there."""
        reply = await done(services, store, protocol.ListImages(), task_uuid)
        return [_held(stored) for stored in reply.images]

    async def open_image(
        self, services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
    ) -> Opened:
        """Get a token that expires."""
        command = protocol.GrantDownload(image_uuid=image_uuid, lifetime_s=lifetime_s)
        return _opened(store, await done(services, store, command, task_uuid))

    async def export_image(
        self, services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
    ) -> Opened:
        """Get the image's own token."""
        command = protocol.ExportImage(image_uuid=image_uuid, lifetime_s=lifetime_s)
        return _opened(store, await done(services, store, command, task_uuid))

    async def delete_export(self, services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
        """Take the image's own token back."""
        await done(services, store, protocol.DeleteExport(image_uuid=image_uuid), task_uuid)

    async def reclaim(self, services: Services, store: Store, task_uuid: str) -> Reclaimed:
        """Have garbage collected."""
        reply = await done(services, store, protocol.ReclaimSpace(), task_uuid)
        return Reclaimed(reply.freed_bytes)


def _held(stored: StoredImage) -> Held:
    path = f"{SCHEME}{stored.image.uuid}/{stored.sha256}"
    return Held(stored.image, stored.sha256, stored.size_bytes, stored.virtual_bytes, path)


def _opened(store: Store, grant: DownloadGrant) -> Opened:
    return Opened(f"https://{store.endpoint}{grant.path}", grant.token, grant.expires, _held(grant.stored))


register(IMAGE_STORE_TYPE, ImageStoreDriver())
