"""What a VM is made of as libvirt's domain XML, and what libvirt's says of a VM: pure functions."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_ceph import RbdDisk
from kvmagent.protocol_usb import USB_PORTS
from kvmagent.protocol_vms import VmDisk, VmDomain, VmNic, VmSeen, VmState
from kvmagent.vms.hostdev_xml import pci_device

NAMESPACE = "urn:hardpoint:vm:1"
"""Marks the domains that are this project's: others are left alone and not reported."""
PCIE_PORTS = 32
"""Root ports of the machine: each device that is plugged in takes one."""
DISKS_MAX = 25
REDIRECTIONS = 4
"""USB devices of the person at the screen that a VM can have at a time."""
BLOCK_DEVICE = "block"
FILE = "file"
NETWORK = "network"

ET.register_namespace("hardpoint", NAMESPACE)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the host gives to its VMs: hardware virtualisation or not, and where their screens are shown."""

    kvm: bool
    console_address: str


Kind = Callable[[str], str]
"""Says whether a path is a `file` or a `block` device."""


def kind_of_mode(mode: int) -> str:
    """Return what libvirt calls something with this `st_mode`."""
    return BLOCK_DEVICE if stat.S_ISBLK(mode) else FILE


def domain_xml(domain: VmDomain, machine: Machine, kind: Kind) -> str:
    """Return the XML that libvirt starts a VM from."""
    _check(domain)
    root = ET.Element("domain", type="kvm" if machine.kvm else "qemu")
    _text(root, "name", domain.uuid)
    _text(root, "uuid", dashed(domain.uuid))
    _text(root, "title", domain.name)
    metadata = ET.SubElement(root, "metadata")
    _text(metadata, f"{{{NAMESPACE}}}uuid", domain.uuid)
    _text(root, "memory", str(domain.memory_bytes), unit="bytes")
    _text(root, "vcpu", str(domain.cpus))
    os = ET.SubElement(root, "os")
    _text(os, "type", "hvm", machine="q35")
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if machine.kvm:
        ET.SubElement(root, "cpu", mode="host-model", check="partial")
    ET.SubElement(root, "clock", offset="utc")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    devices = ET.SubElement(root, "devices")
    ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for _ in range(PCIE_PORTS):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    # Devices of the host that are not PCI Express can be plugged in behind it only.
    ET.SubElement(devices, "controller", type="pci", model="pcie-to-pci-bridge")
    devices.extend([_disk(disk, kind) for disk in domain.disks])
    devices.extend([_nic(nic) for nic in domain.nics])
    devices.extend([pci_device(device.device_uuid, device.address) for device in domain.pci])
    _add_desk(devices, domain, machine)
    return ET.tostring(root, encoding="unicode")


def disk_xml(disk: VmDisk, kind: Kind) -> str:
    """Return the XML that attaches a disk."""
    _check_place(disk)
    return ET.tostring(_disk(disk, kind), encoding="unicode")


def secret_xml(storage_uuid: str) -> str:
    """Return the XML of the secret that a Ceph storage's key is kept in: in memory, and never told."""
    secret = ET.Element("secret", ephemeral="yes", private="yes")
    _text(secret, "uuid", dashed(storage_uuid))
    _text(ET.SubElement(secret, "usage", type="ceph"), "name", f"hardpoint {storage_uuid}")
    return ET.tostring(secret, encoding="unicode")


def seen(xml: str, state: VmState) -> VmSeen | None:
    """Return what a running domain's XML says, None for a domain that is not this project's."""
    root = ET.fromstring(xml)  # noqa: S314 libvirt wrote it
    uuid = root.findtext(f"metadata/{{{NAMESPACE}}}uuid")
    if uuid is None:
        return None
    graphics = root.find("devices/graphics[@type='vnc']")
    port, spice_port = _port(graphics), _port(root.find("devices/graphics[@type='spice']"))
    return VmSeen(
        uuid=uuid,
        state=state,
        cpus=int(root.findtext("vcpu", "0")),
        memory_bytes=_bytes(root.find("memory")),
        console_address=graphics.get("listen") if graphics is not None and port > 0 else None,
        console_port=port if port > 0 else None,
        disks=sorted(_volumes(root)),
        devices=sorted(name for device in root.iterfind("devices/hostdev") if (name := own_alias(device))),
        usb_redirect=root.find("devices/redirdev") is not None,
        spice_port=spice_port if spice_port > 0 else None,
    )


def moved(xml: str, console_address: str, users: Mapping[str, str]) -> str:
    """Return a domain's XML for a host that shows screens at another address.

    `users` are the clients that it opens images of Ceph storages as, by the storages' uuids: their keys are
    the ones that the other host has.
    """
    root = ET.fromstring(xml)  # noqa: S314 libvirt wrote it
    for graphics in root.iterfind("devices/graphics"):
        graphics.set("listen", console_address)
        for listen in graphics.iterfind("listen[@type='address']"):
            listen.set("address", console_address)
    secrets = {dashed(uuid): user for uuid, user in users.items()}
    for auth in root.iterfind("devices/disk/source/auth"):
        secret = auth.find("secret")
        uuid = secret.get("uuid", "") if secret is not None else ""
        auth.set("username", secrets.get(uuid, auth.get("username", "")))
    return ET.tostring(root, encoding="unicode")


def attached_disk(xml: str, volume_uuid: str) -> str | None:
    """Return the XML of a domain's disk, None when it has no such volume."""
    return _attached(xml, "disk", volume_uuid)


def attached_device(xml: str, device_uuid: str) -> str | None:
    """Return the XML of a PCI or USB device of the host that a domain has, None when it has no such one."""
    return _attached(xml, "hostdev", device_uuid)


def _attached(xml: str, kind: str, uuid: str) -> str | None:
    root = ET.fromstring(xml)  # noqa: S314 libvirt wrote it
    for element in root.iterfind(f"devices/{kind}"):
        if own_alias(element) == uuid:
            return ET.tostring(element, encoding="unicode")
    return None


def dashed(uuid: str) -> str:
    """Return a uuid as libvirt writes it."""
    return f"{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}"


def place_name(device_id: int) -> str:
    """Return the name of a disk's place: 0 is `vda`."""
    return f"vd{chr(ord('a') + device_id)}"


def _disk(disk: VmDisk, kind: Kind) -> ET.Element:
    where = NETWORK if disk.rbd is not None else kind(disk.path)
    element = ET.Element("disk", type=where, device="disk")
    ET.SubElement(element, "driver", name="qemu", type=disk.format, cache=disk.cache, discard="unmap")
    if disk.rbd is not None:
        element.append(_rbd_source(disk.path, disk.rbd))
    else:
        ET.SubElement(element, "source", {"dev" if where == BLOCK_DEVICE else "file": disk.path})
    ET.SubElement(element, "target", dev=place_name(disk.device_id), bus="virtio")
    _text(element, "serial", disk.volume_uuid)
    ET.SubElement(element, "alias", name=f"ua-{disk.volume_uuid}")
    if disk.device_id == 0:
        ET.SubElement(element, "boot", order="1")
    return element


def _rbd_source(name: str, rbd: RbdDisk) -> ET.Element:
    source = ET.Element("source", protocol="rbd", name=name)
    for mon in rbd.mons:
        ET.SubElement(source, "host", name=mon.address, port=str(mon.port))
    auth = ET.SubElement(source, "auth", username=rbd.user)
    ET.SubElement(auth, "secret", type="ceph", uuid=dashed(rbd.storage_uuid))
    return source


def _nic(nic: VmNic) -> ET.Element:
    element = ET.Element("interface", type="bridge")
    ET.SubElement(element, "mac", address=nic.mac)
    ET.SubElement(element, "source", bridge=nic.bridge)
    ET.SubElement(element, "target", dev=nic.name)
    ET.SubElement(element, "model", type="virtio")
    ET.SubElement(element, "alias", name=f"ua-{nic.nic_uuid}")
    return element


def _port(graphics: ET.Element | None) -> int:
    return int(graphics.get("port", "-1")) if graphics is not None else -1


def _add_desk(devices: ET.Element, domain: VmDomain, machine: Machine) -> None:
    """Add what a person works at: screen, pointer, serial console; and what every guest profits from."""
    _add_screen(devices, "vnc", domain, machine)
    ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")
    ET.SubElement(devices, "controller", type="usb", index="0", model="qemu-xhci", ports=str(USB_PORTS))
    pointer = ET.SubElement(devices, "input", type="tablet", bus="usb")
    ET.SubElement(pointer, "address", type="usb", bus="0", port="1")
    ET.SubElement(ET.SubElement(devices, "serial", type="pty"), "target", port="0")
    ET.SubElement(ET.SubElement(devices, "console", type="pty"), "target", type="serial", port="0")
    _text(ET.SubElement(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", model="virtio")
    if domain.usb_redirect:
        _add_redirection(devices, domain, machine)


def _add_screen(devices: ET.Element, kind: str, domain: VmDomain, machine: Machine) -> None:
    listen = machine.console_address
    graphics = ET.SubElement(
        devices, "graphics", type=kind, autoport="yes", listen=listen, passwd=domain.console_password
    )
    ET.SubElement(graphics, "listen", type="address", address=listen)


def _add_redirection(devices: ET.Element, domain: VmDomain, machine: Machine) -> None:
    """Add what the USB devices of who is at the screen come in by: SPICE, and a controller of their own."""
    _add_screen(devices, "spice", domain, machine)
    agent = ET.SubElement(devices, "channel", type="spicevmc")
    ET.SubElement(agent, "target", type="virtio", name="com.redhat.spice.0")
    ET.SubElement(devices, "controller", type="usb", index="1", model="qemu-xhci", ports=str(REDIRECTIONS))
    for port in range(1, REDIRECTIONS + 1):
        way = ET.SubElement(devices, "redirdev", bus="usb", type="spicevmc")
        ET.SubElement(way, "address", type="usb", bus="1", port=str(port))


def own_alias(element: ET.Element) -> str | None:
    """Return the uuid that an element of a domain was named by, None for one that libvirt has named."""
    alias = element.find("alias")
    name = alias.get("name", "") if alias is not None else ""
    return name.removeprefix("ua-") if name.startswith("ua-") else None


def _volumes(root: ET.Element) -> list[str]:
    return [volume for disk in root.iterfind("devices/disk") if (volume := own_alias(disk))]


_UNITS = {"b": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes(memory: ET.Element | None) -> int:
    if memory is None:
        return 0
    return int(memory.text or 0) * _UNITS[memory.get("unit", "KiB")]


def _check(domain: VmDomain) -> None:
    places = [disk.device_id for disk in domain.disks]
    if len(set(places)) != len(places):
        raise _illegal(f"two disks of VM {domain.uuid} have the same place: {sorted(places)}")
    for disk in domain.disks:
        _check_place(disk)


def _check_place(disk: VmDisk) -> None:
    if not 0 <= disk.device_id < DISKS_MAX:
        raise _illegal(f"volume {disk.volume_uuid} has the place {disk.device_id}, not 0 to {DISKS_MAX - 1}")


def _illegal(details: str) -> HardpointError:
    remedy = "see the deviceId of the VM's volumes"
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
