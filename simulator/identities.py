"""Makes machines of one recording differ: the same hardware, with serial numbers and addresses of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import msgspec

from kvmagent.inventory import hash_of
from kvmagent.protocol import (
    BlockDevice,
    Evidence,
    HostFacts,
    Inventory,
    NetworkInterface,
    PciFunction,
    UsbDevice,
)
from kvmagent.pseudonyms import Pseudonyms

_IDS_CHARS = len("8086:37d2:")
D = TypeVar("D", PciFunction, UsbDevice, BlockDevice)
_replace = msgspec.structs.replace


class Size(msgspec.Struct, frozen=True):
    """What a simulated host is to have; None leaves it as it was recorded. Memory in bytes."""

    memory_bytes: int | None = None
    cpus: int | None = None


def distinct(recorded: Inventory, host_uuid: str, size: Size) -> Inventory:
    """Return the inventory of one host of many that are like `recorded`; the same at each call."""
    own = _Own(host_uuid)
    disks = {disk.name: (disk.wwid, disk.serial) for disk in recorded.block if disk.parent is None}
    inventory = Inventory(
        facts=_facts(recorded.facts, own, size),
        pci=[_with_evidence(function, own.pci_evidence) for function in recorded.pci],
        usb=[_usb(device, own) for device in recorded.usb],
        block=[_block(device, own, disks.get(device.parent or device.name)) for device in recorded.block],
        network=[_network(nic, own) for nic in recorded.network],
        hash="",
    )
    inventory.hash = hash_of(inventory)
    return inventory


class _Own:
    """What one host has in place of what was recorded."""

    def __init__(self, host_uuid: str) -> None:
        self.uuid = host_uuid
        self.names = Pseudonyms(host_uuid.encode())

    def mac(self, recorded: str) -> str:
        """Return a link-layer address of the same length and kind: its first byte stays."""
        digest = hashlib.sha256(f"{self.uuid}/{recorded}".encode()).hexdigest()
        return recorded[:3] + ":".join(
            digest[at * 2 : at * 2 + 2] for at in range((len(recorded) + 1) // 3 - 1)
        )

    def pci_evidence(self, kind: str, value: str) -> str:
        """Return evidence of a PCI function: vendor:device:serial@function, vendor:device:mac."""
        ids, rest = value[:_IDS_CHARS], value[_IDS_CHARS:]
        if kind == "mac":
            return ids + self.mac(rest)
        if kind == "serial":
            serial, at, function = rest.rpartition("@")
            return ids + self.names.text(serial) + at + function
        return value

    def usb_evidence(self, kind: str, value: str) -> str:
        """Return evidence of a USB device: vendor:product:serial."""
        return value[:_IDS_CHARS] + self.names.text(value[_IDS_CHARS:]) if kind == "serial" else value


def _facts(facts: HostFacts, own: _Own, size: Size) -> HostFacts:
    return _replace(
        facts,
        hostname=f"simulated-{own.uuid[:8]}",
        machine_id=own.uuid,
        boot_id=own.names.text(facts.boot_id) if facts.boot_id else None,
        system_serial=own.names.text(facts.system_serial) if facts.system_serial else None,
        cpu_num=size.cpus or facts.cpu_num,
        memory_bytes=size.memory_bytes or facts.memory_bytes,
    )


def _with_evidence(device: D, change: Callable[[str, str], str]) -> D:
    identity = [Evidence(kind=item.kind, value=change(item.kind, item.value)) for item in device.identity]
    return _replace(device, identity=identity)


def _usb(device: UsbDevice, own: _Own) -> UsbDevice:
    changed = _with_evidence(device, own.usb_evidence)
    return _replace(changed, i_serial=own.names.text(device.i_serial))


def _block(device: BlockDevice, own: _Own, disk: tuple[str | None, str | None] | None) -> BlockDevice:
    """Return a disk or partition with stand-ins; `disk` are WWID and serial number of the disk it is on."""
    wwid, serial = disk or (None, None)

    def change(kind: str, value: str) -> str:
        recorded = wwid if kind == "wwid" else serial
        if not recorded:
            return value
        before, found, after = value.rpartition(recorded)
        return before + own.names.text(found) + after

    return _replace(
        _with_evidence(device, change),
        wwid=own.names.text(device.wwid) if device.wwid else device.wwid,
        serial=own.names.text(device.serial) if device.serial else device.serial,
    )


def _network(nic: NetworkInterface, own: _Own) -> NetworkInterface:
    has_address = nic.mac is not None and nic.mac.strip("0:")
    return _replace(nic, mac=own.mac(nic.mac)) if nic.mac and has_address else nic
