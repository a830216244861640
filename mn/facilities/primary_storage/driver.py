"""What kinds of primary storage have in common for the rest: one contract, a driver for each type."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Connection, Row

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_storage import StorageEvent, StorageKind, StorageSpec
from mn.rest.services import Job, Services


class Driver:
    """A type of primary storage; here volumes are files. It refuses by a HardpointError (SYS.1007)."""

    kind: ClassVar[StorageKind]
    is_local: ClassVar[bool] = False
    """Whether each host has a storage of its own."""

    is_reported: ClassVar[bool] = False
    """Whether agents of its own say how it is: then no host is needed for that."""

    disk_format: ClassVar[str] = "qcow2"
    """How volumes that are made on it are kept."""

    is_flat: ClassVar[bool] = False
    """Whether an image comes and goes without what it stands on: as a raw one with all that it shows."""

    def check_url(self, url: str) -> None:
        """Refuse a url that the storage cannot have."""
        raise NotImplementedError

    def check_unique(self, connection: Connection, uuid: str, url: str, zone_uuid: str) -> None:
        """Refuse a url that another storage has, where that matters."""

    def mount_path(self, uuid: str, url: str) -> str:
        """Return the storage's directory on the hosts."""
        return url.rstrip("/") or "/"

    def shown_path(self, row: Row[Any], path: str) -> str:
        """Return how the API shows an image of a storage."""
        return f"{row.mount_path}/{path}"

    def host_path(self, row: Row[Any], path: str) -> str:
        """Return what a host opens an image of a storage by."""
        return f"{row.mount_path}/{path}"

    def volume_path(self, connection: Connection, row: Row[Any], volume: Row[Any], path: str) -> str:
        """Return where an image of a volume is to be in a storage, by default at `path`."""
        return path

    def cached_format(self, image_format: str) -> str:
        """Return how an image is kept in the cache."""
        return image_format

    async def key(self, services: Services, storage: StorageSpec) -> str | None:
        """Return the key that hosts use the storage with, None: there is none.

        Raises HardpointError when it cannot be had now; hosts that have it do without.
        """
        return None

    def gave_key(self, connection: Connection, storage: StorageSpec, host_uuid: str) -> None:
        """Write that a host has it."""

    async def let_read_origins(self, services: Services, uuid: str) -> None:
        """Have hosts able to read what cached images are clones of, beside the storage."""

    async def leave_origins(self, services: Services, uuid: str, pools: list[str]) -> None:
        """Give back what clones needed that are gone by now; `pools` have what they were clones of."""

    def prepare(self, connection: Connection, storage_uuid: str, host_uuid: str) -> None:
        """Write what a host needs before the storage is initialised on it."""

    def wipes(self, connection: Connection, uuid: str) -> bool:
        """Say whether what a deleted storage has left may be overwritten."""
        return False

    def told(self, connection: Connection, storage_uuid: str, host_uuid: str, event: StorageEvent) -> None:
        """Write what only this type has of what a host says."""

    def released(self, connection: Connection, storage_uuid: str, host_uuid: str) -> None:
        """Write that a host has said that it uses the storage no longer."""

    def left(self, connection: Connection, storage_uuid: str, host_uuids: list[str]) -> None:
        """Forget that hosts use the storage, whether they have said so or not."""

    def refreshed(self, connection: Connection, storage_uuid: str, status: str) -> None:
        """Follow a status of the storage."""

    async def connect(self, job: Job, uuid: str) -> None:
        """Connect what is not of the hosts, as steps of a job."""

    async def remove(self, job: Job, uuid: str) -> None:
        """Give back what is not of the hosts, as steps of a job; the storage's row goes next."""

    def recheck(self, connection: Connection, uuid: str) -> None:
        """Write how a storage is whose agents report it."""

    def options(self, connection: Connection, uuid: str) -> str:
        """Return the mount options."""
        return ""

    def others(self, connection: Connection, uuid: str) -> list[str]:
        """Return the storages whose marker must not be in the directory."""
        return []

    def spec(self, connection: Connection, row: Row[Any], host_uuid: str | None = None) -> StorageSpec:
        """Return the storage as agents know it, that of a host where they differ."""
        return StorageSpec(
            uuid=row.uuid, kind=self.kind, url=row.url, options=self.options(connection, row.uuid)
        )


_drivers: dict[str, Driver] = {}


def register_driver(driver: Driver) -> None:
    """Make a type of primary storage known."""
    _drivers[driver.kind.value] = driver


def driver_of(kind: str) -> Driver:
    """Return the driver of a type."""
    return _drivers[kind]


def known_types() -> list[str]:
    """Return the types, by name."""
    return sorted(_drivers)


def check_directory(url: str) -> None:
    """Raise HardpointError (SYS.1007) for what is no directory that a storage may have."""
    parts = url.split("/")
    if not url.startswith("/") or any(part in (".", "..") for part in parts):
        raise bad_url(url, "it is no absolute path")
    if url.rstrip("/") == "":
        raise bad_url(url, "it is the root of the file system")
    if parts[1] in ("dev", "proc", "sys"):
        raise bad_url(url, f"/{parts[1]} is the kernel's")


def bad_url(url: str, reason: str) -> HardpointError:
    """Return the error of a url that cannot be."""
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"parameter 'url' is '{url}': {reason}",
        remedy="give a directory such as /zstack_ps, for NFS host:/path/to/export",
        blame=Blame.CALLER,
    )
