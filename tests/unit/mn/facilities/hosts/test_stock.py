"""Events of devices are for the inventory that they follow, and for no other."""

from __future__ import annotations

from typing import Any, cast

from kvmagent.machine.facts import no_facts
from kvmagent.protocol import DeviceAction, DeviceEvent, Inventory, NetworkInterface
from mn.db.engine import Database
from mn.db.global_settings import ALL, GlobalSettings
from mn.facilities.hosts.followers import Followers
from mn.facilities.hosts.stock import StockObserver, Watcher

HOST = "a" * 32
SETTINGS = cast("GlobalSettings", {setting: setting.default for setting in ALL})


class Writes:
    """A database that notes which inventories are written to it."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []

    async def write(self, _fn: Any, _host: str, inventory: Inventory, *_: Any) -> None:
        self.names.append([nic.name for nic in inventory.network])


def interface(name: str) -> NetworkInterface:
    return NetworkInterface(
        name=name,
        kind="physical",
        mac=None,
        mtu=1500,
        state="up",
        speed_mbit=None,
        driver=None,
        pci_address=None,
        master=None,
        addresses=[],
        default_route=False,
    )


def inventory(told: str, *names: str) -> Inventory:
    network = [interface(name) for name in names]
    return Inventory(facts=no_facts(), pci=[], usb=[], block=[], network=network, hash=told)


async def test_an_event_after_a_reconnect_with_other_devices_asks_for_the_whole_inventory() -> None:
    writes = Writes()
    db = cast("Database", writes)
    observer = StockObserver(db, SETTINGS, cast("Watcher", None), cast("Followers", None))
    await observer.inventory(HOST, inventory("first", "eth0", "eth1"))
    event = DeviceEvent(action=DeviceAction.ADDED, inventory_hash="second", network=interface("eth2"))
    assert await observer.device(HOST, event, "first")
    # The host has booted with other devices, and a reconnect has written them: `booted`.
    later = DeviceEvent(action=DeviceAction.ADDED, inventory_hash="third", network=interface("eth3"))
    assert not await observer.device(HOST, later, "booted")
    assert writes.names == [["eth0", "eth1"], ["eth0", "eth1", "eth2"]]
    await observer.inventory(HOST, inventory("third", "eth3"))
    assert writes.names[-1] == ["eth3"]
