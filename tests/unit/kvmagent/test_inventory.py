from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmagent.inventory import ALL, diff, hash_of, take_inventory
from kvmagent.protocol import DeviceAction, DeviceEvent, Inventory

LISTS = ("pci", "usb", "block", "network")


def key(section: str, device) -> tuple[str, ...]:
    if section == "pci":
        return (device.address,)
    if section == "usb":
        return (device.port_path, device.bus_num, device.dev_num)
    return (device.name,)


def apply(inventory: Inventory, events: list[DeviceEvent]) -> dict[str, dict]:
    """Return the lists of an inventory by key after events, as the management node would keep them."""
    lists = {name: {key(name, device): device for device in getattr(inventory, name)} for name in LISTS}
    for event in events:
        given = [(name, getattr(event, name)) for name in LISTS if getattr(event, name) is not None]
        ((name, device),) = given
        known = key(name, device) in lists[name]
        assert known == (event.action is not DeviceAction.ADDED)
        if event.action is DeviceAction.REMOVED:
            del lists[name][key(name, device)]
        else:
            lists[name][key(name, device)] = device
    return lists


@pytest.fixture(scope="session")
def server(recorded) -> Inventory:
    return take_inventory(recorded("four-socket-2013"))


def test_an_inventory_has_all_sections_and_a_hash(server: Inventory) -> None:
    assert (len(server.pci), len(server.usb), len(server.block), len(server.network)) == (37, 1, 8, 5)
    assert server.hash == hash_of(server)
    assert len(server.hash) == 64


def test_the_same_machine_gives_the_same_inventory(recorded, server: Inventory) -> None:
    assert take_inventory(recorded("four-socket-2013")) == server


def test_an_inventory_travels_on_the_wire(server: Inventory) -> None:
    assert msgspec.json.decode(msgspec.json.encode(server), type=Inventory) == server


def test_the_disk_controller_and_its_bridge_are_boot_critical(server: Inventory) -> None:
    critical = {item.address: item.boot_critical for item in server.pci if item.boot_critical}
    assert sorted(critical) == ["0000:00:03.0", "0000:01:00.0"]
    assert critical["0000:01:00.0"].startswith("root file system on /dev/sda1")
    assert critical["0000:00:03.0"].startswith("bridge above 0000:01:00.0: root file system")


def test_disk_and_nic_of_a_guest_are_boot_critical(recorded) -> None:
    critical = {item.address: item.boot_critical for item in take_inventory(recorded("virtio-guest")).pci}
    assert critical["0000:00:02.0"] == "root file system on /dev/vda"
    assert critical["0000:00:03.0"] == "default route through eth0"


def test_the_interface_with_the_management_address_is_boot_critical(recorded) -> None:
    inventory = take_inventory(recorded("virtio-guest"), management_address="192.0.2.2")
    (nic,) = [item for item in inventory.pci if item.address == "0000:00:03.0"]
    assert nic.boot_critical == "management address 192.0.2.2 on eth0; default route through eth0"


@pytest.mark.parametrize("section", sorted(ALL - {"facts"}))
def test_only_the_sections_asked_for_are_filled(recorded, server: Inventory, section: str) -> None:
    inventory = take_inventory(recorded("four-socket-2013"), sections=[section])
    assert getattr(inventory, section) == getattr(server, section)
    assert all(not getattr(inventory, other) for other in LISTS if other != section)
    assert inventory.facts.cpu_num == 0


def test_what_flaps_is_not_in_the_hash(server: Inventory) -> None:
    replace = msgspec.structs.replace
    nics = [replace(nic, state="down", speed_mbit=10) for nic in server.network]
    facts = replace(server.facts, boot_id="other", cpu_mhz=1.0)
    assert hash_of(replace(server, facts=facts, network=nics)) == server.hash
    assert hash_of(replace(server, facts=replace(server.facts, memory_bytes=1))) != server.hash
    assert hash_of(replace(server, pci=server.pci[1:])) != server.hash


def test_a_plugged_usb_device_is_one_event(recorded, server: Inventory) -> None:
    before = msgspec.structs.replace(server, usb=[])
    (event,) = diff(before, server)
    assert (event.action, event.usb, event.inventory_hash) == ("added", server.usb[0], server.hash)
    (event,) = diff(server, before)
    assert (event.action, event.usb) == ("removed", server.usb[0])


def test_a_reenumerated_usb_device_went_and_came(server: Inventory) -> None:
    again = msgspec.structs.replace(server.usb[0], dev_num="009")
    events = diff(server, msgspec.structs.replace(server, usb=[again]))
    assert [event.action for event in events] == ["removed", "added"]


def test_a_machine_that_stays_as_it_is_has_no_events(server: Inventory) -> None:
    assert diff(server, server) == []


def changed(section: str, device):
    """Return the device with another value in a field that is no key."""
    field = {"pci": "driver", "usb": "i_product", "block": "wwid", "network": "driver"}[section]
    return msgspec.structs.replace(device, **{field: "another"})


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_events_of_a_difference_lead_from_the_old_to_the_new(
    server: Inventory, data: st.DataObject
) -> None:
    def some() -> Inventory:
        lists = {}
        for name in LISTS:
            devices = getattr(server, name)
            fates = data.draw(st.lists(st.sampled_from("kkcd"), min_size=len(devices), max_size=len(devices)))
            pairs = [(device, fate) for device, fate in zip(devices, fates, strict=True) if fate != "d"]
            lists[name] = [changed(name, device) if fate == "c" else device for device, fate in pairs]
        return msgspec.structs.replace(server, **lists)

    old, new = some(), some()
    wanted = {name: {key(name, device): device for device in getattr(new, name)} for name in LISTS}
    assert apply(old, diff(old, new)) == wanted


def test_an_unplugged_function_is_seen_as_removed(recorded, tmp_path: Path, server: Inventory) -> None:
    root = tmp_path / "machine"
    shutil.copytree(recorded("four-socket-2013"), root, symlinks=True)
    (root / "sys/bus/pci/devices/0000:43:00.0").unlink()
    events = diff(server, take_inventory(root))
    assert [(event.action, event.pci.address) for event in events if event.pci] == [
        ("removed", "0000:43:00.0")
    ]


def test_the_running_machine_can_be_read() -> None:
    inventory = take_inventory("/")
    assert inventory.facts.cpu_num > 0
    assert inventory.facts.kernel
    assert any(nic.name == "lo" for nic in inventory.network)


def test_a_usb_stick_says_what_the_host_has_on_it(machine) -> None:
    controller = "pci0000:00/0000:00:14.0"
    machine.pci(controller, "8086:a36d:8086:7270", "0c0330")
    ids = {"idVendor": "0781", "idProduct": "5581", "bDeviceClass": "00", "version": " 2.00", "speed": "480"}
    machine.usb(f"{controller}/usb1/1-1", busnum="1", devnum="5", **ids)
    machine.usb(f"{controller}/usb1/1-2", busnum="1", devnum="6", **ids)
    machine.disk(f"{controller}/usb1/1-1/1-1:1.0/host6/target6:0:0/6:0:0:0/block/sda", 2**30, dev="8:0\n")
    machine.write("/proc/self/mountinfo", "30 1 8:0 / / rw,relatime shared:1 - ext4 /dev/sda rw\n")
    sticks = take_inventory(machine.root).usb
    assert {stick.port_path: stick.boot_critical for stick in sticks} == {
        "1-1": "root file system on /dev/sda",
        "1-2": None,
    }
