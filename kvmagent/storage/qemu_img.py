"""qemu-img: its commands as argv lists and what it says as JSON; pure functions."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import msgspec

from kvmagent.protocol_storage import DiskReply
from kvmagent.storage.children import refused

FORMATS = ("qcow2", "raw")


class _SpecificData(msgspec.Struct, rename="kebab"):
    data_file: str | None = None


class _Specific(msgspec.Struct):
    data: _SpecificData | None = None


class _Info(msgspec.Struct, rename="kebab"):
    virtual_size: int
    format: str
    actual_size: int = 0
    backing_filename: str | None = None
    format_specific: _Specific | None = None


class _End(msgspec.Struct, rename="kebab"):
    image_end_offset: int


def parse_info(text: bytes) -> DiskReply:
    """Return what `qemu-img info --output=json` says.

    Raises HardpointError (SYS.1006) for what it does not say, and for an image with its data in another file.
    """
    try:
        info = msgspec.json.decode(text, type=_Info)
    except msgspec.DecodeError as error:
        raise refused(
            f"qemu-img describes the image in a way that is not known: {error}", "report it"
        ) from error
    data = info.format_specific.data if info.format_specific else None
    if data is not None and data.data_file is not None:
        raise refused(f"the image keeps its data in another file, {data.data_file}", "convert it to one file")
    return DiskReply(
        size=info.virtual_size,
        actual_size=info.actual_size,
        format=info.format,
        backing=info.backing_filename,
    )


def info_argv(path: str, disk_format: str) -> list[str]:
    """Return the command that describes an image, also one that a VM uses; the chain below is not opened."""
    return ["qemu-img", "info", "--output=json", "-U", "-f", disk_format, path]


def end_argv(path: str) -> list[str]:
    """Return the command that finds where a qcow2 image on a larger device ends."""
    return ["qemu-img", "check", "-U", "--output=json", "-f", "qcow2", path]


def parse_end(text: bytes) -> int:
    """Return what `end_argv` has found. Raises HardpointError (SYS.1006) when it has not."""
    try:
        return msgspec.json.decode(text, type=_End).image_end_offset
    except msgspec.DecodeError as error:
        raise refused(f"qemu-img does not find the end of the image: {error}", "check the image") from error


def create_argv(
    path: str, disk_format: str, size: int | None, backing: str | None, backing_format: str
) -> list[str]:
    """Return the command that makes an image; `backing` is relative to the image's folder."""
    below = ["-b", backing, "-F", backing_format] if backing is not None else []
    return ["qemu-img", "create", "-q", "-f", disk_format, *below, path, *([str(size)] if size else [])]


def resize_argv(path: str, disk_format: str, size: int) -> list[str]:
    """Return the command that makes an image larger."""
    return ["qemu-img", "resize", "-q", "-f", disk_format, path, str(size)]


def rebase_argv(path: str, backing: str | None, backing_format: str) -> list[str]:
    """Return the command that puts a qcow2 image onto another one, or onto none."""
    below = ["-b", backing, "-F", backing_format] if backing is not None else ["-b", ""]
    return ["qemu-img", "rebase", "-q", "-f", "qcow2", *below, path]


def readdress_argv(path: str, backing: str | None) -> list[str]:
    """Return the command that writes another name of the same image below into an image; nothing is read."""
    return ["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", backing or "", "-F", "qcow2", path]


def convert_argv(source: str, source_format: str, target: str, target_format: str) -> list[str]:
    """Return the command that writes what an image shows to another one, which it makes."""
    return ["qemu-img", "convert", "-q", "-U", "-f", source_format, "-O", target_format, source, target]


def compare_argv(source: str, source_format: str, target: str, target_format: str) -> list[str]:
    """Return the command that ends with 0 when two images show the same."""
    return ["qemu-img", "compare", "-q", "-U", "-f", source_format, "-F", target_format, source, target]


def same_image(one: str | None, other: str | None) -> bool:
    """Say whether two names are of one image in storages of two kinds: both end with its uuid."""
    if one is None or other is None:
        return False
    return image_uuid(one) == image_uuid(other)


def image_uuid(name: str) -> str:
    """Return the uuid that an image is named by: `a/b/<uuid>.qcow2`."""
    return posixpath.basename(name).partition(".")[0]


def relative_backing(path: str, backing: str | None) -> str | None:
    """Return how an image names the one below it, both relative to the storage's root.

    So a storage may be mounted anywhere, and images move between storages without being written to.
    """
    return None if backing is None else posixpath.relpath(backing, posixpath.dirname(path))


def check_format(disk_format: str, formats: Sequence[str] = FORMATS) -> None:
    """Raise HardpointError (SYS.1006) for a format that is not known."""
    if disk_format not in formats:
        raise refused(f"the image format {disk_format} is not known", f"use {' or '.join(formats)}")


def check_disk(found: DiskReply, path: str, disk_format: str, wanted: str | None) -> DiskReply:
    """Return an image that is as expected, on `wanted` as its header has to say.

    Raises HardpointError (SYS.1006) when it is another one.

    An image of unknown origin could name any file of the host as the one below it.
    """
    if (found.format, found.backing) == (disk_format, wanted):
        return found
    what = f"{path} is {found.format} on {found.backing or 'nothing'}"
    raise refused(
        f"{what}, not {disk_format} on {wanted or 'nothing'}", "use an image of its own format alone"
    )
