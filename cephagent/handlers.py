"""What the agent does for each command."""

from __future__ import annotations

import asyncio
from typing import Any

from agentkit.commands import InstallCertificate, Release
from agentkit.grants import Use
from agentkit.images import DownloadGrant, StoredImage, TransferProgress
from agentkit.owner import Owner
from agentkit.standing import install_certificate, release
from agentkit.tasks import Handler
from agentkit.wire import Command
from cephagent import parsing
from cephagent.context import Context
from cephagent.protocol import (
    AddPool,
    AddPoolReply,
    Connect,
    ConnectReply,
    DeleteExport,
    DeleteExportReply,
    DropClones,
    DropClonesReply,
    DropImage,
    DropImageReply,
    ExportImage,
    GetTransfer,
    GiveKey,
    GrantDownload,
    ImportImage,
    KeyReply,
    ListImages,
    ListImagesReply,
    PurgeTrash,
    PurgeTrashReply,
    RemovePool,
    RemovePoolReply,
    RetireKey,
    RetireKeyReply,
    TakeInventory,
    TakeInventoryReply,
    TakeKey,
    TakeKeyReply,
)


async def connect(context: Context, command: Connect) -> ConnectReply:
    """Look at the cluster, then take the server: one without a cluster is not taken."""
    asking = Owner(command.host_uuid, command.fleet_uuid)
    async with context.owning:
        context.ownership.check(asking)
        report = await context.look()
        await context.ownership.take(asking)
    return ConnectReply(inventory=report)


async def take_inventory(context: Context, _command: TakeInventory) -> TakeInventoryReply:
    """Look at the cluster."""
    return TakeInventoryReply(inventory=await context.look())


async def add_pool(context: Context, command: AddPool) -> AddPoolReply:
    """Make or find a pool."""
    await context.ceph.add_pool(command.pool, command.owner, create=command.create)
    report = await context.look()
    return AddPoolReply(pool=parsing.pool_named(report, command.pool), inventory=report)


async def remove_pool(context: Context, command: RemovePool) -> RemovePoolReply:
    """Remove a pool of the caller's."""
    return RemovePoolReply(removed=await context.ceph.remove_pool(command.pool, command.owner))


async def give_key(context: Context, command: GiveKey) -> KeyReply:
    """Make a client."""
    return await context.ceph.give_key(command.user, command.pools, command.readable)


async def take_key(context: Context, command: TakeKey) -> TakeKeyReply:
    """Remove a client."""
    await context.ceph.take_key(command.user)
    return TakeKeyReply()


async def retire_key(context: Context, command: RetireKey) -> RetireKeyReply:
    """Remove a client that nobody is."""
    return RetireKeyReply(retired=await context.ceph.retire_key(command.user))


async def list_images(context: Context, command: ListImages) -> ListImagesReply:
    """Read all descriptions."""
    return ListImagesReply(images=await context.images.all(command.pool))


async def import_image(context: Context, command: ImportImage) -> StoredImage:
    """Bring in an image."""
    return await context.images.bring(command)


async def get_transfer(context: Context, command: GetTransfer) -> TransferProgress:
    """Say how far an import is."""
    return context.images.progress(command.image_uuid)


async def drop_image(context: Context, command: DropImage) -> DropImageReply:
    """Take an image out."""
    await asyncio.to_thread(context.grants.end_export, _subject(command.pool, command.image_uuid))
    await context.images.drop(command)
    return DropImageReply()


async def purge_trash(context: Context, command: PurgeTrash) -> PurgeTrashReply:
    """Remove what is due."""
    return await context.images.purge(command.pool)


async def drop_clones(context: Context, command: DropClones) -> DropClonesReply:
    """Remove clones of other pools' images."""
    return DropClonesReply(removed=await context.images.drop_clones(command.pools))


async def grant_download(context: Context, command: GrantDownload) -> DownloadGrant:
    """Give a token for an image."""
    stored = await context.images.stored(command.pool, command.image_uuid)
    subject = _subject(command.pool, command.image_uuid)
    token, expires = await asyncio.to_thread(context.grants.give, Use.DOWNLOAD, subject, command.lifetime_s)
    return _grant(command.pool, stored, token, expires)


async def export_image(context: Context, command: ExportImage) -> DownloadGrant:
    """Give the image's own token."""
    stored = await context.images.stored(command.pool, command.image_uuid)
    subject = _subject(command.pool, command.image_uuid)
    export = await asyncio.to_thread(context.grants.export, subject, command.lifetime_s)
    return _grant(command.pool, stored, export.token, export.expires)


async def delete_export(context: Context, command: DeleteExport) -> DeleteExportReply:
    """Take the image's own token back."""
    await asyncio.to_thread(context.grants.end_export, _subject(command.pool, command.image_uuid))
    return DeleteExportReply()


def _subject(pool: str, uuid: str) -> str:
    """Return what tokens of an image are for."""
    return f"{pool}/{uuid}"


def _grant(pool: str, stored: StoredImage, token: str, expires: float) -> DownloadGrant:
    image = stored.image
    path = f"/images/{pool}/{image.uuid}/{image.uuid}.{image.format}?token={token}"
    return DownloadGrant(path=path, token=token, expires=expires, stored=stored)


HANDLERS: dict[type[Command[Any]], Handler[Context]] = {
    Connect: connect,
    Release: release,
    TakeInventory: take_inventory,
    InstallCertificate: install_certificate,
    AddPool: add_pool,
    RemovePool: remove_pool,
    GiveKey: give_key,
    TakeKey: take_key,
    RetireKey: retire_key,
    ListImages: list_images,
    ImportImage: import_image,
    GetTransfer: get_transfer,
    DropImage: drop_image,
    PurgeTrash: purge_trash,
    DropClones: drop_clones,
    GrantDownload: grant_download,
    ExportImage: export_image,
    DeleteExport: delete_export,
}
RERUNNABLE: frozenset[type[Command[Any]]] = frozenset(HANDLERS)
"""Commands that do no harm when a restart interrupted them and they are run again."""
