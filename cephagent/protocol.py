"""Every command, reply and event of the Ceph agent as types: the only module of it that `mn` imports.

Beside the commands the agent serves image contents on the same port, to whoever has a token of it:
`GET|HEAD /images/{pool}/{uuid}/{name}?token=`, ranges by `Range: bytes=`; the ETag is the content's SHA-256.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from agentkit.images import DownloadGrant, ImageDescription, Lifetime, StoredImage, TransferProgress, Uuid
from agentkit.wire import Command, Wire

AGENT_PORT = 7762

PoolName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,126}$(?!\n)")]
"""What `rbd:` addresses and image names can have without being taken for something else."""


class MonReport(Wire):
    """A monitor of the cluster; `address` is an IP address, `port` that of the older protocol."""

    name: str
    address: str
    port: int
    in_quorum: bool


class PoolReport(Wire):
    """A pool, in bytes of content: copies are taken off. `is_full`: nothing can be written to it."""

    name: str
    replicated_size: int
    used_bytes: int
    available_bytes: int
    is_full: bool = False


class ClusterReport(Wire):
    """The cluster as its monitor has it; `hash` tells whether anything of it has changed.

    `reason` says why the monitors do not answer; the rest is then as it was before. `addresses` are this
    server's own.
    """

    fsid: str
    health: str
    mons: list[MonReport]
    pools: list[PoolReport]
    addresses: list[str]
    total_bytes: int
    available_bytes: int
    reason: str | None
    hash: str


class ClusterEvent(Wire):
    """Data of a `device` event: what the cluster is like now."""

    inventory_hash: str
    inventory: ClusterReport


class ConnectReply(Wire):
    """The server now belongs to the caller."""

    inventory: ClusterReport


class Connect(Command[ConnectReply], tag="connect"):
    """Take the server for `fleet_uuid` as `host_uuid`.

    Refused: HOST.1003 when another fleet has the server, SYS.1006 when no cluster answers here.
    """

    host_uuid: str
    fleet_uuid: str


class TakeInventoryReply(Wire):
    """The cluster, looked at afresh."""

    inventory: ClusterReport


class TakeInventory(Command[TakeInventoryReply], tag="takeInventory"):
    """Look at the cluster again and report it."""


class AddPoolReply(Wire):
    """The pool, and the cluster with it."""

    pool: PoolReport
    inventory: ClusterReport


class AddPool(Command[AddPoolReply], tag="addPool"):
    """Make a pool for RBD images as `owner`, or find it.

    Refused (SYS.1006): with `create`, a pool that somebody else has made; without, one that is not there.
    """

    pool: PoolName
    owner: str
    create: bool


class RemovePoolReply(Wire):
    """The pool is not there, or is not the caller's."""

    removed: bool


class RemovePool(Command[RemovePoolReply], tag="removePool"):
    """Remove a pool that `owner` has made, with all that is in it; any other stays."""

    pool: PoolName
    owner: str


class KeyReply(Wire):
    """A client of the cluster and its key; `mons` are what `mon_host` takes."""

    user: str
    key: str
    fsid: str
    mons: list[str]


class GiveKey(Command[KeyReply], tag="giveKey"):
    """Give a client that may read and write images of `pools`, and read those of `readable`, nothing else.

    A client that is there keeps its key and may do what is said now.
    """

    user: PoolName
    pools: list[PoolName]
    readable: list[PoolName]


class TakeKeyReply(Wire):
    """The client has no key."""


class TakeKey(Command[TakeKeyReply], tag="takeKey"):
    """Take a client's key; done also when it has none."""

    user: PoolName


class RetireKeyReply(Wire):
    """Whether the client has no key any more; it keeps it while somebody uses it, or that is not known."""

    retired: bool


class RetireKey(Command[RetireKeyReply], tag="retireKey"):
    """Take a client's key unless one of the monitors has a session of it: each open image has one.

    All monitors have to be asked, twice: a session that moves from one to another is at none for a moment.
    """

    user: PoolName


class ListImagesReply(Wire):
    """All images of a pool; those that no fleet has described are left out."""

    images: list[StoredImage]


class ListImages(Command[ListImagesReply], tag="listImages"):
    """Say which images lie in a pool, whoever put them there."""

    pool: PoolName


class ImportImage(Command[StoredImage], tag="importImage"):
    """Bring in an image from `image.url`: http, https, or file on this server; a qcow2 one becomes raw.

    An image that is there is left as it is. Fails and leaves nothing: SYS.1006 when the source cannot be had
    or is not of the said format, BS.1003 when the cluster is full. It comes from another agent's URL
    when there is a `source`, whose certificate is checked by the fleet's authority, the content by `sha256`.
    """

    takes_long: ClassVar[bool] = True
    pool: PoolName
    image: ImageDescription
    source: str | None = None
    sha256: str | None = None


class GetTransfer(Command[TransferProgress], tag="getTransfer"):
    """Say how far the import of an image is; one that is not known is at 0."""

    image_uuid: Uuid


class DropImageReply(Wire):
    """The image is not among the pool's."""


class DropImage(Command[DropImageReply], tag="dropImage"):
    """End an image's import and exports, and put it into the pool's trash; what was begun of it goes.

    It stays there for `kept_s`, and as long as volumes are clones of it.
    """

    pool: PoolName
    image_uuid: Uuid
    kept_s: int


class PurgeTrashReply(Wire):
    """How many images were removed for good, and the bytes that they may have taken."""

    removed: int
    freed_bytes: int


class PurgeTrash(Command[PurgeTrashReply], tag="purgeTrash"):
    """Remove what has been in a pool's trash for its time and is below nothing."""

    takes_long: ClassVar[bool] = True
    pool: PoolName


class DropClonesReply(Wire):
    """How many images were removed."""

    removed: int


class DropClones(Command[DropClonesReply], tag="dropClones"):
    """Empty the trash of `pools`, and remove images there that are clones of images of other pools.

    What these were clones of goes, too, when it has been in its pool's trash for its time. What others are
    clones of stays.
    """

    takes_long: ClassVar[bool] = True
    pools: list[PoolName]


class GrantDownload(Command[DownloadGrant], tag="grantDownload"):
    """Let an image be downloaded by whoever has the reply's path, for `lifetime_s`."""

    pool: PoolName
    image_uuid: Uuid
    lifetime_s: Lifetime


class ExportImage(Command[DownloadGrant], tag="exportImage"):
    """The same, until DeleteExport; exported already, it keeps its path and lasts from now on."""

    pool: PoolName
    image_uuid: Uuid
    lifetime_s: Lifetime


class DeleteExportReply(Wire):
    """The export's path leads nowhere."""


class DeleteExport(Command[DeleteExportReply], tag="deleteExport"):
    """End the export of an image; done also when there is none."""

    pool: PoolName
    image_uuid: Uuid
