"""Which PCI functions and USB devices the host cannot lose, and why: pure functions of what readers found."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kvmagent.machine.mounts import SWAP, Mount, server_of
from kvmagent.protocol import BlockDevice, NetworkInterface

MAX_REASONS = 3
"""More reasons than this are counted, not told: a disk may carry a hundred bind mounts."""


class Wiring(NamedTuple):
    """What stands on what.

    `bridges` are the PCI bridges above each function, the root port first; `controllers` the PCI functions
    that a disk is reached through; `lowers` the interfaces that a stacked interface stands on; `usb` the USB
    port (`1-1.2`) of each disk and interface that is a USB device's.
    """

    bridges: Mapping[str, Sequence[str]]
    controllers: Mapping[str, Sequence[str]] = {}
    lowers: Mapping[str, Sequence[str]] = {}
    usb: Mapping[str, str] = {}


class Reason(NamedTuple):
    """Why a thing is critical; the least `rank` is the worst to lose."""

    rank: int
    text: str


Reasons = dict[str, set[Reason]]


def boot_critical(
    block: Sequence[BlockDevice],
    network: Sequence[NetworkInterface],
    mounts: Sequence[Mount],
    wiring: Wiring,
    management_address: str | None = None,
) -> dict[str, str]:
    """Return the reason for each PCI address that carries something the host lives on.

    That is the root or another mounted file system, swap, the management address, a default route or the way
    to a mounted network file system. A bridge above such a function is critical as well and says below what.
    """
    found: Reasons = {}
    for name, reasons in _disks(block).items():
        for address in wiring.controllers.get(name, ()) or _own(block, name):
            found.setdefault(address, set()).update(reasons)
    for name, reasons in _interfaces(network, mounts, wiring.lowers, management_address).items():
        for address in [nic.pci_address for nic in network if nic.name == name and nic.pci_address]:
            found.setdefault(address, set()).update(reasons)
    told = {address: tell(reasons) for address, reasons in found.items()}
    for address in sorted(found, key=lambda address: (min(found[address]), address)):
        for bridge in wiring.bridges.get(address, ()):
            told.setdefault(bridge, f"bridge above {address}: {told[address]}")
    return told


def critical_usb(
    block: Sequence[BlockDevice],
    network: Sequence[NetworkInterface],
    mounts: Sequence[Mount],
    wiring: Wiring,
    management_address: str | None = None,
) -> dict[str, str]:
    """Return the reason for each USB port whose device carries what `boot_critical` names."""
    if not wiring.usb:
        return {}
    found: Reasons = {}
    carriers = {**_disks(block), **_interfaces(network, mounts, wiring.lowers, management_address)}
    for name, reasons in carriers.items():
        if name in wiring.usb:
            found.setdefault(wiring.usb[name], set()).update(reasons)
    return {port: tell(reasons) for port, reasons in found.items()}


def tell(reasons: Iterable[Reason]) -> str:
    """Return reasons as a text, the worst first."""
    texts = [reason.text for reason in sorted(reasons)]
    more = len(texts) - MAX_REASONS
    return "; ".join(texts[:MAX_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _own(block: Sequence[BlockDevice], name: str) -> list[str]:
    return [device.pci_address for device in block if device.name == name and device.pci_address]


def _disks(block: Sequence[BlockDevice]) -> Reasons:
    """Return the reasons of disks: their own, their partitions' and those of what is stacked on them."""
    by_name = {device.name: device for device in block}
    found: Reasons = {}
    for device in block:
        reasons = {_mount_reason(device.name, point) for point in device.mounts}
        pending, seen = [device.name], set[str]()
        while reasons and pending:
            name = pending.pop()
            if name in seen or name not in by_name:
                continue
            seen.add(name)
            found.setdefault(name, set()).update(reasons)
            parent = by_name[name].parent
            pending += [below.name for below in block if name in below.holders] + ([parent] if parent else [])
    return found


def _mount_reason(name: str, point: str) -> Reason:
    if point == "/":
        return Reason(0, f"root file system on /dev/{name}")
    if point == SWAP:
        return Reason(2, f"swap on /dev/{name}")
    return Reason(1, f"file system {point} on /dev/{name}")


def _interfaces(
    network: Sequence[NetworkInterface],
    mounts: Sequence[Mount],
    lowers: Mapping[str, Sequence[str]],
    management_address: str | None,
) -> Reasons:
    found: Reasons = {}
    servers = {server for mount in mounts if (server := server_of(mount))}
    for nic in network:
        reasons = set()
        if management_address and any(_same(item, management_address) for item in nic.addresses):
            reasons.add(Reason(3, f"management address {management_address} on {nic.name}"))
        if nic.default_route:
            reasons.add(Reason(4, f"default route through {nic.name}"))
        for server in servers:
            if any(_reaches(item, server) for item in nic.addresses):
                reasons.add(Reason(5, f"storage network to {server} through {nic.name}"))
        for name in _down(nic.name, network, lowers) if reasons else ():
            found.setdefault(name, set()).update(reasons)
    return found


def _down(name: str, network: Sequence[NetworkInterface], lowers: Mapping[str, Sequence[str]]) -> set[str]:
    """Return an interface and all those it stands on: by its lower links and by who calls it master."""
    seen, pending = set[str](), [name]
    while pending:
        here = pending.pop()
        if here not in seen:
            seen.add(here)
            pending += [*lowers.get(here, ()), *(nic.name for nic in network if nic.master == here)]
    return seen


def _same(with_prefix: str, address: str) -> bool:
    try:
        return ipaddress.ip_interface(with_prefix).ip == ipaddress.ip_address(address)
    except ValueError:
        return False


def _reaches(with_prefix: str, server: str) -> bool:
    try:
        own = ipaddress.ip_interface(with_prefix)
        return not own.is_loopback and ipaddress.ip_address(server) in own.network
    except (ValueError, TypeError):
        return False
