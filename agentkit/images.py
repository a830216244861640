"""Images as all agents that keep them describe them to the management node."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agentkit.wire import Wire

Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Lifetime = Annotated[float, msgspec.Meta(gt=0, le=366 * 86400)]


class ImageDescription(Wire):
    """What an image is called and taken for; `format` is raw, qcow2 or iso."""

    uuid: Uuid
    name: str
    format: str
    description: str | None = None
    media_type: str = "RootVolumeTemplate"
    platform: str | None = None
    guest_os_type: str | None = None
    system: bool = False
    url: str = ""


class StoredImage(Wire):
    """An image of the store: SHA-256 and size of its content, and the size of the disk in it."""

    image: ImageDescription
    sha256: str
    size_bytes: int
    virtual_bytes: int


class TransferProgress(Wire):
    """How far an import is: bytes; `total_bytes` is None while nobody knows."""

    done_bytes: int
    total_bytes: int | None


class DownloadGrant(Wire):
    """A token for an image, and where to GET it (path and query) until `expires` (seconds since 1970)."""

    path: str
    token: str
    expires: float
    stored: StoredImage
