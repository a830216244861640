"""Which port of a VM's USB controllers a device gets: pure functions of the domain's XML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from agentkit.errors import HardpointError
from kvmagent.protocol import UsbDevice
from kvmagent.vms.domain_xml import own_alias
from kvmagent.vms.hostdev_xml import usb_xml

_ANY = frozenset({1, 2, 3})
_MODELS = {
    "qemu-xhci": (_ANY, 4),
    "nec-xhci": (_ANY, 4),
    "ich9-ehci1": (frozenset({2}), 6),
    "ehci": (frozenset({2}), 6),
    "piix3-uhci": (frozenset({1}), 2),
}
"""Major versions of USB that a controller serves, and its ports where its XML does not say."""


class Place(NamedTuple):
    """A port of the controller whose index is `bus`."""

    bus: int
    port: int


class Given(NamedTuple):
    """A USB device of the host that a VM gets."""

    device_uuid: str
    device: UsbDevice


class Attached(NamedTuple):
    """Where a device was on the host when a VM got it."""

    bus_num: str
    dev_num: str


def free_place(xml: str, device: UsbDevice) -> Place:
    """Return a port that suits a device.

    Raises HardpointError (SYS.1006) when the VM has no controller for it, or who has all of their ports.
    """
    return _free_place(_devices(ET.fromstring(xml)), device)  # noqa: S314 libvirt or the agent wrote it


def with_usb(xml: str, given: Sequence[Given]) -> str:
    """Return a domain's XML with USB devices added. Raises HardpointError as `free_place` does."""
    if not given:
        return xml
    root = ET.fromstring(xml)  # noqa: S314 the agent wrote it
    devices = _devices(root)
    for device_uuid, device in given:
        place = _free_place(devices, device)
        devices.append(ET.fromstring(usb_xml(device_uuid, device, *place)))  # noqa: S314
    return ET.tostring(root, encoding="unicode")


def attached_usb(xml: str) -> dict[str, Attached]:
    """Return the USB devices of the host that a domain has, by uuid."""
    found = {}
    for element in _devices(ET.fromstring(xml)).iterfind("hostdev[@type='usb']"):  # noqa: S314
        uuid, address = own_alias(element), element.find("source/address")
        if uuid is not None:
            numbers = ("0", "0") if address is None else (address.get("bus", "0"), address.get("device", "0"))
            found[uuid] = Attached(*(f"{int(number):03d}" for number in numbers))
    return found


def version_of(device: UsbDevice) -> int:
    """Return the major version that a device works at; one that does not say is taken for 2."""
    major = device.usb_version.partition(".")[0]
    return min(int(major), 3) if major.isdigit() and int(major) else 2


def _free_place(devices: ET.Element, device: UsbDevice) -> Place:
    version, taken = version_of(device), _taken(devices)
    suitable: list[tuple[int, int]] = []
    for controller in devices.iterfind("controller[@type='usb']"):
        versions, ports = _MODELS.get(controller.get("model", ""), (frozenset[int](), 0))
        if version in versions:
            suitable.append((int(controller.get("index", "0")), int(controller.get("ports", ports))))
    for index, ports in sorted(suitable):
        free = next((port for port in range(1, ports + 1) if Place(index, port) not in taken), None)
        if free is not None:
            return Place(index, free)
    what = f"USB device {device.id_vendor}:{device.id_product} (USB {device.usb_version or '?'})"
    if not suitable:
        raise _refused(
            f"the VM has no USB controller that {what} can be plugged into",
            "stop the VM and start it again: it was started without one",
        )
    owners = [f"{owner} at {place.bus}:{place.port}" for place, owner in sorted(taken.items())]
    raise _refused(
        f"all USB ports of the VM that {what} could be plugged into are taken: {', '.join(owners)}",
        "detach one of these devices first",
    )


def _taken(devices: ET.Element) -> dict[Place, str]:
    """Return who has which port; a port of a hub below a port counts as that one."""
    taken = {}
    for element in _with_address(devices):
        address = element.find("address[@type='usb']")
        if address is not None:
            place = Place(int(address.get("bus", "0")), int(address.get("port", "0").partition(".")[0]))
            alias = element.find("alias")
            named = alias.get("name") if alias is not None else None
            taken[place] = own_alias(element) or named or element.tag
    return taken


def _with_address(devices: ET.Element) -> Iterable[ET.Element]:
    return (element for element in devices if element.tag != "controller")


def _devices(root: ET.Element) -> ET.Element:
    found = root.find("devices")
    return ET.SubElement(root, "devices") if found is None else found


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)
