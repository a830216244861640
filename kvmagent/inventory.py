"""The inventory of a machine: taking it, its hash, and what changed between two of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from kvmagent.machine.block import BLOCK, controllers_of, read_block
from kvmagent.machine.boot_critical import Wiring, boot_critical, critical_usb
from kvmagent.machine.facts import no_facts, read_facts
from kvmagent.machine.locations import pci_chain
from kvmagent.machine.mounts import Mount, read_mounts, read_swaps
from kvmagent.machine.network import INTERFACES, Netlink, lower_interfaces, merge, read_network
from kvmagent.machine.pci import pci_paths, read_pci
from kvmagent.machine.tree import Tree
from kvmagent.machine.usb import read_usb, usb_port_of
from kvmagent.protocol import (
    BlockDevice,
    DeviceAction,
    DeviceEvent,
    Inventory,
    NetworkInterface,
    PciFunction,
    UsbDevice,
)

ALL = frozenset({"facts", "pci", "usb", "block", "network"})
"""The sections of an inventory."""

Device = PciFunction | UsbDevice | BlockDevice | NetworkInterface
D = TypeVar("D", bound=Device)


def take_inventory(
    root: str | os.PathLike[str] | Tree,
    netlink: Netlink | None = None,
    sections: Iterable[str] = ALL,
    management_address: str | None = None,
) -> Inventory:
    """Read the machine below `root`; sections that are not asked for are empty.

    `netlink` is what the child of `machine.network` said, for the live machine. `management_address` is the
    address that the management node reaches the host at: the interface that has it is boot-critical.
    """
    inventory = read_machine(root, netlink, sections, management_address)
    inventory.hash = hash_of(inventory)
    return inventory


def read_machine(
    root: str | os.PathLike[str] | Tree,
    netlink: Netlink | None = None,
    sections: Iterable[str] = ALL,
    management_address: str | None = None,
) -> Inventory:
    """Return what `take_inventory` does, but without the hash."""
    tree = root if isinstance(root, Tree) else Tree(root)
    wanted = frozenset(sections)
    block: list[BlockDevice] = []
    network: list[NetworkInterface] = []
    mounts: list[Mount] = []
    if wanted & {"pci", "usb", "block"}:
        mounts = read_mounts(tree)
        block = read_block(tree, mounts, read_swaps(tree))
    if wanted & {"pci", "usb", "network"}:
        network = merge(read_network(tree), netlink)
    pci = read_pci(tree) if "pci" in wanted else []
    usb = read_usb(tree) if "usb" in wanted else []
    if pci or usb:
        wiring = _wiring(tree, block, network)
        critical = boot_critical(block, network, mounts, wiring, management_address)
        for function in pci:
            function.boot_critical = critical.get(function.address)
        at_ports = critical_usb(block, network, mounts, wiring, management_address)
        for device in usb:
            device.boot_critical = at_ports.get(device.port_path)
    return Inventory(
        facts=read_facts(tree) if "facts" in wanted else no_facts(),
        pci=pci,
        usb=usb,
        block=block if "block" in wanted else [],
        network=network if "network" in wanted else [],
        hash="",
    )


def hash_of(inventory: Inventory) -> str:
    """Return the SHA-256 of all that is not volatile: boot id, clock rate, speed and state of links."""
    replace = msgspec.structs.replace
    settled = replace(
        inventory,
        facts=replace(inventory.facts, boot_id=None, cpu_mhz=None),
        network=[replace(nic, state="", speed_mbit=None) for nic in inventory.network],
        hash="",
    )
    import hashlib  # loads OpenSSL, which a printed table has no use for

    return hashlib.sha256(msgspec.json.encode(settled)).hexdigest()


def diff(old: Inventory, new: Inventory) -> list[DeviceEvent]:
    """Return what happened to devices from `old` to `new`: for each list what went, changed and came.

    Devices are matched by where they are: PCI address, USB port path with bus and device number, name. Events
    carry the hash of `new`; facts have none.
    """
    events: list[DeviceEvent] = []
    events += _list_diff(old.pci, new.pci, _pci_key, lambda a, d: _event(a, new, pci=d))
    events += _list_diff(old.usb, new.usb, _usb_key, lambda a, d: _event(a, new, usb=d))
    events += _list_diff(old.block, new.block, _name_key, lambda a, d: _event(a, new, block=d))
    events += _list_diff(old.network, new.network, _name_key, lambda a, d: _event(a, new, network=d))
    return events


def _list_diff(
    old: Sequence[D],
    new: Sequence[D],
    key: Callable[[D], str],
    event: Callable[[DeviceAction, D], DeviceEvent],
) -> list[DeviceEvent]:
    before, after = {key(device): device for device in old}, {key(device): device for device in new}
    gone = [event(DeviceAction.REMOVED, before[at]) for at in before if at not in after]
    changed = [
        event(DeviceAction.CHANGED, device)
        for at, device in after.items()
        if at in before and before[at] != device
    ]
    return gone + changed + [event(DeviceAction.ADDED, after[at]) for at in after if at not in before]


def _event(
    action: DeviceAction,
    new: Inventory,
    *,
    pci: PciFunction | None = None,
    usb: UsbDevice | None = None,
    block: BlockDevice | None = None,
    network: NetworkInterface | None = None,
) -> DeviceEvent:
    return DeviceEvent(action=action, inventory_hash=new.hash, pci=pci, usb=usb, block=block, network=network)


def _pci_key(device: PciFunction) -> str:
    return device.address


def _usb_key(device: UsbDevice) -> str:
    return f"{device.port_path} {device.bus_num}:{device.dev_num}"


def _name_key(device: BlockDevice | NetworkInterface) -> str:
    return device.name


def _wiring(tree: Tree, block: Sequence[BlockDevice], network: Sequence[NetworkInterface]) -> Wiring:
    disks = [disk.name for disk in block if disk.parent is None]
    places = [(name, f"{BLOCK}/{name}") for name in disks]
    places += [(nic.name, f"{INTERFACES}/{nic.name}") for nic in network]
    ports = {name: usb_port_of(tree.resolve(place)) for name, place in places}
    return Wiring(
        bridges={address: pci_chain(path)[:-1] for address, path in pci_paths(tree).items()},
        controllers={name: controllers_of(tree, name) for name in disks},
        lowers=lower_interfaces(tree),
        usb={name: port for name, port in ports.items() if port},
    )
