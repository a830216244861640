"""What the management node does with images on a backup storage, whatever its type: one contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from agentkit.errors import HardpointError
from agentkit.images import ImageDescription
from mn.facilities.backup_storage.tables import Store
from mn.rest.services import Job, Services

Tell = Callable[[int], None]
"""Told how many percent of an image have arrived."""


class Held(msgspec.Struct, frozen=True):
    """An image that lies on a backup storage: sizes in bytes, SHA-256 of its content."""

    image: ImageDescription
    sha256: str
    size: int
    virtual_size: int
    install_path: str


class Opened(msgspec.Struct, frozen=True):
    """Where an image can be downloaded until `expires` (seconds since 1970) by whoever knows the URL."""

    url: str
    token: str
    expires: float
    held: Held


class Reclaimed(msgspec.Struct, frozen=True):
    """What collecting garbage came to."""

    freed_bytes: int


class Driver(Protocol):
    """A type of backup storage. `task_uuid` names what an agent is asked for: the same again happens once."""

    async def import_image(
        self, services: Services, store: Store, image: ImageDescription, task_uuid: str, tell: Tell
    ) -> Held:
        """Bring in an image from its URL. Raises HardpointError (SYS.1006, BS.1003) and leaves nothing."""

    async def copy_image(
        self, services: Services, target: Store, source: Opened, task_uuid: str, tell: Tell
    ) -> Held:
        """Bring in an image from another backup storage of the same type."""

    async def drop_image(self, services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
        """Take an image out; one that is not there is no fault."""

    async def list_images(self, services: Services, store: Store, task_uuid: str) -> list[Held]:
        """Say which images lie there."""

    async def open_image(
        self, services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
    ) -> Opened:
        """Let an image be downloaded for a while."""

    async def export_image(
        self, services: Services, store: Store, image_uuid: str, lifetime_s: float, task_uuid: str
    ) -> Opened:
        """The same, until `delete_export`; again: the same URL, for `lifetime_s` from now on."""

    async def delete_export(self, services: Services, store: Store, image_uuid: str, task_uuid: str) -> None:
        """End an export; done also when there is none."""

    async def reclaim(self, services: Services, store: Store, task_uuid: str) -> Reclaimed:
        """Free the space that deleted images left."""


class Care(Protocol):
    """How backup storages of a type are connected again and left, as steps of jobs."""

    async def reconnect(self, job: Job, uuid: str) -> None:
        """Connect one again. Raises HardpointError when that is not possible."""

    async def leave(self, job: Job, uuid: str) -> None:
        """Take its agent away; what it keeps stays. Raises HardpointError when that is not possible."""


_drivers: dict[str, Driver] = {}
_cares: dict[str, Care] = {}


def register(type_name: str, driver: Driver) -> None:
    """Make a type of backup storage known."""
    _drivers[type_name] = driver


def register_care(type_name: str, care: Care) -> None:
    """Say how backup storages of a type are taken care of."""
    _cares[type_name] = care


def care_of(type_name: str) -> Care:
    """Return how backup storages of a type are taken care of."""
    return _cares[type_name]


def known_types() -> list[str]:
    """Return all types."""
    return sorted(_drivers)


def driver_of(store: Store) -> Driver:
    """Return the driver of a backup storage. Raises HardpointError (SYS.1014) for an unknown type."""
    driver = _drivers.get(store.type)
    if driver is None:
        raise HardpointError(
            "SYS.1014",
            "Not supported",
            f"backup storage {store.name} ({store.uuid}) has the type {store.type}",
            remedy=f"use one of the type {' or '.join(known_types())}",
        )
    return driver
