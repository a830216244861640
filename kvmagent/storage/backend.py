"""What kinds of storages have in common for the rest: a backend for each kind, and the images within one.

Who keeps a storage (`StorageKeeper`) and who makes, changes and copies disk images on it (`Disks`, `Offers`)
know these two contracts only. Names of images are relative to the storage,
`rootVolumes/vol-<uuid>/<uuid>.qcow2`, whatever they are there: files, logical volumes, objects.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from agentkit.errors import HardpointError
from kvmagent.protocol_shared_block import GroupStanding
from kvmagent.protocol_storage import Capacity, DiskReply, InitStorage, StorageSpec
from kvmagent.storage.children import refused

PARTIAL = ".partial"
"""What is not whole yet has its image's name with this behind it."""


class UnusableError(HardpointError):
    """A storage that cannot be used, and how it is."""

    def __init__(self, standing: GroupStanding, details: str, remedy: str) -> None:
        super().__init__("SYS.1006", "Operation failed", details, remedy=remedy)
        self.standing = standing


class Images(Protocol):
    """The disk images of one storage as this host has them.

    `path` is what qemu-img, QEMU and the workers open; between `opened` and its end it can be opened.
    """

    def path(self, name: str) -> str:
        """Return what an image is opened by. Raises HardpointError (SYS.1006) for a name outside of it."""

    def below(self, name: str, backing: str | None) -> str | None:
        """Return how an image's header names the image that it stands on."""

    def opened(
        self, *names: str, chain: bool = False, shared: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Have images there to be opened; `chain`: with all that they stand on. Missing ones stay missing.

        `shared`: to be read only, as other hosts may at the same time.
        """

    async def exists(self, name: str) -> bool:
        """Say whether there is an image."""

    async def make_room(self, name: str, size: int | None, disk_format: str, length: int | None) -> None:
        """Make what an image will be written to under its partial name; there already, nothing happens.

        It is `size` bytes inside, or is copied and `length` bytes long; None where that is not known.
        """

    async def describe(self, name: str, disk_format: str) -> DiskReply:
        """Return what an image is; its `backing` is as `below` says it."""

    async def create(
        self, name: str, size: int | None, disk_format: str, backing: str | None, backing_format: str
    ) -> None:
        """Make an image under its partial name, for which there is room: empty, or on another one."""

    async def resize(self, name: str, size: int, disk_format: str) -> None:
        """Make an image larger."""

    async def rebase(self, name: str, backing: str | None, backing_format: str) -> DiskReply:
        """Have an image stand on another one, or on none, without a change of its content.

        Where an image can stand on none instead, the reply says so.
        """

    async def readdress(self, name: str, backing: str | None) -> None:
        """Have a partial image that was copied call the one below it as it is called here."""

    async def explained(self, name: str, error: HardpointError) -> HardpointError:
        """Return what an error has come from that the storage's being full can have caused."""

    async def publish(self, name: str) -> None:
        """Give what was written under the partial name its own, for good when this returns."""

    async def grow(self, name: str, size: int, disk_format: str, *, full: bool = False) -> None:
        """Have room for an image of `size` bytes inside; `full`: also where room comes as it is needed."""

    async def taken(self, name: str, told: int) -> int:
        """Return how many bytes of the storage an image takes; qemu-img has `told` so."""

    async def length(self, name: str) -> int | None:
        """Return how many bytes from its beginning are the image, None: all of it."""

    async def arrived(self, name: str) -> int:
        """Return how many bytes of what has the partial name are written."""

    async def remove(self, names: list[str], trash: str | None) -> list[str]:
        """Remove images and folders of images, or put them into a folder of the trash.

        Return what has to stay in the trash of what was to be removed, as something stands on it.
        """

    async def purge(self, older_than_s: int) -> int:
        """Remove what has been in the trash for longer; return how many folders that were."""

    async def capacity(self) -> Capacity:
        """Read the capacity."""


class Backend(Protocol):
    """A kind of storage on this host; errors are HardpointError (SYS.1006)."""

    @property
    def is_local(self) -> bool:
        """Say whether no network can take such storages away: then a few are looked at each time."""

    @property
    def probe_deadline_s(self) -> float | None:
        """Return how long a probe may take, None: as long as that of any storage."""
        return None

    async def open(self, command: InitStorage, *, known: bool) -> tuple[Images, Capacity]:
        """Make a storage usable; done already (`known`), it is looked at again."""

    async def close(self, spec: StorageSpec) -> None:
        """Undo what `open` did; what is on the storage stays."""

    async def probe(self, spec: StorageSpec) -> tuple[Capacity, GroupStanding | None]:
        """Look whether a storage can be used, and whether it is in danger; may hang as the kernel does.

        Raises UnusableError when it is known how it is.
        """

    async def mend(self, spec: StorageSpec) -> None:
        """Try to bring back a storage whose probe has failed."""


def check_name(uuid: str, name: str) -> str:
    """Return a name that is within a storage. Raises HardpointError (SYS.1006)."""
    parts = name.split("/")
    if name.startswith("/") or not name or any(part in ("", ".", "..") for part in parts):
        raise refused(f"'{name}' is no path within the storage {uuid}", "report it")
    return name
