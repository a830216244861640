"""Which disks of a host could become part of a volume group, and why others could not; pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import msgspec

from kvmagent.protocol_shared_block import SharedDisk
from kvmagent.shared_block.names import MARK
from kvmagent.shared_block.reports import Group, PhysicalVolume
from kvmagent.storage.children import refused

LSBLK = (
    "lsblk", "-J", "-b", "-o",
    "NAME,PATH,SIZE,TYPE,WWN,VENDOR,MODEL,SERIAL,HCTL,TRAN,FSTYPE,PTTYPE,MOUNTPOINT,RM,RO",
)  # fmt: skip
WIPEFS = ("wipefs", "-J")
"""With paths of disks: lists what is on them, read from them; nothing when one cannot be read.

What udev knows, and lsblk says, may be older than what another host has written.
"""
DISK, MPATH = "disk", "mpath"
_TABLES = frozenset(
    {"PMBR", "atari", "bsd", "dos", "gpt", "mac", "minix", "sgi", "solaris_x86", "sun", "ultrix"}
)
_WWID_LINKS = ("dm-uuid-mpath-", "wwn-", "nvme-eui.", "scsi-3", "nvme-", "scsi-", "virtio-")


class _Node(msgspec.Struct):
    name: str
    type: str
    path: str = ""
    size: int = 0
    wwn: str | None = None
    vendor: str | None = None
    model: str | None = None
    serial: str | None = None
    hctl: str | None = None
    tran: str | None = None
    fstype: str | None = None
    pttype: str | None = None
    mountpoint: str | None = None
    rm: bool = False
    ro: bool = False
    children: list[_Node] = []


class _Tree(msgspec.Struct):
    blockdevices: list[_Node]


class _Signature(msgspec.Struct):
    device: str
    type: str


class _Signatures(msgspec.Struct):
    signatures: list[_Signature] = []


@dataclass(frozen=True)
class Surroundings:
    """What else is known of a host's disks.

    `links` are those below /dev/disk/by-id with the devices they lead to, `in_use` the groups that storages
    of the fleet are, `contents` the kinds of what is on a disk, by its path; None: it cannot be read.
    """

    volumes: Sequence[PhysicalVolume] = ()
    groups: Sequence[Group] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    in_use: Sequence[str] = ()
    contents: Mapping[str, Sequence[str] | None] = field(default_factory=dict)


def readable_disks(lsblk: bytes) -> list[str]:
    """Return the paths of the disks that have a medium, to be looked at with `WIPEFS`.

    Raises HardpointError (SYS.1006) for what is not said by `LSBLK`.
    """
    return list(dict.fromkeys(node.path for _, node in _disks(lsblk) if node.size > 0))


def contents(wipefs: bytes, paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the kinds of what is on disks, by path.

    Raises HardpointError (SYS.1006) for what is not said by `WIPEFS`.
    """
    try:
        found = msgspec.json.decode(wipefs or b"{}", type=_Signatures).signatures
    except msgspec.DecodeError as error:
        raise refused(f"wipefs tells of disks in a way that is not known: {error}", "report it") from error
    return {path: [each.type for each in found if each.device == PurePath(path).name] for path in paths}


def shared_disks(lsblk: bytes, around: Surroundings) -> list[SharedDisk]:
    """Return the disks of a host, each once however many paths lead to it.

    Raises HardpointError (SYS.1006) for what is not said by `LSBLK`.
    """
    found: dict[str, SharedDisk] = {}
    for disk, node in _disks(lsblk):
        wwid = _wwid(node, around.links)
        reason, wipeable = _hindrance(disk, node, wwid, around)
        found.setdefault(
            node.path,
            SharedDisk(
                wwid=wwid or "",
                path=node.path,
                size=node.size,
                type=node.type if node.fstype != "LVM2_member" or node.type == MPATH else "lvm-pv",
                vendor=_plain(disk.vendor),
                model=_plain(disk.model),
                wwn=_plain(disk.wwn),
                serial=_plain(disk.serial),
                hctl=_plain(disk.hctl),
                transport=_plain(disk.tran),
                reason=reason,
                wipeable=wipeable,
            ),
        )
    return list(found.values())


def _disks(lsblk: bytes) -> list[tuple[_Node, _Node]]:
    """Return each disk with what it is used by: itself, or the map of several paths."""
    try:
        tree = msgspec.json.decode(lsblk, type=_Tree, strict=False)
    except msgspec.DecodeError as error:
        raise refused(f"lsblk describes disks in a way that is not known: {error}", "report it") from error
    disks = (disk for disk in tree.blockdevices if disk.type == DISK)
    return [(disk, next((child for child in disk.children if child.type == MPATH), disk)) for disk in disks]


def _wwid(node: _Node, links: Mapping[str, str]) -> str | None:
    mine = sorted(name for name, device in links.items() if device == node.path)
    for start in _WWID_LINKS:
        for name in mine:
            if name.startswith(start) and "-part" not in name:
                return name.removeprefix("dm-uuid-mpath-")
    return node.wwn


def _hindrance(disk: _Node, node: _Node, wwid: str | None, around: Surroundings) -> tuple[str | None, bool]:
    """Return why a disk is no candidate, None when it is one; and whether wiping it would make it one."""
    mounted = next((each.mountpoint for each in _below(disk) if each.mountpoint), None)
    if mounted is not None:
        return f"it is in use: {mounted}", False
    if node.size == 0:
        return "it has no medium", False
    if disk.ro or disk.rm:
        return f"it is {'read-only' if disk.ro else 'removable'}", False
    if wwid is None:
        return "it has no WWID by which hosts could tell that it is the same disk", False
    volume = next((each for each in around.volumes if each.device == node.path), None)
    if volume is not None and volume.group:
        return _group_on(volume.group, around)
    kinds = around.contents.get(node.path, [kind for kind in (node.pttype, node.fstype) if kind])
    if kinds is None:
        return "it cannot be read", False
    tables = [kind for kind in kinds if kind in _TABLES or kind == node.pttype]
    if tables or any(child.type == "part" for child in node.children):
        return f"it has partitions ({tables[0] if tables else 'of a kind that is not known'})", False
    if "LVM2_member" in kinds:
        return "it is a physical volume of no volume group", True
    if kinds:
        return f"it holds {kinds[0]}", False
    others = [child.name for child in node.children]
    return (f"{', '.join(others)} is made of it", False) if others else (None, False)


def _group_on(name: str, around: Surroundings) -> tuple[str, bool]:
    if name in around.in_use:
        return f"it belongs to the primary storage {name}", False
    group = next((each for each in around.groups if each.name == name), None)
    if group is not None and MARK in group.tags:
        return f"it holds what is left of the primary storage {name}, which was deleted", True
    return f"it belongs to the volume group {name}, which is none of Hardpoint's", False


def _below(node: _Node) -> Iterator[_Node]:
    yield node
    for child in node.children:
        yield from _below(child)


def _plain(text: str | None) -> str | None:
    return text.strip() or None if text is not None else None
