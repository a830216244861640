"""Commands, replies and events of the KVM agent as types; those of storages are in `protocol_storage`.

`mn` imports no other module of the agent.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from agentkit.wire import Command, Wire

AGENT_PORT = 7070
TRANSFER_PORT = 7071


class Evidence(Wire):
    """One thing that tells a device from others; lists of evidence are ordered, strongest first.

    Kinds of a PCI function: `serial` (device serial number capability, VPD or NVMe serial), `mac`, `path`
    (bridge path from the root with vendor:device:subsystem ids). Of a USB device: `serial`, `port`. Values
    include vendor and device ids, so that equal serials of different products are different evidence. Of a
    block device: `wwid`, `serial`.
    """

    kind: str
    value: str


class PciFunction(Wire):
    """A PCI function. Ids are 4 lower-case hex digits, `class_code` 6; `type` is the API's PciDeviceType.

    `vendor_name` and `device_name` come from pci.ids where the host has it, else they are the ids.
    """

    address: str
    vendor_id: str
    device_id: str
    subvendor_id: str
    subdevice_id: str
    class_code: str
    revision: str
    type: str
    name: str
    description: str
    vendor_name: str
    device_name: str
    driver: str | None
    iommu_group: str | None
    numa_node: int | None
    boot_critical: str | None
    """Why taking the device away would break the host (`root file system on /dev/vda1`), None when it
    would not.
    """
    identity: list[Evidence]
    physical_function: str | None = None
    virtual_functions: int | None = None
    """How many there are now, None for a function that can have none."""
    max_virtual_functions: int | None = None


class UsbDevice(Wire):
    """A USB device that is no hub.

    `bus_num` and `dev_num` are 3 digits, `port_path` is the kernel's (`1-1.2`).
    """

    bus_num: str
    dev_num: str
    port_path: str
    id_vendor: str
    id_product: str
    i_manufacturer: str
    i_product: str
    i_serial: str
    usb_version: str
    speed_mbit: float | None
    identity: list[Evidence]
    boot_critical: str | None = None
    """What the host would lose with the device, as a PCI function has it."""


class BlockDevice(Wire):
    """A whole disk or a partition (`parent` is its disk).

    `transport`: nvme, sata, sas, usb, virtio, iscsi, loop...
    """

    name: str
    parent: str | None
    transport: str
    size_bytes: int
    wwid: str | None
    vendor: str | None
    model: str | None
    serial: str | None
    rotational: bool
    read_only: bool
    removable: bool
    pci_address: str | None
    mounts: list[str]
    holders: list[str]
    identity: list[Evidence]


class NetworkInterface(Wire):
    """A network interface; `kind` is `physical` or the kernel's (bridge, bond, vlan, veth...)."""

    name: str
    kind: str
    mac: str | None
    mtu: int
    state: str
    speed_mbit: int | None
    driver: str | None
    pci_address: str | None
    master: str | None
    addresses: list[str]
    """Addresses with prefix length, `192.0.2.1/24`."""
    default_route: bool


class HostFacts(Wire):
    """What the machine is.

    Sizes in bytes; `virtualisation` is `vmx`, `svm` or None; `kvm` says /dev/kvm is there; `ept` whether the
    loaded KVM module uses nested page tables, None when none is loaded; `libvirt_version` is that of the
    library, `iscsi_initiator` the IQN that the host logs in to portals with.
    """

    hostname: str
    machine_id: str | None
    boot_id: str | None
    architecture: str
    kernel: str
    distribution: str
    distribution_version: str
    distribution_name: str
    cpu_model: str
    cpu_vendor: str
    cpu_num: int
    cpu_sockets: int
    cpu_cores: int
    cpu_mhz: float | None
    memory_bytes: int
    virtualisation: str | None
    kvm: bool
    iommu: bool
    system_vendor: str | None
    system_product: str | None
    system_serial: str | None
    distribution_codename: str | None = None
    ept: bool | None = None
    libvirt_version: str | None = None
    iscsi_initiator: str | None = None


class Inventory(Wire):
    """All that the agent sees on its machine. `hash` is the SHA-256 of the rest (volatile facts left out)."""

    facts: HostFacts
    pci: list[PciFunction]
    usb: list[UsbDevice]
    block: list[BlockDevice]
    network: list[NetworkInterface]
    hash: str


class DeviceAction(StrEnum):
    """What happened to a device."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class DeviceEvent(Wire):
    """Data of a `device` event: one device of one list of the inventory; `inventory_hash` is the hash after
    it.

    Exactly one of `pci`, `usb`, `block` and `network` is given; for `removed` it is the last known form.
    """

    action: DeviceAction
    inventory_hash: str
    pci: PciFunction | None = None
    usb: UsbDevice | None = None
    block: BlockDevice | None = None
    network: NetworkInterface | None = None


class ConnectReply(Wire):
    """The host now belongs to the caller; the inventory at that time."""

    inventory: Inventory


class Connect(Command[ConnectReply], tag="connect"):
    """Take the host for `fleet_uuid` as `host_uuid` and take stock.

    Refused (HOST.1003) when another fleet has it.
    """

    host_uuid: str
    fleet_uuid: str


class TakeInventoryReply(Wire):
    """The inventory, read afresh."""

    inventory: Inventory


class TakeInventory(Command[TakeInventoryReply], tag="takeInventory"):
    """Read the machine again and report it."""


class IommuReport(Wire):
    """A host's IOMMU. `status` is the running kernel's: `Active` or `Inactive`.

    `option` is what asks for it on the kernel command line, None where nothing has to. `configured` says that
    the next boot will ask for it, `reboot_needed` that this is not what the running kernel was told. `loader`
    is the boot loader in words, None when it is not known.
    """

    status: str
    option: str | None
    configured: bool
    reboot_needed: bool
    loader: str | None


class GetIommu(Command[IommuReport], tag="getIommu"):
    """Read the IOMMU's status and what the next boot will have."""


class SetIommu(Command[IommuReport], tag="setIommu"):
    """Enable the IOMMU from the next boot on, or take away what enabling it wrote; done already: nothing.

    Refused (SYS.1014) for a boot loader that is not known; fails (SYS.1006) when its tools do. Either way
    everything is as it was.
    """

    enabled: bool


class PackageChange(Wire):
    """A package that an update changed: its versions before and after, None where it was not installed."""

    name: str
    before: str | None
    after: str | None


class OsUpdateReply(Wire):
    """What an update did. `manager` is apt, dnf or yum; `reboot_reason` says why a reboot is needed."""

    manager: str
    packages: list[PackageChange]
    reboot_needed: bool
    reboot_reason: str | None


class UpdateOs(Command[OsUpdateReply], tag="updateOs"):
    """Bring all packages but the excluded ones (shell patterns) to the newest versions; no reboot.

    The work is done by a process of its own that goes on while the agent restarts. `update_uuid` names it:
    the same again follows the same update. Fails (SYS.1006) with what the package manager says, or (SYS.1014)
    where there is none that is known.
    """

    takes_long: ClassVar[bool] = True
    update_uuid: str
    exclude_packages: list[str]


class OsUpdateProgress(Wire):
    """How far an update is: `phase` is mend, refresh, update, check or, before and after it, empty."""

    phase: str
    percent: int


class GetOsUpdate(Command[OsUpdateProgress], tag="getOsUpdate"):
    """Say how far an update is; one that is not known is at 0 percent."""

    update_uuid: str
