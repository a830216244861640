"""What the agent does for each command."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from agentkit.commands import InstallCertificate, Release, ReleaseReply
from agentkit.grants import Use
from agentkit.images import DownloadGrant, StoredImage, TransferProgress
from agentkit.owner import Owner
from agentkit.standing import install_certificate
from agentkit.tasks import Handler
from agentkit.wire import Command
from agentkit.working import in_thread
from storageagent.context import Context
from storageagent.protocol import (
    BeginUpload,
    Connect,
    ConnectReply,
    CopyImage,
    DeleteExport,
    DeleteExportReply,
    DropImage,
    DropImageReply,
    ExportImage,
    FinishUpload,
    GetTransfer,
    GrantDownload,
    ImportImage,
    ListImages,
    ListImagesReply,
    ReclaimReply,
    ReclaimSpace,
    TakeInventory,
    TakeInventoryReply,
    UploadGrant,
    VerifyImage,
    VerifyImageReply,
)
from storageagent.sources import OtherStore

log = logging.getLogger(__name__)


async def connect(context: Context, command: Connect) -> ConnectReply:
    """Open the store, then take the server: one whose store cannot be opened is not taken."""
    asking = Owner(command.host_uuid, command.fleet_uuid)
    async with context.owning:
        context.ownership.check(asking)
        await context.open(command.url)
        await context.ownership.take(asking)
    return ConnectReply(inventory=await context.look())


async def release(context: Context, command: Release) -> ReleaseReply:
    """Give the server back; the images stay in their folder."""
    asking = Owner(command.host_uuid, command.fleet_uuid)
    async with context.owning:
        context.ownership.check(asking)
        await context.forget()
        await context.ownership.release(asking)
    return ReleaseReply()


async def take_inventory(context: Context, _command: TakeInventory) -> TakeInventoryReply:
    """Look at the store."""
    return TakeInventoryReply(inventory=await context.look())


async def list_images(context: Context, _command: ListImages) -> ListImagesReply:
    """Read all manifests."""
    images, faults = await asyncio.to_thread(context.repository().images)
    for fault in faults:
        log.error("image cannot be read", extra={"reason": fault.details})
    return ListImagesReply(images=images)


async def import_image(context: Context, command: ImportImage) -> StoredImage:
    """Bring in an image from its URL."""
    stored = await context.transfers.import_from(command, context.authority)
    await context.look()
    return stored


async def copy_image(context: Context, command: CopyImage) -> StoredImage:
    """Bring in an image from another store."""
    source = OtherStore(command.source, command.token, context.authority)
    stored = await context.transfers.copy_from(command.image_uuid, source)
    await context.look()
    return stored


async def get_transfer(context: Context, command: GetTransfer) -> TransferProgress:
    """Say how far an import is."""
    return context.transfers.progress(command.image_uuid)


async def begin_upload(context: Context, command: BeginUpload) -> UploadGrant:
    """Let an image be uploaded."""
    await context.transfers.begin_upload(command.image)
    uuid = command.image.uuid
    token, _ = await asyncio.to_thread(context.grants.give, Use.UPLOAD, uuid, command.lifetime_s)
    return UploadGrant(path=f"/uploads/{uuid}?token={token}")


async def finish_upload(context: Context, command: FinishUpload) -> StoredImage:
    """Make an image of what was uploaded."""
    stored = await context.transfers.finish_upload(command.image_uuid, command.size_bytes, command.sha256)
    await context.look()
    return stored


async def drop_image(context: Context, command: DropImage) -> DropImageReply:
    """Take an image out."""
    await asyncio.to_thread(context.grants.end_export, command.image_uuid)
    await context.transfers.drop(command.image_uuid)
    return DropImageReply()


async def verify_image(context: Context, command: VerifyImage) -> VerifyImageReply:
    """Read all of an image."""
    damaged = await in_thread(context.repository().verify, command.image_uuid)
    return VerifyImageReply(damaged=damaged)


async def grant_download(context: Context, command: GrantDownload) -> DownloadGrant:
    """Give a token for an image."""
    stored = await asyncio.to_thread(context.repository().manifests.read, command.image_uuid)
    token, expires = await asyncio.to_thread(
        context.grants.give, Use.DOWNLOAD, command.image_uuid, command.lifetime_s
    )
    return _grant(stored, token, expires)


async def export_image(context: Context, command: ExportImage) -> DownloadGrant:
    """Give the image's own token."""
    stored = await asyncio.to_thread(context.repository().manifests.read, command.image_uuid)
    export = await asyncio.to_thread(context.grants.export, command.image_uuid, command.lifetime_s)
    return _grant(stored, export.token, export.expires)


async def delete_export(context: Context, command: DeleteExport) -> DeleteExportReply:
    """Take the image's own token back."""
    await asyncio.to_thread(context.grants.end_export, command.image_uuid)
    return DeleteExportReply()


async def reclaim_space(context: Context, _command: ReclaimSpace) -> ReclaimReply:
    """Collect garbage."""
    reply = await in_thread(context.repository().collect)
    await context.look()
    return reply


def _grant(stored: StoredImage, token: str, expires: float) -> DownloadGrant:
    image = stored.image
    path = f"/images/{image.uuid}/{image.uuid}.{image.format}?token={token}"
    return DownloadGrant(path=path, token=token, expires=expires, stored=stored)


HANDLERS: dict[type[Command[Any]], Handler[Context]] = {
    Connect: connect,
    Release: release,
    TakeInventory: take_inventory,
    InstallCertificate: install_certificate,
    ListImages: list_images,
    ImportImage: import_image,
    CopyImage: copy_image,
    GetTransfer: get_transfer,
    BeginUpload: begin_upload,
    FinishUpload: finish_upload,
    DropImage: drop_image,
    VerifyImage: verify_image,
    GrantDownload: grant_download,
    ExportImage: export_image,
    DeleteExport: delete_export,
    ReclaimSpace: reclaim_space,
}
RERUNNABLE: frozenset[type[Command[Any]]] = frozenset(HANDLERS)
"""Commands that do no harm when a restart interrupted them and they are run again."""
