"""How images of a storage are called as logical volumes, and how large those are; pure functions.

A volume is called by the uuid of its image. What the image is called within the storage, that it is not whole
yet, or that it is in the trash stands in tags: one change of the group's metadata is then all it takes to
change it.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from kvmagent.storage.backend import PARTIAL, check_name
from kvmagent.storage.children import refused

EXTENT = 4 * 1024 * 1024
MARK = "hardpoint:group"
"""The tag of a volume group that is a storage of Hardpoint."""
PARTIAL_TAG = "hardpoint:partial"
_PATH, _TRASH = "hardpoint:path:", "hardpoint:trash:"
_UUID = re.compile(r"[0-9a-f]{32}")
_TRASH_TAG = re.compile(re.escape(_TRASH) + r"([0-9a-f-]+):(\d+)")


@dataclass(frozen=True)
class Volume:
    """A logical volume of an image."""

    lv: str
    size: int
    name: str
    partial: bool
    trash: str | None
    trashed_at: int
    lock_args: str = ""
    uuid: str = ""


def lv_name(storage_uuid: str, name: str) -> str:
    """Return what an image's logical volume is called, whole or partial. Raises HardpointError (SYS.1006)."""
    uuid = posixpath.basename(check_name(storage_uuid, name)).partition(".")[0]
    if not _UUID.fullmatch(uuid):
        raise refused(f"'{name}' is no image of the storage {storage_uuid}: it has no uuid", "report it")
    return uuid


def path_tag(name: str) -> str:
    """Return the tag that says what an image is called."""
    return _PATH + name.removesuffix(PARTIAL)


def trash_tag(folder: str, now_s: int) -> str:
    """Return the tag of a volume that is in a folder of the trash since `now_s`."""
    return f"{_TRASH}{folder}:{now_s}"


def trashed_lv(lv: str, folder: str) -> str:
    """Return what a volume in the trash is called: its image may come back meanwhile."""
    return f"trash.{folder.replace('-', '')[:16]}.{lv}"


def read_volume(lv: str, size: int, tags: list[str], lock_args: str = "", uuid: str = "") -> Volume | None:
    """Return what the tags of a logical volume say, None for one that is no image."""
    name = next((tag.removeprefix(_PATH) for tag in tags if tag.startswith(_PATH)), None)
    if name is None:
        return None
    trash = next((match for tag in tags if (match := _TRASH_TAG.fullmatch(tag))), None)
    return Volume(
        lv,
        size,
        name,
        PARTIAL_TAG in tags,
        trash[1] if trash else None,
        int(trash[2]) if trash else 0,
        lock_args,
        uuid,
    )


def under(volumes: list[Volume], name: str) -> list[Volume]:
    """Return the volumes that an image, or a folder of images, has outside of the trash.

    A partial name is that of an image which is not whole; any other is both.
    """
    wanted = name.removesuffix(PARTIAL)
    return [
        volume
        for volume in volumes
        if volume.trash is None
        and (volume.partial or wanted == name)
        and (volume.name == wanted or volume.name.startswith(f"{wanted}/"))
    ]


def rounded(size: int) -> int:
    """Return whole extents."""
    return max(1, -(-size // EXTENT)) * EXTENT


def full_size(size: int, disk_format: str) -> int:
    """Return what an image takes that is written to all over.

    qcow2 has tables besides: 8 bytes for each 64 KiB, 2 for counting them, and headers.
    """
    return rounded(size if disk_format == "raw" else size + size // 4096 + 2 * EXTENT)


def first_size(size: int | None, length: int | None, disk_format: str, *, thin: bool, step: int) -> int:
    """Return how large the volume of a new image is at first."""
    least = rounded(length or EXTENT)
    if size is None or disk_format == "raw":
        return max(least, rounded(size or EXTENT))
    full = full_size(size, disk_format)
    return max(least, min(full, rounded(step)) if thin else full)


def next_size(now: int, used: int, full: int, step: int) -> int | None:
    """Return how large a thin volume is to become when `used` bytes of it are written; None: it will do.

    It grows while half a step is left.
    """
    if now >= full or now - used > step // 2:
        return None
    return min(full, rounded(max(now, used) + step))
