"""Mounting NFS exports: which options may be given, what is mounted where; pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kvmagent.machine.mounts import Mount
from kvmagent.storage.children import refused

MOUNT_BASE = "/opt/zstack/nfsprimarystorage"
ALWAYS = ("nosuid", "nodev")
_OPTION = re.compile(r"[a-z0-9_]+(=[A-Za-z0-9_.:/-]+)?")
_HARMFUL = {
    "nolock": "files must be locked against other hosts",
    "local_lock": "files must be locked against other hosts",
    "remount": "it names what is mounted already",
    "bind": "it mounts something else",
    "ro": "VMs write to their disks",
    "suid": "programs on a storage must not become root",
    "dev": "device files on a storage must not work",
}
LOCAL_FILE_SYSTEMS = frozenset(
    {
        "bcachefs",
        "btrfs",
        "erofs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "hfsplus",
        "hugetlbfs",
        "iso9660",
        "jfs",
        "minix",
        "nilfs2",
        "ntfs",
        "ntfs3",
        "overlay",
        "ramfs",
        "reiserfs",
        "rootfs",
        "squashfs",
        "tmpfs",
        "udf",
        "vfat",
        "xfs",
        "zfs",
    }
)
"""File systems that one host alone may have mounted: a directory on them is the same on no other host."""


def check_options(options: str) -> list[str]:
    """Return the mount options of a text. Raises HardpointError (SYS.1006) naming one that must not be."""
    given = [option.strip() for option in options.split(",") if option.strip()]
    for option in given:
        name = option.partition("=")[0]
        if not _OPTION.fullmatch(option):
            raise refused(f"'{option}' is no mount option of NFS", "give options such as vers=4.2,timeo=600")
        if name in _HARMFUL:
            raise refused(f"the mount option {name} is refused: {_HARMFUL[name]}", f"leave {name} out")
    return given


def mount_argv(url: str, point: str, options: str) -> list[str]:
    """Return the command that mounts an export."""
    given = check_options(options)
    return ["mount", "-t", "nfs4" if not given else "nfs", "-o", ",".join([*given, *ALWAYS]), url, point]


def mounted_at(mounts: Iterable[Mount], point: str) -> Mount | None:
    """Return what is mounted at a point; of several, the one on top."""
    return next((mount for mount in reversed(list(mounts)) if mount.point == point), None)


def is_export(mount: Mount, url: str) -> bool:
    """Say whether a mount is that of an export."""
    return mount.kind in ("nfs", "nfs4") and _plain(mount.source) == _plain(url)


def _plain(url: str) -> str:
    server, _, path = url.rpartition(":")
    return f"{server.strip('[]')}:{path.rstrip('/') or '/'}"


def holder_of(mounts: Iterable[Mount], path: str) -> Mount | None:
    """Return the mount that a path is on."""
    found: Mount | None = None
    for mount in mounts:
        above = mount.point.rstrip("/") + "/"
        if f"{path}/".startswith(above) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def check_shared(mount: Mount | None, path: str) -> None:
    """Raise HardpointError (SYS.1006) when a directory is on a file system that no other host can have."""
    if mount is not None and mount.kind in LOCAL_FILE_SYSTEMS:
        raise refused(
            f"{path} is on {mount.source} ({mount.kind}), a file system of this host alone",
            "mount the shared file system there first, on all hosts of the cluster",
        )
