"""Devices of the host as libvirt gives them to a VM: pure functions."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from kvmagent.protocol import UsbDevice


def pci_xml(device_uuid: str, address: str) -> str:
    """Return the XML that plugs a PCI function in."""
    return ET.tostring(pci_device(device_uuid, address), encoding="unicode")


def pci_device(device_uuid: str, address: str) -> ET.Element:
    """Return a PCI function that is bound to vfio-pci already as a part of a domain."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    element = ET.Element("hostdev", mode="subsystem", type="pci", managed="no")
    ET.SubElement(element, "driver", name="vfio")
    place = {"domain": domain, "bus": bus, "slot": slot, "function": function}
    where = {key: f"0x{value}" for key, value in place.items()}
    ET.SubElement(ET.SubElement(element, "source"), "address", where)
    ET.SubElement(element, "alias", name=f"ua-{device_uuid}")
    return element


def usb_xml(device_uuid: str, device: UsbDevice, bus: int, port: int) -> str:
    """Return the XML of a USB device, which the guest sees at a port of its controller `bus`."""
    element = ET.Element("hostdev", mode="subsystem", type="usb", managed="yes")
    source = ET.SubElement(element, "source")
    ET.SubElement(source, "vendor", id=f"0x{device.id_vendor}")
    ET.SubElement(source, "product", id=f"0x{device.id_product}")
    ET.SubElement(source, "address", bus=str(int(device.bus_num)), device=str(int(device.dev_num)))
    ET.SubElement(element, "alias", name=f"ua-{device_uuid}")
    ET.SubElement(element, "address", type="usb", bus=str(bus), port=str(port))
    return ET.tostring(element, encoding="unicode")
