"""AddImage: the backup storages fetch the image; it is Ready when all have it, or it is not there."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta
from sqlalchemy import Connection

from agentkit.errors import Blame, HardpointError
from agentkit.images import ImageDescription
from mn.db.global_settings import STORE_RESERVE, GlobalSettings
from mn.facilities.backup_storage.driver import Held
from mn.facilities.backup_storage.tables import BACKUP_STORAGE, Store, connected_store
from mn.facilities.common import add, find, inventory
from mn.facilities.images.storing import import_image, teller, undo_import
from mn.facilities.images.tables import (
    IMAGE,
    add_ref,
    change_image,
    change_ref,
    columns_of,
    remove_image_row,
)
from mn.rest.operation import Create, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref

TIMEOUT_S = 24 * 3600.0
SCHEMES = ("http", "https", "file")

Format = Literal["qcow2", "raw", "iso"]
MediaType = Literal["RootVolumeTemplate", "DataVolumeTemplate", "ISO"]
Platform = Literal["Linux", "Windows", "Other", "Paravirtualization", "WindowsVirtio"]
Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        description="where the backup storages fetch it: http://, https://, or file:///path on their server",
    ),
]


class AddImage(Create, path="/images", reply=IMAGE, timeout_s=TIMEOUT_S):
    """Add an image from a URL to backup storages, which fetch it; it goes on when a node or agent dies."""

    name: Name
    url: Url
    format: Format
    backup_storage_uuids: Annotated[list[Ref], Meta(min_length=1, description="uuids of backup storages")]
    description: Description | None = None
    media_type: MediaType | None = None
    guest_os_type: Name | None = None
    system: bool = False
    platform: Platform = "Linux"
    type: Literal["zstack"] = "zstack"

    def check(self) -> None:
        """Refuse URLs that nothing can be fetched from."""
        check_url(self.url)

    async def run(self, job: Job) -> Reply:
        """Note it, have it fetched by one backup storage after the other, make it Ready."""
        services = job.services
        uuid = self.resource_uuid or job.uuid_for("image")
        stores = await job.transact(begin_image, uuid, self, services.global_settings, undo=forget_image)
        image = self._described(uuid)
        for number, store in enumerate(stores):
            begin, end = 100 * number // len(stores), 100 * (number + 1) // len(stores)
            task, tell = job.task_uuid(), teller(job, begin, end)
            held = await job.step(import_image, services, store, image, task, tell, undo=undo_import)
            await job.transact(note_arrival, uuid, store.uuid, held)
            job.at(end)
        await job.transact(make_ready, uuid)
        return await inventory(services, IMAGE, uuid)

    def medium(self) -> MediaType:
        """Return what it is taken for: an ISO unless something else is said of it."""
        return self.media_type or ("ISO" if self.format == "iso" else "RootVolumeTemplate")

    def _described(self, uuid: str) -> ImageDescription:
        return ImageDescription(
            uuid=uuid,
            name=self.name,
            format=self.format,
            description=self.description,
            media_type=self.medium(),
            platform=self.platform,
            guest_os_type=self.guest_os_type,
            system=self.system,
            url=self.url,
        )


def check_url(url: str) -> None:
    """Raise HardpointError (SYS.1007) for a URL that nothing can be fetched from, or with a login in it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in SCHEMES and (parts.path if parts.scheme == "file" else parts.hostname)
    except ValueError:
        usable, parts = None, urlsplit("")
    if not usable or (parts.scheme == "file" and parts.netloc not in ("", "localhost")):
        raise _bad_url(f"is '{url}'", "give http://..., https://... or file:///path on the backup storage")
    if "@" in parts.netloc:
        remedy = "let the backup storage's server fetch it without a login, or copy it there and give file://"
        raise _bad_url("has a user or password in it, which everybody would see in the inventory", remedy)


def begin_image(connection: Connection, uuid: str, wanted: AddImage, settings: GlobalSettings) -> list[Store]:
    """Insert an image that is Downloading; return the backup storages that are to fetch it.

    Raises HardpointError: SYS.1003 and SYS.1006 for a backup storage that cannot take it, BS.1003 for a full
    one.
    """
    wanted_uuids = list(dict.fromkeys(wanted.backup_storage_uuids))
    stores = [connected_store(connection, each, enabled=True) for each in wanted_uuids]
    for store in stores:
        _check_room(connection, store, settings[STORE_RESERVE])
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "state": "Enabled",
        "status": "Downloading",
        "url": wanted.url,
        "media_type": wanted.medium(),
        "guest_os_type": wanted.guest_os_type,
        "type": wanted.type,
        "platform": wanted.platform,
        "format": wanted.format,
        "system": wanted.system,
        "backup_storage_refs": [],
    }
    add(connection, IMAGE, values, wanted)
    for store in stores:
        add_ref(connection, uuid, store.uuid, "Creating")
    return stores


def forget_image(connection: Connection, uuid: str, *_: object) -> None:
    """Remove the rows of an image that did not come."""
    remove_image_row(connection, uuid)


def note_arrival(connection: Connection, uuid: str, storage_uuid: str, held: Held) -> None:
    """Write that a backup storage has the image.

    Raises HardpointError (SYS.1003) when the image or backup storage was deleted meanwhile.
    """
    find(connection, IMAGE, uuid)
    change_ref(connection, uuid, storage_uuid, status="Ready", install_path=held.install_path)
    change_image(connection, uuid, **columns_of(held))


def make_ready(connection: Connection, uuid: str) -> None:
    """Write that an image can be used. Raises HardpointError (SYS.1003) when it was deleted meanwhile."""
    find(connection, IMAGE, uuid)
    change_image(connection, uuid, status="Ready")


def _check_room(connection: Connection, store: Store, reserve: float) -> None:
    row = find(connection, BACKUP_STORAGE, store.uuid)
    if row.available_capacity <= reserve:
        raise HardpointError(
            "BS.1003",
            "Not enough capacity",
            f"backup storage {store.name} ({store.uuid}) has {row.available_capacity} bytes left, of which "
            f"{int(reserve)} stay free",
            remedy="delete images and reclaim their space, or use another backup storage",
            blame=Blame.CALLER,
        )


def _bad_url(what: str, remedy: str) -> HardpointError:
    return HardpointError(
        "SYS.1007", "Invalid argument", f"parameter 'url' {what}", remedy=remedy, blame=Blame.CALLER
    )
