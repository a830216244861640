"""What a host has of iSCSI now: sessions, LUNs, maps, who uses them; read from sysfs, no command runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvmagent.iscsi.portals import SessionKey, by_path_name, plain_address
from kvmagent.machine.block import BLOCK
from kvmagent.machine.luns import MultipathMap, ScsiDisk, read_maps, read_scsi_disks
from kvmagent.machine.mounts import Mount, read_mounts, read_swaps
from kvmagent.machine.tree import Tree
from kvmagent.protocol_iscsi import IscsiLun, SessionState

_SESSIONS, _CONNECTIONS = "/sys/class/iscsi_session", "/sys/class/iscsi_connection"
_NUMBER = re.compile(r"session(\d+)")
_LOGGED_IN = "LOGGED_IN"


@dataclass(frozen=True)
class Session:
    """A session that the kernel has."""

    number: int
    key: SessionKey
    state: SessionState


@dataclass(frozen=True)
class Observed:
    """What there is."""

    sessions: tuple[Session, ...]
    disks: tuple[ScsiDisk, ...]
    maps: tuple[MultipathMap, ...]
    uses: Mapping[str, tuple[str, ...]]
    """What a disk or map is used for, in words, by its name."""

    def session(self, key: SessionKey) -> Session | None:
        """Return the session to a target, None when there is none."""
        return next((session for session in self.sessions if session.key == key), None)

    def disks_of(self, keys: Iterable[SessionKey]) -> list[ScsiDisk]:
        """Return the disks that are reached through sessions."""
        wanted = set(keys)
        numbers = {session.number for session in self.sessions if session.key in wanted}
        return [disk for disk in self.disks if disk.session in numbers]

    def luns_of(self, key: SessionKey) -> list[IscsiLun]:
        """Return a session's LUNs; those without a WWID cannot be told from others and are left out."""
        return [self._lun(key, disk, disk.wwid) for disk in self.disks_of([key]) if disk.wwid]

    def _lun(self, key: SessionKey, disk: ScsiDisk, wwid: str) -> IscsiLun:
        above = next((one for one in self.maps if one.name == disk.map), None)
        return IscsiLun(
            iqn=key.iqn,
            lun=disk.lun,
            wwid=wwid,
            wwn=disk.wwn or "",
            vendor=disk.vendor,
            model=disk.model,
            serial=disk.serial or "",
            unit_serial=disk.unit_serial,
            hctl=disk.hctl,
            type="mpath" if above else "disk",
            path=disk.by_path or by_path_name(key, disk.lun),
            size=disk.size_bytes,
            state=disk.state,
            multipath=above.alias if above else None,
        )


def observe(tree: Tree) -> Observed:
    """Return what there is now."""
    disks, maps = read_scsi_disks(tree), read_maps(tree)
    names = [*(disk.name for disk in disks if disk.session is not None), *(one.name for one in maps)]
    mounts, swaps = read_mounts(tree), read_swaps(tree)
    uses = {name: tuple(_uses(tree, name, mounts, swaps)) for name in names}
    return Observed(tuple(read_sessions(tree)), tuple(disks), tuple(maps), uses)


def read_sessions(tree: Tree) -> list[Session]:
    """Return the sessions, whoever began them."""
    found = []
    for name in tree.names(_SESSIONS):
        match, path = _NUMBER.fullmatch(name), f"{_SESSIONS}/{name}"
        iqn = tree.text(f"{path}/targetname")
        connection = f"{_CONNECTIONS}/connection{match[1] if match else ''}:0"
        address = tree.text(f"{connection}/persistent_address") or tree.text(f"{connection}/address")
        port = tree.int(f"{connection}/persistent_port") or tree.int(f"{connection}/port")
        if match is None or iqn is None or address is None or port is None:
            continue
        state = SessionState.LOGGED_IN if tree.text(f"{path}/state") == _LOGGED_IN else SessionState.FAILED
        found.append(Session(int(match[1]), SessionKey(iqn, plain_address(address), port), state))
    return found


def _uses(tree: Tree, name: str, mounts: list[Mount], swaps: list[str]) -> list[str]:
    """Return what a disk is used for, its partitions as well; multipath maps over it are no use."""
    path = f"{BLOCK}/{name}"
    parts = [part for part in tree.names(path) if tree.exists(f"{path}/{part}/partition")]
    found = []
    for device in (name, *parts):
        mapped = tree.text(f"{BLOCK}/{device}/dm/name")
        files = {f"/dev/{device}", f"/dev/mapper/{mapped}" if mapped else ""}
        number = tree.text(f"{BLOCK}/{device}/dev")
        found += [
            f"{device} is mounted at {mount.point}"
            for mount in mounts
            if mount.source in files or (number and mount.number == number)
        ]
        found += [f"{device} is swapped to" for swap in swaps if swap in files]
        found += [
            f"{_name(tree, holder)} is made of {device}"
            for holder in tree.names(f"{BLOCK}/{device}/holders")
            if not (tree.text(f"{BLOCK}/{holder}/dm/uuid") or "").startswith("mpath-")
        ]
    return found


def _name(tree: Tree, device: str) -> str:
    mapped = tree.text(f"{BLOCK}/{device}/dm/name")
    return f"{mapped} ({device})" if mapped else device
