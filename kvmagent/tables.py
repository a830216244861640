"""An inventory as plain tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvmagent.protocol import BlockDevice, HostFacts, Inventory, NetworkInterface, PciFunction, UsbDevice

GAP = "  "
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def inventory_tables(inventory: Inventory, sections: Iterable[str], width: int | None) -> str:
    """Return the sections asked for, each under its heading; lines are cut at `width` columns, if given."""
    wanted = set(sections)
    parts = []
    if "facts" in wanted:
        parts.append(("machine", table((), _facts(inventory.facts), width)))
    if "pci" in wanted:
        parts.append((f"PCI functions: {len(inventory.pci)}", _pci(inventory.pci, width)))
    if "usb" in wanted:
        parts.append((f"USB devices: {len(inventory.usb)}", _usb(inventory.usb, width)))
    if "block" in wanted:
        parts.append((f"block devices: {len(inventory.block)}", _block(inventory.block, width)))
    if "network" in wanted:
        parts.append((f"network interfaces: {len(inventory.network)}", _network(inventory.network, width)))
    return "\n\n".join(f"{title}\n{text}" if text else title for title, text in parts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """Return rows in columns as wide as their content; what does not fit in `width` is cut with `…`."""
    if not rows:
        return ""
    lines = [list(heads), *rows] if heads else list(rows)
    sizes = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = []
    for line in lines:
        cells = [cell.ljust(size) for cell, size in zip(line, sizes, strict=True)]
        shown.append(_cut(GAP.join(cells).rstrip(), width))
    return "\n".join(shown)


def size_text(size_bytes: int) -> str:
    """Return a size in the largest unit that leaves at least 1."""
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def _cut(line: str, width: int | None) -> str:
    # Escape sequences and newlines in what a device calls itself must not reach the terminal.
    clean = "".join(char if char.isprintable() else "?" for char in line)
    return clean if width is None or len(clean) <= width else clean[: max(width - 1, 0)] + "…"


def _facts(facts: HostFacts) -> list[tuple[str, str]]:
    cores = f"sockets {facts.cpu_sockets}, cores {facts.cpu_cores}, threads {facts.cpu_num}"
    virtual = facts.virtualisation or "no vmx or svm"
    made = [facts.system_vendor, facts.system_product, facts.system_serial]
    rows = [
        ("host name", facts.hostname),
        ("system", " ".join(part for part in made if part)),
        ("distribution", facts.distribution_name),
        ("kernel", f"{facts.kernel} {facts.architecture}".strip()),
        ("processor", facts.cpu_model),
        ("", cores),
        ("memory", size_text(facts.memory_bytes)),
        ("KVM", f"{'/dev/kvm' if facts.kvm else 'no /dev/kvm'}, {virtual}"),
        ("IOMMU", "active" if facts.iommu else "inactive"),
    ]
    return [(name, value or "-") for name, value in rows]


def _pci(functions: Sequence[PciFunction], width: int | None) -> str:
    heads = ("ADDRESS", "IDS", "TYPE", "DRIVER", "GROUP", "DESCRIPTION")
    rows = []
    for item in functions:
        group = (item.iommu_group or "-").rpartition("/")[2]
        text = item.description + (f"  [host needs it: {item.boot_critical}]" if item.boot_critical else "")
        ids = f"{item.vendor_id}:{item.device_id}"
        rows.append((item.address, ids, item.type, item.driver or "-", group, text))
    return table(heads, rows, width)


def _usb(devices: Sequence[UsbDevice], width: int | None) -> str:
    heads = ("BUS:DEV", "PORT", "IDS", "USB", "SERIAL", "NAME")
    rows = [
        (
            f"{item.bus_num}:{item.dev_num}",
            item.port_path,
            f"{item.id_vendor}:{item.id_product}",
            item.usb_version or "-",
            item.i_serial or "-",
            f"{item.i_manufacturer} {item.i_product}".strip() or "-",
        )
        for item in devices
    ]
    return table(heads, rows, width)


def _block(devices: Sequence[BlockDevice], width: int | None) -> str:
    heads = ("NAME", "SIZE", "BUS", "PCI", "MODEL", "MOUNTS")
    rows = [
        (
            f"  {item.name}" if item.parent else item.name,
            size_text(item.size_bytes),
            item.transport,
            item.pci_address or "-",
            " ".join(part for part in (item.vendor, item.model) if part) or "-",
            " ".join([*item.mounts, *(f"<{holder}>" for holder in item.holders)]) or "-",
        )
        for item in devices
    ]
    return table(heads, rows, width)


def _network(interfaces: Sequence[NetworkInterface], width: int | None) -> str:
    heads = ("NAME", "KIND", "STATE", "MAC", "PCI", "DRIVER", "ADDRESSES")
    rows = [
        (
            item.name,
            item.kind,
            item.state,
            item.mac or "-",
            item.pci_address or "-",
            item.driver or "-",
            (" ".join(item.addresses) or "-") + (" [default route]" if item.default_route else ""),
        )
        for item in interfaces
    ]
    return table(heads, rows, width)
