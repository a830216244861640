"""What is mounted and swapped to, from /proc; pure functions of its lines but for `read_mounts`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from kvmagent.machine.tree import Tree

SWAP = "[swap]"
NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "ceph", "cifs", "smb3", "glusterfs", "fuse.glusterfs", "lustre", "9p"}
)
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A mounted file system; `number` is `major:minor`, None where the kernel's table does not say it."""

    source: str
    point: str
    kind: str
    number: str | None
    options: str


def read_mounts(tree: Tree) -> list[Mount]:
    """Return what is mounted."""
    lines = tree.lines("/proc/self/mountinfo")
    if lines:
        return parse_mountinfo(lines)
    return parse_mounts(tree.lines("/proc/self/mounts") or tree.lines("/proc/mounts"))


def read_swaps(tree: Tree) -> list[str]:
    """Return the devices and files that are swapped to."""
    return [unescape(line.split()[0]) for line in tree.lines("/proc/swaps")[1:] if line.split()]


def parse_mountinfo(lines: Iterable[str]) -> list[Mount]:
    """Return the mounts of /proc/PID/mountinfo; lines that make no sense are left out."""
    found = []
    for line in lines:
        fields, _, rest = line.partition(" - ")
        left, right = fields.split(" "), rest.split(" ")
        if len(left) >= 6 and len(right) >= 2:
            options = right[2] if len(right) > 2 else ""
            found.append(Mount(unescape(right[1]), unescape(left[4]), right[0], left[2], options))
    return found


def parse_mounts(lines: Iterable[str]) -> list[Mount]:
    """Return the mounts of /proc/mounts."""
    split = [line.split(" ") for line in lines]
    return [Mount(unescape(f[0]), unescape(f[1]), f[2], None, f[3]) for f in split if len(f) >= 4]


def unescape(text: str) -> str:
    """Return `text` with the kernel's octal escapes (`\\040`) decoded, as UTF-8 where they are."""
    if "\\" not in text:
        return text
    raw = _OCTAL.sub(lambda match: chr(int(match[1], 8) & 0xFF), text)
    try:
        return raw.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return raw


def server_of(mount: Mount) -> str | None:
    """Return the address of the server of a network file system, None for a local one."""
    if mount.kind not in NETWORK_TYPES:
        return None
    for option in mount.options.split(","):
        key, _, value = option.partition("=")
        if key == "addr" and value:
            return value
    host = mount.source.rpartition(":/")[0].split(",")[0]
    return host.strip("[]") or None
