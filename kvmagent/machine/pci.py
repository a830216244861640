"""The PCI functions of a machine: ids, names, type, driver, group and what tells each from its like."""

from __future__ import annotations

from functools import partial

from kvmagent.machine import pci_config, pci_ids, pci_types
from kvmagent.machine.evidence import keep_telling
from kvmagent.machine.locations import Locations
from kvmagent.machine.tree import Tree
from kvmagent.protocol import Evidence, PciFunction

FUNCTIONS = "/sys/bus/pci/devices"
CONFIG_HEADER_BYTES = 64
_NO_ID = "0000"
_BRIDGE = "06"
_MULTICAST_OR_LOCAL = 0x03


def read_pci(tree: Tree) -> list[PciFunction]:
    """Return every PCI function that has a vendor and a device id, by address.

    `boot_critical` is left None: it takes the whole machine to tell.
    """
    names, locations = pci_ids.load(tree), Locations(tree)
    functions = [_function(tree, address, names, locations) for address in tree.names(FUNCTIONS)]
    found = [function for function in functions if function]
    keep_telling([function.identity for function in found])
    return found


def pci_paths(tree: Tree) -> dict[str, str]:
    """Return the directory below /sys/devices of each PCI function."""
    paths = {address: tree.resolve(f"{FUNCTIONS}/{address}") for address in tree.names(FUNCTIONS)}
    return {address: path for address, path in paths.items() if path}


def _function(tree: Tree, address: str, names: pci_ids.PciIds, locations: Locations) -> PciFunction | None:
    path = tree.resolve(f"{FUNCTIONS}/{address}")
    vendor = _hex(tree, f"{path}/vendor", 4)
    device = _hex(tree, f"{path}/device", 4)
    if path is None or vendor is None or device is None:
        return None
    config = tree.bytes(f"{path}/config", CONFIG_HEADER_BYTES) or b""
    in_config = pci_config.subsystem(config) or (_NO_ID, _NO_ID)
    subvendor = _hex(tree, f"{path}/subsystem_vendor", 4) or in_config[0]
    subdevice = _hex(tree, f"{path}/subsystem_device", 4) or in_config[1]
    class_code = _hex(tree, f"{path}/class", 6) or pci_config.class_code(config) or "000000"
    vendor_name = names.vendor(vendor)
    device_name = names.device(vendor, device) or device
    maker = (None if subvendor == _NO_ID else names.vendor(subvendor)) or vendor_name or vendor
    node = tree.int(f"{path}/numa_node")
    ids = f"{vendor}:{device}:{subvendor}:{subdevice}"
    return PciFunction(
        address=address,
        vendor_id=vendor,
        device_id=device,
        subvendor_id=subvendor,
        subdevice_id=subdevice,
        class_code=class_code,
        revision=_hex(tree, f"{path}/revision", 2) or pci_config.revision(config) or "00",
        type=pci_types.published_type(vendor, class_code),
        name=f"{pci_types.simplified(maker)}_{pci_types.simplified(device_name)}",
        description=f"{names.class_name(class_code) or class_code}: {vendor_name or vendor} {device_name}",
        vendor_name=vendor_name or vendor,
        device_name=device_name,
        driver=tree.link_name(f"{path}/driver"),
        iommu_group=_group(tree, path),
        numa_node=node if node is not None and node >= 0 else None,
        boot_critical=None,
        identity=_evidence(tree, path, address, ids, class_code, locations),
        physical_function=tree.link_name(f"{path}/physfn"),
        virtual_functions=tree.int(f"{path}/sriov_numvfs"),
        max_virtual_functions=tree.int(f"{path}/sriov_totalvfs"),
    )


def _hex(tree: Tree, path: str, digits: int) -> str | None:
    value = tree.int(path, 16)
    return None if value is None else f"{value:0{digits}x}"[-digits:]


def _group(tree: Tree, path: str) -> str | None:
    number = tree.link_name(f"{path}/iommu_group")
    return f"/sys/kernel/iommu_groups/{number}" if number and number.isdigit() else None


def _evidence(
    tree: Tree, path: str, address: str, ids: str, class_code: str, locations: Locations
) -> list[Evidence]:
    """Return evidence, strongest first.

    Functions of one card share its serial number, so that has the function's number too; the device's number
    is part of the address and changes with the slot. A virtual function has nothing of its own but its place
    below its physical function.
    """
    function = address.rpartition(".")[2]
    model = ids[:9]
    physical = tree.resolve(f"{path}/physfn") if tree.link_name(f"{path}/physfn") else None
    if physical:
        return [
            Evidence(kind="path", value=f"{locations.name(physical)}/{_vf(tree, physical, address)}-{ids}")
        ]
    serials = _serials(tree, path, class_code)
    found = [Evidence(kind="serial", value=f"{model}:{serial}@{function}") for serial in serials]
    found += [Evidence(kind="mac", value=f"{model}:{mac}") for mac in permanent_macs(tree, path)]
    # The last step of the name has vendor:device; the subsystem ids tell cards of two makers apart.
    found.append(Evidence(kind="path", value=f"{locations.name(path)}:{ids[10:]}"))
    return found


def _serials(tree: Tree, path: str, class_code: str) -> list[str]:
    read = partial(_read_config, tree, f"{path}/config")
    serial = pci_config.device_serial(read)
    if serial is None and not class_code.startswith(_BRIDGE):
        # Reading VPD takes the device milliseconds, so it is asked only when there is nothing better.
        vpd = tree.bytes(f"{path}/vpd", pci_config.VPD_LIMIT_BYTES)
        serial = pci_config.vpd_serial(vpd) if vpd else None
    controllers = [f"{path}/nvme/{name}" for name in tree.names(f"{path}/nvme") if name.startswith("nvme")]
    nvme = [tree.text(f"{controller}/serial") for controller in controllers]
    return [found for found in [serial, *nvme] if found]


def _read_config(tree: Tree, path: str, offset: int, size: int) -> bytes:
    return tree.bytes(path, size, offset) or b""


def _vf(tree: Tree, physical: str, address: str) -> str:
    for name in tree.names(physical):
        if name.startswith("virtfn") and tree.link_name(f"{physical}/{name}") == address:
            return name.replace("virtfn", "vf")
    return address.rpartition(":")[2]


def permanent_macs(tree: Tree, path: str) -> list[str]:
    """Return the factory-given Ethernet addresses of a PCI function's interfaces."""
    found = set()
    for name in tree.names(f"{path}/net"):
        mac = (tree.text(f"{path}/net/{name}/address") or "").lower()
        if tree.int(f"{path}/net/{name}/addr_assign_type") == 0 and is_universal(mac):
            found.add(mac)
    return sorted(found)


def is_universal(mac: str) -> bool:
    """Say whether `mac` is an Ethernet address that a maker gave: neither locally made nor a group's."""
    parts = mac.split(":")
    if len(parts) != 6 or not any(part.strip("0") for part in parts):
        return False
    return not int(parts[0], 16) & _MULTICAST_OR_LOCAL
