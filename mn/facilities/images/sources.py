"""Where the content of an image is to be had: what primary storages make volumes of."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from agentkit.errors import Blame, HardpointError
from mn.facilities.backup_storage.tables import (
    CEPH_TYPE,
    Store,
    backup_storage_table,
    store_of,
    zone_ref_table,
)
from mn.facilities.ceph.clusters import ClusterPool
from mn.facilities.common import find
from mn.facilities.images.storing import open_image
from mn.facilities.images.tables import IMAGE, ref_table
from mn.rest.services import Job

LIFETIME_S = 24 * 3600.0
"""So long the URL of a source works: a download that takes longer asks again."""


class ImageSource(msgspec.Struct, frozen=True, kw_only=True):
    """An image as a host downloads it.

    `url` is HTTPS and has a token that works until `expires` (seconds since 1970); it takes `Range: bytes=`,
    and its ETag is the SHA-256 in quotes. The server's certificate is of `ca` (PEM). Sizes are bytes: of the
    content, and of the disk in it. `format` is qcow2, raw or iso.
    """

    image_uuid: str
    url: str
    ca: str
    sha256: str
    size: int
    virtual_size: int
    format: str
    expires: float
    origins: list[ClusterPool]
    """Pools of Ceph backup storages that it lies in: what is in the same cluster can be a clone of it."""


async def image_source(job: Job, image_uuid: str, zone_uuid: str) -> ImageSource:
    """Return where an image is to be had for hosts of a zone; takes steps of the job, the same in each run.

    Raises HardpointError: SYS.1003 when there is no such image, SYS.1006 when it is not Ready, is Disabled,
    or lies on no connected and enabled backup storage that is attached to the zone.
    """
    store = await job.transact(choose_store, image_uuid, zone_uuid)
    task = job.task_uuid()
    opened = await job.step(open_image, job.services, store, image_uuid, LIFETIME_S, task)
    held = opened.held
    origins = await job.transact(find_origins, image_uuid, zone_uuid)
    return ImageSource(
        image_uuid=image_uuid,
        url=opened.url,
        ca=job.services.fleet.authority(),
        sha256=held.sha256,
        size=held.size,
        virtual_size=held.virtual_size,
        format=held.image.format,
        expires=opened.expires,
        origins=origins,
    )


def choose_store(connection: Connection, image_uuid: str, zone_uuid: str) -> Store:
    """Return a backup storage of a zone that has an image and can give it; raises as `image_source` does."""
    image = find(connection, IMAGE, image_uuid)
    what = f"image {image.name} ({image_uuid})"
    if image.status != "Ready":
        raise _refused(f"{what} is {image.status}", "wait until it is Ready, or recover it")
    if image.state != "Enabled":
        raise _refused(f"{what} is {image.state}", "enable it (ChangeImageState)")
    rows = _holding(connection, image_uuid, zone_uuid)
    for row in rows:
        if _usable(row):
            return store_of(connection, row)
    if not rows:
        remedy = "attach its backup storage to the zone (AttachBackupStorageToZone)"
        raise _refused(f"{what} lies on no backup storage that is attached to zone {zone_uuid}", remedy)
    states = ", ".join(f"{row.name} ({row.uuid}) is {row.status} and {row.state}" for row in rows)
    raise _refused(f"{what} cannot be had now: backup storage {states}", "reconnect or enable one of them")


def find_origins(connection: Connection, image_uuid: str, zone_uuid: str) -> list[ClusterPool]:
    """Return the pools of Ceph backup storages of a zone that have an image and can give it."""
    rows = _holding(connection, image_uuid, zone_uuid)
    return [ClusterPool(row.fsid, row.pool_name) for row in rows if row.type == CEPH_TYPE and _usable(row)]


def _holding(connection: Connection, image_uuid: str, zone_uuid: str) -> list[Row[Any]]:
    """Return the backup storages of a zone that an image is Ready on."""
    storage, ref, zone = backup_storage_table, ref_table, zone_ref_table
    attached = select(zone.c.backup_storage_uuid).where(zone.c.zone_uuid == zone_uuid)
    holding = select(ref.c.backup_storage_uuid).where(ref.c.image_uuid == image_uuid, ref.c.status == "Ready")
    query = select(storage).where(storage.c.uuid.in_(holding), storage.c.uuid.in_(attached))
    return list(connection.execute(query.order_by(storage.c.seq)))


def _usable(row: Row[Any]) -> bool:
    return (row.status, row.state) == ("Connected", "Enabled")


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
