"""Images on primary storages: brought there once, below all volumes that are made of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    String,
    Table,
    UniqueConstraint,
    delete,
    insert,
    select,
    update,
)

from agentkit.errors import HardpointError
from kvmagent.protocol_ceph import SOURCE
from kvmagent.protocol_storage import FetchFile
from mn.db.global_settings import GlobalSettings
from mn.db.schema import date_columns, identity_columns, metadata, new_uuid, now_s, uuid_column
from mn.facilities.common import find
from mn.facilities.primary_storage.capacity import Place, release, reserve
from mn.facilities.primary_storage.connecting import HostPlace, host_at
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.leaving import when_place_goes
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.primary_storage.tables import IMAGE_CACHE, PRIMARY_STORAGE
from mn.facilities.primary_storage.working import on_disk, remove_files, try_to_remove
from mn.rest.operation import Action, Reply
from mn.rest.services import Job
from mn.rest.types import Ref

QCOW2 = "qcow2"
READY, COMING, GOING = "Ready", "Coming", "Going"

image_cache_table = Table(
    "image_cache",
    metadata,
    *identity_columns("cached image"),
    uuid_column("image_uuid", nullable=False, index=True, comment="UUID of the image"),
    uuid_column(
        "primary_storage_uuid", ForeignKey("primary_storage.uuid", ondelete="CASCADE"), nullable=False
    ),
    Column("place", String(65), nullable=False),
    uuid_column("host_uuid"),
    Column("state", String(16), nullable=False),
    *date_columns(),
    UniqueConstraint("image_uuid", "place"),
)
"""`place` is the storage, with the host of a local one: it makes rows unique, which a null would not."""

Users = Callable[[Connection, Place], set[str]]
"""Says which images something at a place stands on."""

_users: list[Users] = []


def images_used_by(users: Users) -> None:
    """Have images stay in the cache while `users` names them."""
    _users.append(users)


class ImageToCache(msgspec.Struct, frozen=True):
    """An image to be fetched: `size` bytes come, `ca` is the server's authority (PEM).

    It takes `takes` bytes of the storage, None: as many as come.
    """

    uuid: str
    url: str
    sha256: str
    size: int
    virtual_size: int
    format: str
    ca: str | None = None
    takes: int | None = None


def cached_path(image_uuid: str, disk_format: str) -> str:
    """Return where an image is in a storage."""
    return f"imagecache/template/{image_uuid}/{image_uuid}.{disk_format}"


async def bring_image(job: Job, place: Place, at: HostPlace, image: ImageToCache) -> str:
    """Have an image in the cache of a place; return its path. What uses it is in the database already.

    Raises HardpointError: PS.1000 for too little room, SYS.1006 when it cannot be had.
    """
    settings = job.services.global_settings
    kept_as = driver_of(at.storage.kind.value).cached_format(image.format)
    path = cached_path(image.uuid, kept_as)
    if kept_as != image.format:
        image = msgspec.structs.replace(image, takes=image.virtual_size)
    there = await job.transact(begin_caching, place, image, settings)
    if not there:
        command = FetchFile(
            storage=at.storage,
            path=path,
            url=image.url,
            size=image.size,
            sha256=image.sha256,
            format=kept_as,
            ca=image.ca,
            source_format=image.format if image.format == QCOW2 else None,
        )
        try:
            await on_disk(job, at, command)
        except HardpointError:
            if await job.transact(give_up_caching, place, image.uuid):
                begun = [f"{path}.partial", f"{path}{SOURCE}"]
                await job.step(try_to_remove, job.services, at, begun, None)
            raise
        await job.transact(end_caching, place, image.uuid)
    return path


def begin_caching(
    connection: Connection, place: Place, image: ImageToCache, settings: GlobalSettings
) -> bool:
    """Say whether an image is there; when not, note that it comes and reserve room for it."""
    row = connection.execute(select(image_cache_table).where(_row(place, image.uuid))).first()
    if row is not None and row.state == GOING:
        raise refused(f"image {image.uuid} is being removed from the cache", "try again")
    if row is not None:
        return bool(row.state == READY)
    reserve(connection, place, image.uuid, IMAGE_CACHE, image.takes or image.size, settings)
    add_cached(connection, place, image.uuid, COMING)
    return False


def add_cached(connection: Connection, place: Place, image_uuid: str, state: str) -> None:
    """Note an image of the cache."""
    now = now_s()
    values = {
        "uuid": new_uuid(),
        "image_uuid": image_uuid,
        "primary_storage_uuid": place.storage_uuid,
        "place": _key(place),
        "host_uuid": place.host_uuid,
        "state": state,
    }
    connection.execute(insert(image_cache_table), {**values, "create_date": now, "last_op_date": now})


def end_caching(connection: Connection, place: Place, image_uuid: str) -> None:
    """Note that an image is there."""
    _set_state(connection, place, image_uuid, READY)


def give_up_caching(connection: Connection, place: Place, image_uuid: str) -> bool:
    """Forget an image that did not come, unless another job has brought it; say whether it is forgotten."""
    row = connection.execute(select(image_cache_table).where(_row(place, image_uuid))).first()
    if row is None or row.state != COMING:
        return False
    forget_cached(connection, place, image_uuid)
    return True


def forget_cached(connection: Connection, place: Place, image_uuid: str) -> None:
    """Forget an image of the cache and give back its room."""
    connection.execute(delete(image_cache_table).where(_row(place, image_uuid)))
    release(connection, place, image_uuid)


def is_cached(connection: Connection, place: Place, image_uuid: str) -> bool:
    """Say whether an image is in the cache of a place."""
    where = _row(place, image_uuid) & (image_cache_table.c.state == READY)
    return connection.execute(select(image_cache_table.c.uuid).where(where)).first() is not None


class CleanUpImageCacheOnPrimaryStorage(Action, path="/primary-storage/{uuid}/actions"):
    """Remove the cached images that no volume stands on (manual 4.4.10)."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Mark them, so that nothing new is made of them, then remove them."""
        for unused in await job.transact(mark_unused, self.uuid):
            folder = f"imagecache/template/{unused.image_uuid}"
            await job.step(remove_files, job.services, unused.at, [folder], None)
            await job.transact(forget_cached, unused.place, unused.image_uuid)
        return {}


class Unused(msgspec.Struct, frozen=True):
    """A cached image that nothing stands on."""

    image_uuid: str
    place: Place
    at: HostPlace


def mark_unused(connection: Connection, storage_uuid: str) -> list[Unused]:
    """Mark the images that nothing stands on and whose host can be asked. Raises HardpointError for none."""
    find(connection, PRIMARY_STORAGE, storage_uuid)
    table, found = image_cache_table, []
    mine = (table.c.primary_storage_uuid == storage_uuid) & (table.c.state != COMING)
    for row in connection.execute(select(table).where(mine).order_by(table.c.seq)).all():
        place = Place(storage_uuid, row.host_uuid)
        if any(row.image_uuid in users(connection, place) for users in _users):
            continue
        try:
            at = host_at(connection, place)
        except HardpointError:
            continue
        _set_state(connection, place, row.image_uuid, GOING)
        found.append(Unused(row.image_uuid, place, at))
    return found


def _set_state(connection: Connection, place: Place, image_uuid: str, state: str) -> None:
    values = {"state": state, "last_op_date": now_s()}
    connection.execute(update(image_cache_table).where(_row(place, image_uuid)).values(**values))


def _row(place: Place, image_uuid: str) -> ColumnElement[bool]:
    table = image_cache_table.c
    return (table.image_uuid == image_uuid) & (table.place == _key(place))


def _key(place: Place) -> str:
    return f"{place.storage_uuid}/{place.host_uuid}" if place.host_uuid else place.storage_uuid


def _forget_place(connection: Connection, place: Place) -> None:
    table = image_cache_table.c
    mine = table.primary_storage_uuid == place.storage_uuid
    if place.host_uuid is not None:
        mine = table.place == _key(place)
    connection.execute(delete(image_cache_table).where(mine))


when_place_goes(_forget_place)
