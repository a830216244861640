"""The disks and partitions of a machine, what is mounted from them and what is stacked on them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvmagent.machine.evidence import keep_telling
from kvmagent.machine.locations import pci_address_of
from kvmagent.machine.mounts import SWAP, Mount
from kvmagent.machine.tree import Tree
from kvmagent.protocol import BlockDevice, Evidence

BLOCK = "/sys/class/block"
SECTOR_BYTES = 512
"""The unit of sysfs, whatever the disk's own sector size is."""
_PSEUDO = ("loop", "ram", "zram", "nbd")
_TRANSPORTS = (
    ("iscsi", re.compile(r"/session\d+/")),
    ("fc", re.compile(r"/rport-")),
    ("usb", re.compile(r"/usb\d+/")),
    ("nvme", re.compile(r"/nvme")),
    ("sas", re.compile(r"/(end_device|sas_)|/port-\d+:")),
    ("sata", re.compile(r"/ata\d+/")),
    ("virtio", re.compile(r"/virtio\d+/")),
    ("mmc", re.compile(r"/mmc_host/")),
    ("xen", re.compile(r"/vbd-")),
    ("scsi", re.compile(r"/target\d+:")),
)
_VIRTUAL = (("dm-", "dm"), ("md", "md"), ("loop", "loop"), ("zram", "zram"), ("ram", "ram"), ("nbd", "nbd"))
_CONTROLLER = re.compile(r"nvme\d+")
_VPD_HEADER_BYTES = 4


def read_block(tree: Tree, mounts: Sequence[Mount] = (), swaps: Sequence[str] = ()) -> list[BlockDevice]:
    """Return disks and partitions by name; what is swapped to has the mount `[swap]`.

    Empty loop, RAM and network block devices are left out, and so are the hidden paths of multipath NVMe.
    """
    devices = []
    for name in tree.names(BLOCK):
        path = tree.resolve(f"{BLOCK}/{name}")
        size = tree.int(f"{path}/size") or 0
        hollow = name.startswith(_PSEUDO) and (size == 0 or _idle_loop(tree, name, path or ""))
        if path and not hollow and not tree.flag(f"{path}/hidden"):
            devices.append(_device(tree, name, path, size * SECTOR_BYTES))
    _add_mounts(tree, devices, mounts, swaps)
    keep_telling([device.identity for device in devices])
    return devices


def controllers_of(tree: Tree, name: str) -> list[str]:
    """Return the PCI functions that a disk is reached through: several for multipath NVMe."""
    path = tree.resolve(f"{BLOCK}/{name}") or ""
    direct = pci_address_of(path)
    if direct or "/nvme-subsystem/" not in path:
        return [direct] if direct else []
    subsystem = path.rpartition("/")[0]
    links = [entry for entry in tree.names(subsystem) if _CONTROLLER.fullmatch(entry)]
    found = {pci_address_of(tree.resolve(f"{subsystem}/{entry}")) for entry in links}
    return sorted(address for address in found if address)


def _idle_loop(tree: Tree, name: str, path: str) -> bool:
    return name.startswith("loop") and not tree.exists(f"{path}/partition") and not _backing(tree, path)


def _backing(tree: Tree, path: str) -> str | None:
    return tree.text(f"{path}/loop/backing_file")


def _device(tree: Tree, name: str, path: str, size_bytes: int) -> BlockDevice:
    partition = tree.int(f"{path}/partition")
    disk_path = path if partition is None else path.rpartition("/")[0]
    disk = disk_path.rpartition("/")[2]
    controllers = controllers_of(tree, disk)
    vendor = _text(tree, f"{disk_path}/device/vendor")
    wwid, serial = _wwid(tree, disk_path), _serial(tree, disk_path)
    model = _text(tree, f"{disk_path}/device/model") or _text(tree, f"{disk_path}/device/name")
    whole = partition is None
    return BlockDevice(
        name=name,
        parent=None if whole else disk,
        transport=transport_of(disk, disk_path),
        size_bytes=size_bytes,
        wwid=wwid if whole else None,
        # virtio says a PCI vendor id here, which is no name.
        vendor=vendor if whole and vendor and not vendor.startswith("0x") else None,
        model=model if whole else None,
        serial=serial if whole else None,
        rotational=tree.flag(f"{disk_path}/queue/rotational"),
        read_only=tree.flag(f"{path}/ro"),
        removable=tree.flag(f"{disk_path}/removable"),
        pci_address=controllers[0] if controllers else None,
        mounts=[],
        holders=tree.names(f"{path}/holders"),
        identity=_identity(wwid, model, serial, partition),
    )


def _identity(
    wwid: str | None, model: str | None, serial: str | None, partition: int | None
) -> list[Evidence]:
    part = "" if partition is None else f"-part{partition}"
    found = [Evidence(kind="wwid", value=wwid + part)] if wwid else []
    if serial:
        found.append(Evidence(kind="serial", value=f"{model or ''}:{serial}{part}"))
    return found


def transport_of(name: str, path: str) -> str:
    """Return how a disk is reached, from its directory below /sys/devices."""
    for prefix, transport in _VIRTUAL:
        if name.startswith(prefix):
            return transport
    return next((transport for transport, mark in _TRANSPORTS if mark.search(path)), "unknown")


def _wwid(tree: Tree, path: str) -> str | None:
    for place in ("wwid", "device/wwid", "nguid", "eui", "dm/uuid", "md/uuid"):
        value = _text(tree, f"{path}/{place}")
        if value and value.strip("0- "):
            return value
    return None


def _serial(tree: Tree, path: str) -> str | None:
    serial = _text(tree, f"{path}/serial") or _text(tree, f"{path}/device/serial")
    return serial or unit_serial(tree.bytes(f"{path}/device/vpd_pg80"))


def unit_serial(page: bytes | None) -> str | None:
    """Return the serial number in SCSI's vital product data page 0x80."""
    if not page or len(page) <= _VPD_HEADER_BYTES:
        return None
    end = _VPD_HEADER_BYTES + int.from_bytes(page[2:4], "big")
    text = page[_VPD_HEADER_BYTES:end].decode("ascii", "replace").strip("\0 ")
    return text if text and text.isprintable() and text.isascii() else None


def _text(tree: Tree, path: str) -> str | None:
    text = tree.text(path)
    return " ".join(text.split()) if text else None


def _add_mounts(
    tree: Tree, devices: list[BlockDevice], mounts: Sequence[Mount], swaps: Sequence[str]
) -> None:
    """Note at each device where it is mounted.

    The device number tells best; Btrfs has its own, and old recordings have none: there the source does.
    """
    points: dict[str, set[str]] = {}
    for mount in mounts:
        points.setdefault(mount.source, set()).add(mount.point)
        points.setdefault(mount.number or "", set()).add(mount.point)
    known = {device.name for device in devices}
    for source in list(points):
        disk = disk_of(source.removeprefix("/dev/"), known)
        if source.startswith("/dev/") and disk:
            points.setdefault(f"/dev/{disk}", set()).update(points[source])
    for device in devices:
        path = f"{BLOCK}/{device.name}"
        aliases = {f"/dev/{device.name}", tree.text(f"{path}/dev")}
        mapped = tree.text(f"{path}/dm/name")
        aliases.add(f"/dev/mapper/{mapped}" if mapped else None)
        found = {point for alias in aliases if alias for point in points.get(alias, ())}
        device.mounts = sorted(found) + ([SWAP] if aliases & set(swaps) else [])


def disk_of(name: str, known: set[str]) -> str | None:
    """Return the disk of a partition that is not known itself (`sda1` of `sda`), None when there is none."""
    if name in known or "/" in name:
        return None
    disk = re.sub(r"(?<=\d)p\d+$|(?<=[a-z])\d+$", "", name)
    return disk if disk in known and disk != name else None
