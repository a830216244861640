"""Recordings of machines: a small archive of all that the readers read, to replay them on.

It holds what one inventory looked at: files as files, links as links, and for directories that were listed
the names alone. What could identify the machine is replaced unless the caller keeps it.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import secrets
import tarfile
from pathlib import Path

from agentkit.errors import Blame, HardpointError
from kvmagent.inventory import take_inventory
from kvmagent.machine import pci_ids
from kvmagent.machine.iommu import iommu_groups
from kvmagent.machine.mounts import NETWORK_TYPES
from kvmagent.machine.tree import Tree
from kvmagent.protocol import Inventory
from kvmagent.pseudonyms import Pseudonyms, disguise

FILE_LIMIT_BYTES = 2 * 2**20
TOTAL_LIMIT_BYTES = 64 * 2**20
UNPACKED_LIMIT_BYTES = 256 * 2**20
MEMBER_LIMIT = 200_000
_PCI_EXTRAS = (
    "ari_enabled",
    "boot_vga",
    "current_link_speed",
    "current_link_width",
    "d3cold_allowed",
    "driver_override",
    "enable",
    "irq",
    "local_cpulist",
    "max_link_speed",
    "max_link_width",
    "modalias",
    "power_state",
    "reset_method",
    "resource",
    "sriov_numvfs",
    "sriov_totalvfs",
    "uevent",
)
_USB_EXTRAS = (
    "bDeviceProtocol",
    "bDeviceSubClass",
    "bMaxPower",
    "bNumInterfaces",
    "bcdDevice",
    "removable",
    "uevent",
)
_NET_EXTRAS = ("addr_assign_type", "carrier", "dev_port", "duplex", "ifindex", "iflink", "type", "uevent")


class RecordingTree(Tree):
    """A tree that remembers what was looked at."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        self.files: set[str] = set()
        self.directories: set[str] = set()
        self.presences: set[str] = set()
        self.links: dict[str, str] = {}

    def bytes(self, path: str, limit: int = FILE_LIMIT_BYTES, offset: int = 0) -> bytes | None:
        """Read as a tree does, and remember the file."""
        data = super().bytes(path, limit, offset)
        real = self.resolve(path)
        if data is not None and real:
            self.files.add(real)
        return data

    def names(self, path: str) -> list[str]:
        """List as a tree does, and remember the directory."""
        names = super().names(path)
        real = self.resolve(path)
        if real and super().is_dir(real):
            self.directories.add(real)
        return names

    def exists(self, path: str) -> bool:
        """Look as a tree does, and remember what was there."""
        found = super().exists(path)
        real = self.resolve(path)
        if found and real:
            (self.directories if super().is_dir(real) else self.presences).add(real)
        return found

    def is_dir(self, path: str) -> bool:
        """Look as a tree does, and remember the directory."""
        found = super().is_dir(path)
        real = self.resolve(path)
        if found and real:
            self.directories.add(real)
        return found

    def _target(self, path: str) -> str | None:
        # /proc/self is another process at the next reading: recorded, it is a directory.
        target = None if path in {"proc/self", "proc/thread-self"} else super()._target(path)
        if target is not None:
            self.links[f"/{path}"] = target
        return target


def record(file: Path, root: str | os.PathLike[str] = "/", *, keep_identity: bool = False) -> int:
    """Write a recording of the machine below `root` to `file` (a .tar.xz); return its size in bytes.

    Serial numbers, MAC addresses, machine id and host name are replaced unless `keep_identity`. IP addresses
    and the names of network file systems stay. Raises HardpointError when the file cannot be written or the
    machine is larger than a recording may be.
    """
    tree = RecordingTree(root)
    inventory = take_inventory(tree)
    _look_further(tree, inventory)
    names = None if keep_identity else Pseudonyms(_secret(tree))
    try:
        with tarfile.open(file, "w:xz", format=tarfile.GNU_FORMAT) as archive:
            _write(archive, tree, _contents(tree, inventory, names))
        return file.stat().st_size
    except OSError as error:
        reason = error.strerror or str(error)
        raise _failure(
            f"Cannot write {file}: {reason}.", "Name a file in a directory you can write to."
        ) from error


def unpack(file: Path, directory: Path) -> None:
    """Unpack a recording below `directory`, which it can neither leave nor fill.

    Members with absolute names or `..`, and all that is no file, link or directory, are refused; so are
    members that would be written through a link. Links are made as they were recorded: they are read with
    `Tree`, which follows them inside its root only. Raises HardpointError when the file is no recording.
    """
    remedy = "Give a .tar.xz that `kvmagent record` wrote."
    try:
        with tarfile.open(file, "r:xz") as archive:
            _unpack_members(archive, Path(directory), remedy)
    except OSError as error:
        raise _failure(f"Cannot read {file}: {error.strerror or error}.", remedy) from error
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise _failure(f"{file} is no recording: {error}.", remedy) from error


def _unpack_members(archive: tarfile.TarFile, directory: Path, remedy: str) -> None:
    total = 0
    for count, member in enumerate(archive):
        parts = member.name.split("/")
        total += member.size
        if (
            member.name.startswith("/")
            or ".." in parts
            or not (member.isfile() or member.isdir() or member.issym())
        ):
            raise _failure(f"Member {member.name!r} of the recording leads out of it.", remedy)
        if total > UNPACKED_LIMIT_BYTES or count > MEMBER_LIMIT:
            raise _failure("The recording is larger than a recording may be.", remedy)
        target = directory.joinpath(*parts)
        inside = [directory.joinpath(*parts[:end]) for end in range(1, len(parts))]
        if any(parent.is_symlink() for parent in inside):
            raise _failure(f"Member {member.name!r} of the recording lies behind a link.", remedy)
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            target.mkdir(exist_ok=True)
        elif member.issym():
            target.symlink_to(member.linkname)
        else:
            source = archive.extractfile(member)
            with target.open("xb") as copy:
                copy.write(source.read() if source else b"")


def _look_further(tree: RecordingTree, inventory: Inventory) -> None:
    """Touch what the readers of today do not need and those of tomorrow may."""
    for function in inventory.pci:
        for name in _PCI_EXTRAS:
            tree.bytes(f"/sys/bus/pci/devices/{function.address}/{name}")
        # Whole, for the extended capabilities that no reader asks for yet.
        tree.bytes(f"/sys/bus/pci/devices/{function.address}/config")
    for device in inventory.usb:
        for name in _USB_EXTRAS:
            tree.bytes(f"/sys/bus/usb/devices/{device.port_path}/{name}")
    for interface in inventory.network:
        for name in _NET_EXTRAS:
            tree.bytes(f"/sys/class/net/{interface.name}/{name}")
    for path in ("/proc/cmdline", "/proc/version"):
        tree.bytes(path)
    iommu_groups(tree)


def _contents(tree: RecordingTree, inventory: Inventory, names: Pseudonyms | None) -> dict[str, bytes]:
    """Return the files of a recording by path."""
    found = dict.fromkeys(tree.presences, b"")
    total = 0
    for path in sorted(tree.files):
        if path in pci_ids.PLACES:
            found[path] = _ids(tree, inventory)
            continue
        data = Tree.bytes(tree, path, FILE_LIMIT_BYTES) or b""
        data = _trimmed(path, data)
        found[path] = disguise(path, data, names) if names else data
        total += len(found[path])
        if total > TOTAL_LIMIT_BYTES:
            remedy = "Record a directory that is a machine's root, with /sys and /proc in it."
            raise _failure(f"The machine has more than {TOTAL_LIMIT_BYTES} bytes to record.", remedy)
    return found


def _trimmed(path: str, data: bytes) -> bytes:
    """Leave out the mounts that no disk and no network stands behind: a container host has thousands."""
    name = path.rpartition("/")[2]
    if name not in {"mountinfo", "mounts"}:
        return data
    return b"".join(
        line for line in data.splitlines(keepends=True) if _worth(line.decode("utf-8", "replace"), name)
    )


def _worth(line: str, name: str) -> bool:
    fields = (line.partition(" - ")[2] if name == "mountinfo" else line).split()
    source, kind = (fields[1:2], fields[0:1]) if name == "mountinfo" else (fields[0:1], fields[2:3])
    return bool(source and source[0].startswith("/dev/")) or bool(kind and kind[0] in NETWORK_TYPES)


def _ids(tree: Tree, inventory: Inventory) -> bytes:
    pairs = [(function.vendor_id, function.device_id) for function in inventory.pci]
    pairs += [(function.subvendor_id, function.subdevice_id) for function in inventory.pci]
    return pci_ids.load(tree).subset(pairs, [function.class_code for function in inventory.pci])


def _write(archive: tarfile.TarFile, tree: RecordingTree, contents: dict[str, bytes]) -> None:
    """Write files, links and directories in order; names in listed directories are all there."""
    members: dict[str, tarfile.TarInfo] = {}
    for path, data in contents.items():
        members[path] = _member(path, tarfile.REGTYPE, size=len(data))
    for path, target in tree.links.items():
        members[path] = _member(path, tarfile.SYMTYPE, target=target)
    for directory in tree.directories:
        members.setdefault(directory, _member(directory, tarfile.DIRTYPE))
        for name in Tree.names(tree, directory):
            path = f"{directory.rstrip('/')}/{name}"
            if path not in members:
                members[path] = _placeholder(tree, path)
    # A parent of a member is a directory, whatever the listing of its own parent took it for.
    for path in list(members):
        parent = path.rpartition("/")[0]
        while parent:
            members[parent] = _member(parent, tarfile.DIRTYPE)
            parent = parent.rpartition("/")[0]
    for path in sorted(members):
        archive.addfile(
            members[path], io.BytesIO(contents[path]) if members[path].isreg() and path in contents else None
        )


def _placeholder(tree: RecordingTree, path: str) -> tarfile.TarInfo:
    target = tree._target(path.lstrip("/"))
    if target is not None:
        return _member(path, tarfile.SYMTYPE, target=target)
    return _member(path, tarfile.DIRTYPE if Tree.is_dir(tree, path) else tarfile.REGTYPE)


def _member(path: str, kind: bytes, *, size: int = 0, target: str = "") -> tarfile.TarInfo:
    """Return a member that depends on nothing but its content, so that equal machines give equal archives."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.type, member.size, member.linkname = kind, size, target
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return member


def _secret(tree: Tree) -> bytes:
    own = tree.text("/etc/machine-id")
    return hashlib.sha256(b"hardpoint recording " + own.encode()).digest() if own else secrets.token_bytes(32)


def _failure(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)
