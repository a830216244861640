"""Every command, reply and event of the storage agent as types: the only module of it that `mn` imports.

Beside the commands the agent serves image contents on the same port, to whoever has a token of it:

- `GET|HEAD /images/{uuid}/{name}?token=` the image, ranges of it by `Range: bytes=`; ETag is its SHA-256
- `GET /manifests/{uuid}?token=` and `GET /chunks/{uuid}/{number}?token=` what another store copies
- `HEAD|PUT /uploads/{uuid}?token=`: header `Upload-Offset` says how many bytes are there; PUT goes on from
  the offset that its own header names, and is answered 409 when that is another one
"""

from __future__ import annotations

from typing import ClassVar

from agentkit.images import DownloadGrant, ImageDescription, Lifetime, StoredImage, TransferProgress, Uuid
from agentkit.wire import Command, Wire

AGENT_PORT = 8000
UPLOAD_OFFSET = "Upload-Offset"


class StoreReport(Wire):
    """The store's folder and its file system. `hash` tells whether anything of it has changed."""

    url: str
    total_bytes: int
    available_bytes: int
    hash: str


class StoreEvent(Wire):
    """Data of a `device` event: what the store is like now."""

    inventory_hash: str
    inventory: StoreReport


class ConnectReply(Wire):
    """The store now belongs to the caller."""

    inventory: StoreReport


class Connect(Command[ConnectReply], tag="connect"):
    """Take the server for `fleet_uuid` as `host_uuid`; its store is in the folder `url`, made if need be.

    Refused: HOST.1003 when another fleet has the server, SYS.1006 when the folder cannot be a store.
    """

    host_uuid: str
    fleet_uuid: str
    url: str


class TakeInventoryReply(Wire):
    """The store, looked at afresh."""

    inventory: StoreReport


class TakeInventory(Command[TakeInventoryReply], tag="takeInventory"):
    """Look at the store again and report it."""


class ListImagesReply(Wire):
    """All images of the store; those that cannot be read are left out and logged."""

    images: list[StoredImage]


class ListImages(Command[ListImagesReply], tag="listImages"):
    """Say which images lie in the store, whoever put them there."""


class ImportImage(Command[StoredImage], tag="importImage"):
    """Bring in an image from `image.url`: http, https, or file on this server.

    An image that is there is left as it is; one that was begun is gone on with. Fails and leaves nothing:
    SYS.1006 when the source cannot be had or is not of the said format, BS.1003 when the store is full. It
    comes from another agent's URL when there is a `source`, whose certificate is checked by the fleet's
    authority, the content by `sha256`.
    """

    takes_long: ClassVar[bool] = True
    image: ImageDescription
    source: str | None = None
    sha256: str | None = None


class CopyImage(Command[StoredImage], tag="copyImage"):
    """Copy an image from another store, moving only chunks that are not here.

    `source` is the other agent's URL, `token` one of its download grants. Fails as ImportImage does.
    """

    takes_long: ClassVar[bool] = True
    image_uuid: Uuid
    source: str
    token: str


class GetTransfer(Command[TransferProgress], tag="getTransfer"):
    """Say how far the import of an image is; one that is not known is at 0."""

    image_uuid: Uuid


class UploadGrant(Wire):
    """Where to PUT an image, path and query."""

    path: str


class BeginUpload(Command[UploadGrant], tag="beginUpload"):
    """Let an image be uploaded by whoever has the reply's path, for `lifetime_s`; the same again goes on."""

    image: ImageDescription
    lifetime_s: Lifetime


class FinishUpload(Command[StoredImage], tag="finishUpload"):
    """Make an image of what was uploaded; refused (SYS.1006) when its size or SHA-256 is another one."""

    takes_long: ClassVar[bool] = True
    image_uuid: Uuid
    size_bytes: int
    sha256: str | None = None


class DropImageReply(Wire):
    """The image is not in the store."""


class DropImage(Command[DropImageReply], tag="dropImage"):
    """End an image's import and exports and take it out; its chunks stay until space is reclaimed."""

    image_uuid: Uuid


class VerifyImageReply(Wire):
    """Digests of the chunks that are missing or damaged, none when the image is whole."""

    damaged: list[str]


class VerifyImage(Command[VerifyImageReply], tag="verifyImage"):
    """Read all of an image and check it."""

    takes_long: ClassVar[bool] = True
    image_uuid: Uuid


class GrantDownload(Command[DownloadGrant], tag="grantDownload"):
    """Let an image be downloaded by whoever has the reply's path, for `lifetime_s`."""

    image_uuid: Uuid
    lifetime_s: Lifetime


class ExportImage(Command[DownloadGrant], tag="exportImage"):
    """The same, until DeleteExport; exported already, it keeps its path and lasts from now on."""

    image_uuid: Uuid
    lifetime_s: Lifetime


class DeleteExportReply(Wire):
    """The export's path leads nowhere."""


class DeleteExport(Command[DeleteExportReply], tag="deleteExport"):
    """End the export of an image; done also when there is none."""

    image_uuid: Uuid


class ReclaimReply(Wire):
    """What collecting garbage came to."""

    freed_bytes: int
    removed_chunks: int
    kept_chunks: int


class ReclaimSpace(Command[ReclaimReply], tag="reclaimSpace"):
    """Remove the chunks that no image and no import needs."""

    takes_long: ClassVar[bool] = True
