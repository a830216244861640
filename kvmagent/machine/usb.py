"""The USB devices of a machine that are no hubs."""

from __future__ import annotations

import re

from kvmagent.machine.evidence import keep_telling
from kvmagent.machine.locations import Locations, pci_address_of
from kvmagent.machine.pci import pci_paths
from kvmagent.machine.tree import Tree
from kvmagent.protocol import Evidence, UsbDevice

DEVICES = "/sys/bus/usb/devices"
HUB_CLASS = 0x09
FULL_SPEED_MBIT = 12
_DEVICE = re.compile(r"usb\d+|\d+-\d+(\.\d+)*")
_INTERFACE = re.compile(r"/(\d+-\d+(?:\.\d+)*):\d+\.\d+(?=/)")
_ROOT_HUB = re.compile(r"/usb\d+(?=/)")


def read_usb(tree: Tree) -> list[UsbDevice]:
    """Return all USB devices but hubs, by bus and device number."""
    locations = Locations(tree)
    found = [_device(tree, path, locations) for path in usb_paths(tree)]
    devices = sorted(
        (device for device in found if device), key=lambda device: (device.bus_num, device.dev_num)
    )
    keep_telling([device.identity for device in devices])
    return devices


def usb_paths(tree: Tree) -> list[str]:
    """Return the directory below /sys/devices of every USB device, hubs included."""
    names = [name for name in tree.names(DEVICES) if _DEVICE.fullmatch(name)]
    if names:
        return [path for name in names if (path := tree.resolve(f"{DEVICES}/{name}"))]
    # Trimmed recordings lack /sys/bus/usb: there the devices are found below their controllers.
    return [path for controller in pci_paths(tree).values() for path in _below(tree, controller)]


def usb_port_of(path: str | None) -> str | None:
    """Return the port (`1-1.2`) of the USB device that a directory of sysfs is on, None for none."""
    ports: list[str] = _INTERFACE.findall(path or "")
    return ports[-1] if ports else None


def _below(tree: Tree, path: str) -> list[str]:
    children = [f"{path}/{name}" for name in tree.names(path) if _DEVICE.fullmatch(name)]
    return children + [deeper for child in children for deeper in _below(tree, child)]


def _device(tree: Tree, path: str, locations: Locations) -> UsbDevice | None:
    bus, number = tree.int(f"{path}/busnum"), tree.int(f"{path}/devnum")
    vendor, product = tree.text(f"{path}/idVendor"), tree.text(f"{path}/idProduct")
    if bus is None or number is None or vendor is None or product is None:
        return None
    if tree.int(f"{path}/bDeviceClass", 16) == HUB_CLASS:
        return None
    port_path = path.rpartition("/")[2]
    speed = _speed(tree.text(f"{path}/speed"))
    serial = tree.text(f"{path}/serial") or ""
    ids = f"{vendor}:{product}".lower()
    identity = [Evidence(kind="serial", value=f"{ids}:{serial}")] if serial else []
    identity.append(Evidence(kind="port", value=f"{ids}@{_port(tree, path, locations)}"))
    return UsbDevice(
        bus_num=f"{bus:03d}",
        dev_num=f"{number:03d}",
        port_path=port_path,
        id_vendor=vendor.lower(),
        id_product=product.lower(),
        i_manufacturer=tree.text(f"{path}/manufacturer") or "",
        i_product=tree.text(f"{path}/product") or "",
        i_serial=serial,
        usb_version=usb_version(tree.text(f"{path}/version"), speed),
        speed_mbit=speed,
        identity=identity,
    )


def usb_version(version: str | None, speed_mbit: float | None) -> str:
    """Return the USB version as the API has it: `2.00` is `2.0`, and a slow device is `1.1`."""
    if speed_mbit is not None and speed_mbit <= FULL_SPEED_MBIT:
        return "1.1"
    major, _, minor = (version or "").strip().partition(".")
    return f"{major}.{minor[:1] + minor[1:].rstrip('0') or '0'}" if major else ""


def _speed(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _port(tree: Tree, path: str, locations: Locations) -> str:
    """Return the ports down from the controller, with neither PCI nor USB bus numbers.

    A controller for USB 3 has two root hubs that count their ports alike; their USB version tells them apart.
    """
    hub = _ROOT_HUB.search(path)
    if hub is None:
        return path.removeprefix("/sys/devices/")
    above, root = path[: hub.start()], path[: hub.end()]
    controller = locations.name(above) if pci_address_of(above) else above.removeprefix("/sys/devices/")
    version = (tree.text(f"{root}/version") or "?").partition(".")[0]
    return f"{controller}/usb{version}/{path.rpartition('-')[2]}"
