"""What an image's first bytes say: its format and the size of the disk in it. A pure reader.

Contents arrive as streams and are kept as chunks, so there is no file that `qemu-img info` could open; the
header says all that is asked. An image that needs another file (a backing file, an external data file) is
refused: whoever opens it would be led to a file of his own machine.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agentkit.errors import Blame, HardpointError

HEADER_BYTES = 64 * 1024
"""So many bytes of an image, or all there are, are enough to describe it."""
FORMATS = ("raw", "qcow2", "iso")
_QCOW2 = b"QFI\xfb"
_QCOW2_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_QCOW2_FEATURES = struct.Struct(">QQQ")
_EXTERNAL_DATA_FILE = 1 << 2
_OTHERS = (
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0, b"QED\0", "QED"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"PK\x03\x04", "zip"),
)
_ISO_MAGIC_AT, _ISO_MAGIC = 0x8001, b"CD001"


@dataclass(frozen=True)
class Disk:
    """What is in an image."""

    format: str
    virtual_bytes: int


def describe(header: bytes, size: int, wanted: str) -> Disk:
    """Return what an image of `size` bytes is; `wanted` is the format it was said to have.

    Raises HardpointError (SYS.1006) for another format, or one that cannot be used.
    """
    if wanted not in FORMATS:
        raise _unusable(f"its format is said to be {wanted}", f"give one of {', '.join(FORMATS)}")
    if not size:
        raise _unusable("it is empty", "check its source")
    if header.startswith(_QCOW2):
        found = _qcow2(header)
        if wanted != "qcow2":
            raise _unusable(f"it is qcow2, not {wanted}", "give its format as qcow2")
        return found
    other = next((name for at, magic, name in _OTHERS if header[at : at + len(magic)] == magic), None)
    if other is not None:
        raise _unusable(f"it is {other}, not {wanted}", "convert it with qemu-img, or unpack it, first")
    if wanted == "qcow2":
        raise _unusable("it is not qcow2", "give its format as raw, or check its source")
    if wanted == "iso" and header[_ISO_MAGIC_AT : _ISO_MAGIC_AT + 5] != _ISO_MAGIC:
        raise _unusable("it is no ISO 9660 file system", "give its format as raw, or check its source")
    return Disk(wanted, size)


def _qcow2(header: bytes) -> Disk:
    if len(header) < _QCOW2_HEADER.size:
        raise _unusable("its qcow2 header is cut off", "check its source")
    (_, version, backing, _, cluster_bits, virtual, encryption, *_) = _QCOW2_HEADER.unpack_from(header)
    if version not in (2, 3) or not 9 <= cluster_bits <= 21:
        raise _unusable(f"its qcow2 header has version {version}, cluster_bits {cluster_bits}", "check it")
    if backing:
        raise _unusable("it needs a backing file", "make it whole with `qemu-img convert`")
    if encryption:
        raise _unusable("it is encrypted", "decrypt it with `qemu-img convert`")
    if version == 3:
        incompatible = _QCOW2_FEATURES.unpack_from(header.ljust(128, b"\0"), _QCOW2_HEADER.size)[0]
        if incompatible & _EXTERNAL_DATA_FILE:
            raise _unusable("its data are in another file", "make it whole with `qemu-img convert`")
    return Disk("qcow2", virtual)


def _unusable(reason: str, remedy: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the image cannot be used: {reason}",
        remedy=remedy,
        blame=Blame.CALLER,
    )
