"""Images on primary storages: brought there once, below all volumes that are made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from agentkit.wire import Command
from kvmagent.protocol_ceph import SOURCE, backup_name
from kvmagent.protocol_storage import CreateDisk, DiskReply, FetchFile, StorageSpec
from mn.db.global_settings import GlobalSettings
from mn.db.schema import date_columns, identity_columns, metadata, new_uuid, now_s, uuid_column
from mn.facilities.ceph.clusters import ClusterPool
from mn.facilities.common import find
from mn.facilities.primary_storage.capacity import Place, release, reserve
from mn.facilities.primary_storage.connecting import HostPlace, host_at
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.leaving import when_place_goes
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.primary_storage.tables import IMAGE_CACHE, PRIMARY_STORAGE
from mn.facilities.primary_storage.working import on_disk, remove_what_can_go, try_to_remove
from mn.rest.operation import Action, Reply
from mn.rest.services import Job
from mn.rest.types import Ref

QCOW2 = "qcow2"
READY, COMING, GOING, LEFT = "Ready", "Coming", "Going", "Left"
"""Left: removed by name, but in the storage's trash still, as something else there stands on it."""

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
    Column("origin_pool", String(128)),
    *date_columns(),
    UniqueConstraint("image_uuid", "place"),
)
"""`place` is the storage, with the host of a local one: it makes rows unique, which a null would not.
`origin_pool` is the pool of a backup storage in the same Ceph cluster whose image it is a clone of.
"""

Users = Callable[[Connection, Place], set[str]]
"""Says which images something at a place stands on."""

_users: list[Users] = []


def images_used_by(users: Users) -> None:
    """Have images stay in the cache while `users` names them."""
    _users.append(users)


_bringing: Counter[tuple[str, str]] = Counter()
"""How many jobs of this node bring an image to a place, by the key of the place and the image's uuid."""


class ImageToCache(msgspec.Struct, frozen=True):
    """An image to be fetched: `size` bytes come, `ca` is the server's authority (PEM).

    It takes `takes` bytes of the storage, None: as many as come. It lies in the pools `origins`, too.
    """

    uuid: str
    url: str
    sha256: str
    size: int
    virtual_size: int
    format: str
    ca: str | None = None
    takes: int | None = None
    origins: list[ClusterPool] = []


def cached_path(image_uuid: str, disk_format: str) -> str:
    """Return where an image is in a storage."""
    return f"imagecache/template/{image_uuid}/{image_uuid}.{disk_format}"


async def bring_image(job: Job, place: Place, at: HostPlace, image: ImageToCache) -> str:
    """Have an image in the cache of a place; return its path. What uses it is in the database already.

    Raises HardpointError: PS.1000 for too little room, SYS.1006 when it cannot be had.
    """
    driver = driver_of(at.storage.kind.value)
    kept_as = driver.cached_format(image.format)
    path, origin = cached_path(image.uuid, kept_as), origin_of(image, at.storage)
    if origin is not None:
        image = msgspec.structs.replace(image, takes=0)
    elif kept_as != image.format:
        image = msgspec.structs.replace(image, takes=image.virtual_size)
    settings = job.services.global_settings
    with _counted(place, image.uuid):
        if not await job.transact(begin_caching, place, image, settings, origin):
            try:
                if origin is not None:
                    await job.step(driver.let_read_origins, job.services, place.storage_uuid)
                await on_disk(job, at, command_for(at.storage, path, kept_as, image, origin))
            except HardpointError:
                if await job.transact(give_up_caching, place, image.uuid):
                    begun = [f"{path}.partial", f"{path}{SOURCE}"]
                    await job.step(try_to_remove, job.services, at, begun, None)
                raise
            await job.transact(end_caching, place, image, settings, origin)
    return path


@contextmanager
def _counted(place: Place, image_uuid: str) -> Iterator[None]:
    """Count a job among those that bring an image to a place."""
    key = (_key(place), image_uuid)
    _bringing[key] += 1
    try:
        yield
    finally:
        _bringing[key] -= 1
        if not _bringing[key]:
            del _bringing[key]


def origin_of(image: ImageToCache, storage: StorageSpec) -> str | None:
    """Return the pool of a storage's own cluster that has an image already, None when there is none."""
    fsid = storage.ceph.fsid if storage.ceph is not None else None
    return next((origin.pool for origin in image.origins if origin.fsid == fsid), None)


def command_for(
    storage: StorageSpec, path: str, kept_as: str, image: ImageToCache, origin: str | None
) -> Command[DiskReply]:
    """Return what brings an image into a storage: a clone of it where it is in the same cluster already."""
    if origin is not None:
        backing = backup_name(origin, image.uuid)
        return CreateDisk(storage=storage, path=path, format=kept_as, backing=backing, backing_format=kept_as)
    return FetchFile(
        storage=storage,
        path=path,
        url=image.url,
        size=image.size,
        sha256=image.sha256,
        format=kept_as,
        ca=image.ca,
        source_format=image.format if image.format == QCOW2 else None,
    )


def begin_caching(
    connection: Connection, place: Place, image: ImageToCache, settings: GlobalSettings, origin: str | None
) -> bool:
    """Say whether an image is there; when not, note that it comes, and of what, and reserve room for it."""
    where = _row(place, image.uuid)
    row = connection.execute(select(image_cache_table).where(where)).first()
    if row is not None and row.state == GOING:
        raise refused(f"image {image.uuid} is being removed from the cache", "try again")
    if row is not None and row.state == READY:
        return True
    if row is None or row.state == LEFT:
        _reserve(connection, place, image, settings)
    if row is None:
        add_cached(connection, place, image.uuid, COMING, origin)
    else:
        values = {"state": COMING, "origin_pool": origin or row.origin_pool}
        connection.execute(update(image_cache_table).where(where).values(**values))
    return False


def origins_of(connection: Connection, storage_uuid: str) -> list[str]:
    """Return the pools of backup storages that images of a storage are clones of, by name."""
    table = image_cache_table.c
    mine = (table.primary_storage_uuid == storage_uuid) & table.origin_pool.is_not(None)
    found = select(table.origin_pool).where(mine).distinct()
    return sorted(connection.execute(found).scalars())


def add_cached(
    connection: Connection, place: Place, image_uuid: str, state: str, origin: str | None = None
) -> None:
    """Note an image of the cache."""
    now = now_s()
    values = {
        "uuid": new_uuid(),
        "image_uuid": image_uuid,
        "primary_storage_uuid": place.storage_uuid,
        "place": _key(place),
        "host_uuid": place.host_uuid,
        "state": state,
        "origin_pool": origin,
    }
    connection.execute(insert(image_cache_table), {**values, "create_date": now, "last_op_date": now})


def end_caching(
    connection: Connection, place: Place, image: ImageToCache, settings: GlobalSettings, origin: str | None
) -> None:
    """Note that an image is there, also when another job has given it up meanwhile.

    Raises HardpointError (PS.1000) when its room was given back and is no longer there.
    """
    if connection.execute(select(image_cache_table.c.uuid).where(_row(place, image.uuid))).first() is None:
        _reserve(connection, place, image, settings)
        add_cached(connection, place, image.uuid, READY, origin)
    else:
        _set_state(connection, place, image.uuid, READY)


def give_up_caching(connection: Connection, place: Place, image_uuid: str) -> bool:
    """Forget an image that did not come, unless another job has brought it, or still brings it.

    Says whether it is forgotten.
    """
    row = connection.execute(select(image_cache_table).where(_row(place, image_uuid))).first()
    if row is None or row.state != COMING or _bringing[_key(place), image_uuid] > 1:
        return False
    forget_cached(connection, place, image_uuid)
    return True


def _reserve(connection: Connection, place: Place, image: ImageToCache, settings: GlobalSettings) -> None:
    takes = image.size if image.takes is None else image.takes
    reserve(connection, place, image.uuid, IMAGE_CACHE, takes, settings)


def forget_cached(connection: Connection, place: Place, image_uuid: str) -> None:
    """Forget an image of the cache and give back its room."""
    connection.execute(delete(image_cache_table).where(_row(place, image_uuid)))
    release(connection, place, image_uuid)


def is_cached(connection: Connection, place: Place, image_uuid: str) -> bool:
    """Say whether an image is in the cache of a place."""
    where = _row(place, image_uuid) & (image_cache_table.c.state == READY)
    return connection.execute(select(image_cache_table.c.uuid).where(where)).first() is not None


class CleanUpImageCacheOnPrimaryStorage(Action, path="/primary-storage/{uuid}/actions"):
    """Remove the cached images that no volume stands on (manual 4.4.10).

    Those that are clones of images of a Ceph backup storage let these go as well, when they are deleted.
    """

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Mark them, so that nothing new is made of them, then remove them."""
        going = await job.transact(mark_unused, self.uuid)
        for unused in going:
            folder = f"imagecache/template/{unused.image_uuid}"
            kept = await job.step(remove_what_can_go, job.services, unused.at, [folder], None)
            await job.transact(note_removed, unused.place, unused.image_uuid, bool(kept))
        pools = sorted({unused.origin for unused in going if unused.origin is not None})
        if pools:
            driver = driver_of(going[0].at.storage.kind.value)
            await job.step(driver.leave_origins, job.services, self.uuid, pools)
        return {}


class Unused(msgspec.Struct, frozen=True):
    """A cached image that nothing stands on."""

    image_uuid: str
    place: Place
    at: HostPlace
    origin: str | None = None


def note_removed(connection: Connection, place: Place, image_uuid: str, kept: bool) -> None:
    """Forget an image of the cache; `kept`: when it is in the trash still, give back its room only."""
    row = connection.execute(select(image_cache_table).where(_row(place, image_uuid))).first()
    if row is None or row.origin_pool is None or not kept:
        forget_cached(connection, place, image_uuid)
        return
    release(connection, place, image_uuid)
    _set_state(connection, place, image_uuid, LEFT)


def mark_unused(connection: Connection, storage_uuid: str) -> list[Unused]:
    """Mark the images that nothing stands on and whose host can be asked. Raises HardpointError for none.

    Those that were to come, and that no job brings any more, since it was cancelled, are among them.
    """
    find(connection, PRIMARY_STORAGE, storage_uuid)
    table, found = image_cache_table, []
    mine = table.c.primary_storage_uuid == storage_uuid
    for row in connection.execute(select(table).where(mine).order_by(table.c.seq)).all():
        place = Place(storage_uuid, row.host_uuid)
        if row.state == COMING and _bringing[_key(place), row.image_uuid]:
            continue
        if any(row.image_uuid in users(connection, place) for users in _users):
            continue
        try:
            at = host_at(connection, place)
        except HardpointError:
            continue
        _set_state(connection, place, row.image_uuid, GOING)
        found.append(Unused(row.image_uuid, place, at, row.origin_pool))
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
