"""What hosts report becomes rows: inventories whole, device events one by one, connection states."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from agentkit.errors import HardpointError
from kvmagent.protocol import DeviceAction, DeviceEvent, Inventory
from kvmagent.protocol_iscsi import IscsiEvent
from kvmagent.protocol_storage import StorageEvent
from kvmagent.protocol_vms import VmEvent
from mn.db.engine import Database
from mn.db.global_settings import CPU_RATIO, GlobalSettings
from mn.facilities.block_devices import sync_block
from mn.facilities.hosts.followers import Followers
from mn.facilities.hosts.statuses import StatusBook
from mn.facilities.hosts.tables import change_host, save_endpoint, save_facts
from mn.facilities.pci.tables import sync_pci
from mn.facilities.usb.tables import sync_usb
from mn.fleet.client import Endpoint

log = logging.getLogger(__name__)


def save_inventory(
    connection: Connection, host_uuid: str, inventory: Inventory, cpu_over_provisioning: float
) -> None:
    """Bring a host's capacity and devices in line with its inventory."""
    save_facts(connection, host_uuid, inventory.facts, inventory.hash, cpu_over_provisioning)
    sync_pci(connection, host_uuid, inventory.pci)
    sync_usb(connection, host_uuid, inventory.usb)
    sync_block(connection, host_uuid, inventory.block)


class Watcher(Protocol):
    """Who looks after hosts that are lost."""

    def lost(self, host_uuid: str) -> None:
        """The host does not answer."""

    def found(self, host_uuid: str) -> None:
        """The host answers."""


@dataclass
class StockObserver:
    """Writes what the links see. Keeps each host's last inventory, to which events are applied."""

    db: Database
    settings: GlobalSettings
    watcher: Watcher
    followers: Followers

    def __post_init__(self) -> None:
        self._inventories: dict[str, Inventory] = {}
        self._statuses = StatusBook(self.db)

    async def connected(self, host_uuid: str) -> None:
        """The host answers and its inventory is known."""
        await self._statuses.set(host_uuid, "Connected")
        self.watcher.found(host_uuid)
        self.followers.connected(host_uuid)

    async def lost(self, host_uuid: str, reason: HardpointError) -> None:
        """The host does not answer."""
        await self._statuses.set(host_uuid, "Disconnected")
        self.watcher.lost(host_uuid)
        await self.followers.lost(host_uuid)

    async def vm(self, host_uuid: str, event: VmEvent) -> None:
        """Something happened to a VM."""
        self.followers.vm(host_uuid, event)

    async def storage(self, host_uuid: str, event: StorageEvent) -> None:
        """A storage answers on the host again, or no longer."""
        await self.followers.storage(host_uuid, event)

    async def iscsi(self, host_uuid: str, event: IscsiEvent) -> None:
        """A session or a path to a LUN has come, gone or changed."""
        await self.followers.iscsi(host_uuid, event)

    async def moved(self, host_uuid: str, endpoint: Endpoint) -> None:
        """The agent listens elsewhere now."""
        await self.db.write(save_endpoint, host_uuid, endpoint)

    async def inventory(self, host_uuid: str, inventory: Inventory) -> None:
        """The host's inventory, whole."""
        await self.db.write(save_inventory, host_uuid, inventory, self.settings[CPU_RATIO])
        self._inventories[host_uuid] = inventory

    async def device(self, host_uuid: str, event: DeviceEvent, before: str) -> bool:
        """One device has come, gone or changed; False when the inventory it belongs to is not known here.

        A reconnect may have written another one meanwhile, after a boot with other devices.
        """
        inventory = self._inventories.get(host_uuid)
        if inventory is None or inventory.hash != before:
            return False
        apply_event(inventory, event)
        await self.db.write(_save_event, host_uuid, inventory, event)
        log.info("device event", extra={"host": host_uuid, "action": event.action, "device": _name(event)})
        return True


def apply_event(inventory: Inventory, event: DeviceEvent) -> None:
    """Change an inventory as an event says; one that is in it already changes nothing."""
    if event.pci:
        inventory.pci = _applied(inventory.pci, event.pci, event.action, "address")
    elif event.usb:
        inventory.usb = _applied(inventory.usb, event.usb, event.action, "port_path")
    elif event.block:
        inventory.block = _applied(inventory.block, event.block, event.action, "name")
    elif event.network:
        inventory.network = _applied(inventory.network, event.network, event.action, "name")
    inventory.hash = event.inventory_hash


def _applied(devices: list[Any], device: Any, action: DeviceAction, key: str) -> list[Any]:
    others = [d for d in devices if getattr(d, key) != getattr(device, key)]
    return others if action is DeviceAction.REMOVED else [*others, device]


def _save_event(connection: Connection, host_uuid: str, inventory: Inventory, event: DeviceEvent) -> None:
    if event.pci:
        sync_pci(connection, host_uuid, inventory.pci)
    elif event.usb:
        sync_usb(connection, host_uuid, inventory.usb)
    elif event.block:
        sync_block(connection, host_uuid, inventory.block)
    change_host(connection, host_uuid, inventory_hash=event.inventory_hash)


def _name(event: DeviceEvent) -> str:
    device = event.pci or event.usb or event.block or event.network
    return str(
        getattr(device, "address", None) or getattr(device, "port_path", None) or getattr(device, "name", "")
    )
