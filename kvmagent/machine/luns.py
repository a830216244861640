"""SCSI disks by their world-wide identifier, and the multipath maps over them: which device file to use.

All of it is read below /sys and from udev's database in /run/udev; no command runs. A WWID is written as
udev and multipath do: a digit for its kind, then the identifier (`36001405...` for one of the kind NAA).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from kvmagent.machine.block import BLOCK, SECTOR_BYTES, unit_serial
from kvmagent.machine.tree import Tree

RUNNING = "running"
"""What the kernel says of a SCSI device that takes commands."""
_UDEV = "/run/udev/data"
_HCTL = re.compile(r"\d+:\d+:\d+:\d+")
_SESSION = re.compile(r"/session(\d+)/")
_MAP_UUID = "mpath-"
_KINDS = (("naa.", "3"), ("eui.", "2"), ("t10.", "1"))


class ScsiDisk(NamedTuple):
    """A path to a LUN, as the kernel has it.

    `serial` is what udev shows (the WWID without its kind), `unit_serial` what the unit itself says.
    `session` is the number of the iSCSI session that it is reached through, `map` the kernel's name of the
    multipath map over it (`dm-3`), `by_path` its name in /dev/disk/by-path where udev has given it one.
    """

    name: str
    hctl: str
    lun: int
    wwid: str | None
    wwn: str | None
    vendor: str
    model: str
    serial: str | None
    unit_serial: str | None
    size_bytes: int
    state: str
    session: int | None
    by_path: str | None
    map: str | None


class MultipathMap(NamedTuple):
    """A multipath map: `/dev/mapper/{alias}` is `/dev/{name}`; `paths` are the disks below it."""

    name: str
    alias: str
    wwid: str
    size_bytes: int
    paths: tuple[str, ...]
    holders: tuple[str, ...]


class Disk(NamedTuple):
    """What is to be used for a WWID on this machine: one device file, whatever the paths below it are."""

    path: str
    name: str
    wwid: str
    size_bytes: int
    paths: tuple[ScsiDisk, ...]
    multipath: bool

    @property
    def usable_paths(self) -> int:
        """How many of its paths take commands."""
        return sum(path.state == RUNNING for path in self.paths)


def wwid_of(said: str | None) -> str | None:
    """Return the WWID of what sysfs says (`naa.6001405...`) as udev and multipath write it."""
    if not said:
        return None
    for prefix, kind in _KINDS:
        if said.startswith(prefix):
            return kind + "_".join(said.removeprefix(prefix).split())
    return said


def read_scsi_disks(tree: Tree) -> list[ScsiDisk]:
    """Return the SCSI disks by name; partitions and disks of other kinds are left out."""
    found = []
    for name in tree.names(BLOCK):
        path = tree.resolve(f"{BLOCK}/{name}") or ""
        device = tree.resolve(f"{path}/device") if tree.exists(f"{path}/device") else None
        hctl = (device or "").rpartition("/")[2]
        if _HCTL.fullmatch(hctl):
            found.append(_disk(tree, name, path, hctl))
    return found


def read_maps(tree: Tree) -> list[MultipathMap]:
    """Return the multipath maps by name."""
    found = []
    for name in tree.names(BLOCK):
        path = f"{BLOCK}/{name}"
        uuid = tree.text(f"{path}/dm/uuid") if name.startswith("dm-") else None
        if uuid is None or not uuid.startswith(_MAP_UUID):
            continue
        wwid = uuid.removeprefix(_MAP_UUID)
        size = (tree.int(f"{path}/size") or 0) * SECTOR_BYTES
        alias = tree.text(f"{path}/dm/name") or wwid
        paths, holders = tree.names(f"{path}/slaves"), tree.names(f"{path}/holders")
        found.append(MultipathMap(name, alias, wwid, size, tuple(paths), tuple(holders)))
    return found


def read_disk(tree: Tree, wwid: str) -> Disk | None:
    """Return what to use for a WWID, None when the machine has no such disk."""
    return disk_of(wwid, read_scsi_disks(tree), read_maps(tree))


def disk_of(wwid: str, disks: Sequence[ScsiDisk], maps: Sequence[MultipathMap]) -> Disk | None:
    """Return what to use for a WWID: the map where there is one, else the disk by its identifier.

    A single path is named by what it is (`/dev/disk/by-id`), never by the order in which disks were found.
    """
    paths = tuple(disk for disk in disks if disk.wwid == wwid)
    above = next((one for one in maps if one.wwid == wwid), None)
    if above is not None:
        return Disk(f"/dev/mapper/{above.alias}", above.name, wwid, above.size_bytes, paths, True)
    if not paths:
        return None
    first = next((path for path in paths if path.state == RUNNING), paths[0])
    return Disk(f"/dev/disk/by-id/scsi-{wwid}", first.name, wwid, first.size_bytes, paths, False)


def _disk(tree: Tree, name: str, path: str, hctl: str) -> ScsiDisk:
    device = f"{path}/device"
    wwid = wwid_of(tree.text(f"{device}/wwid"))
    session = _SESSION.search(path)
    holders = [one for one in tree.names(f"{path}/holders") if _is_map(tree, one)]
    return ScsiDisk(
        name=name,
        hctl=hctl,
        lun=int(hctl.rpartition(":")[2]),
        wwid=wwid,
        wwn=_wwn(wwid),
        vendor=tree.text(f"{device}/vendor") or "",
        model=tree.text(f"{device}/model") or "",
        serial=wwid[1:] if wwid and wwid[0] in "123" else None,
        unit_serial=unit_serial(tree.bytes(f"{device}/vpd_pg80")),
        size_bytes=(tree.int(f"{path}/size") or 0) * SECTOR_BYTES,
        state=tree.text(f"{device}/state") or "unknown",
        session=int(session[1]) if session else None,
        by_path=_by_path(tree, path),
        map=holders[0] if holders else None,
    )


def _is_map(tree: Tree, name: str) -> bool:
    return (tree.text(f"{BLOCK}/{name}/dm/uuid") or "").startswith(_MAP_UUID)


def _wwn(wwid: str | None) -> str | None:
    """Return the name that udev calls a disk's WWN: the first eight bytes of the identifier."""
    if wwid is None or not re.fullmatch(r"[23][0-9a-f]{16,}", wwid):
        return None
    return f"0x{wwid[1:17]}"


def _by_path(tree: Tree, path: str) -> str | None:
    number = tree.text(f"{path}/dev")
    links = (line.partition("disk/by-path/") for line in tree.lines(f"{_UDEV}/b{number}"))
    return next((name for start, mark, name in links if mark and start == "S:"), None)
