"""The driver of Ceph backup storages: it asks an agent beside a monitor."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from agentkit.images import DownloadGrant, ImageDescription, StoredImage
from agentkit.wire import Command
from cephagent import protocol
from mn.db.global_settings import CEPH_IMAGE_KEPT
from mn.facilities.backup_storage.ceph_tables import KIND
from mn.facilities.backup_storage.driver import Held, Opened, Reclaimed, Tell, register
from mn.facilities.backup_storage.following import followed
from mn.facilities.backup_storage.tables import CEPH_TYPE, Store
from mn.facilities.ceph.asking import At, answering, ask, ask_all
from mn.rest.services import Services

R = TypeVar("R")


class CephDriver:
    """Pools of a cluster; see the contract (`Driver`) for the methods."""

    async def import_image(
        self, services: Services, store: Store, image: ImageDescription, task_uuid: str, tell: Tell
    ) -> Held:
        """Bring in an image from its URL."""
        command = protocol.ImportImage(pool=store.pool, image=image)
        return held(store, await _bring(services, store, command, task_uuid, tell))

    async def copy_image(
        self, services: Services, target: Store, source: Opened, task_uuid: str, tell: Tell
    ) -> Held:
        """Have an agent fetch it from the other backup storage's."""
        image, sha256 = source.held.image, source.held.sha256
        command = protocol.ImportImage(pool=target.pool, image=image, source=source.url, sha256=sha256)
        return held(target, await _bring(services, target, command, task_uuid, tell))

    async def drop_image(self, services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
        """Put an image into the pool's trash for as long as the settings say."""
        kept_s = int(services.global_settings[CEPH_IMAGE_KEPT])
        command = protocol.DropImage(pool=store.pool, image_uuid=image_uuid, kept_s=kept_s)
        await _ask(services, store, command, task_uuid)

    async def list_images(self, services: Services, store: Store, task_uuid: str) -> list[Held]:
        """Say which images lie in the pool."""
        _, reply = await _ask(services, store, protocol.ListImages(pool=store.pool), task_uuid)
        return [held(store, stored) for stored in reply.images]

    async def open_image(
        self, services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
    ) -> Opened:
        """Get a token that expires."""
        command = protocol.GrantDownload(pool=store.pool, image_uuid=image_uuid, lifetime_s=lifetime_s)
        return _opened(store, *await _ask(services, store, command, task_uuid))

    async def export_image(
        self, services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
    ) -> Opened:
        """Get the image's own token."""
        command = protocol.ExportImage(pool=store.pool, image_uuid=image_uuid, lifetime_s=lifetime_s)
        return _opened(store, *await _ask(services, store, command, task_uuid))

    async def delete_export(self, services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
        """Take the image's own token back, whichever agent has given it."""
        command = protocol.DeleteExport(pool=store.pool, image_uuid=image_uuid)
        await ask_all(services, KIND, store.uuid, command)

    async def reclaim(self, services: Services, store: Store, task_uuid: str) -> Reclaimed:
        """Empty the trash of what is due."""
        _, reply = await _ask(services, store, protocol.PurgeTrash(pool=store.pool), task_uuid)
        return Reclaimed(reply.freed_bytes)


def held(store: Store, stored: StoredImage) -> Held:
    """Return what an agent says of an image as all backup storages say it."""
    path = f"ceph://{store.pool}/{stored.image.uuid}"
    return Held(stored.image, stored.sha256, stored.size_bytes, stored.virtual_bytes, path)


async def _ask(services: Services, store: Store, command: Command[R], task_uuid: str) -> tuple[At, R]:
    return await ask(services, KIND, store.uuid, command, task_uuid, _agent(store))


async def _bring(
    services: Services, store: Store, command: protocol.ImportImage, task_uuid: str, tell: Tell
) -> StoredImage:
    """Have one agent bring in an image: two would be in each other's way."""
    at = await answering(services, KIND, store.uuid, _agent(store))
    there = msgspec.structs.replace(
        store, hostname=at.address, port=at.port, agent=at.agent, agent_uuid=at.server_uuid
    )
    progress = protocol.GetTransfer(image_uuid=command.image.uuid)
    return await followed(services, there, command, progress, task_uuid, tell)


def _agent(store: Store) -> At:
    return At(store.agent_uuid, store.hostname, store.port, store.agent)


def _opened(store: Store, at: At, grant: DownloadGrant) -> Opened:
    url = f"https://{at.endpoint}{grant.path}"
    return Opened(url, grant.token, grant.expires, held(store, grant.stored))


register(CEPH_TYPE, CephDriver())
