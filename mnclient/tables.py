"""Inventories as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from mnclient.api import Client

PLAIN_WIDTH = 140
"""Columns of the output when it goes to no terminal."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def console() -> Console:
    """Return a console that does not squeeze tables when its output is no terminal."""
    made = Console()
    return made if made.is_terminal else Console(width=PLAIN_WIDTH)


def show_hardware(out: Console, client: Client, host_uuid: str) -> None:
    """Print a host and its PCI, USB and block devices, as the API gives them."""
    mine = f"hostUuid={host_uuid}"
    hosts = client.query("/hosts", f"uuid={host_uuid}")
    _print(
        out,
        "Hosts",
        hosts,
        ["name", "managementIp", "status", "state", "cpuNum", "totalMemoryCapacity", "uuid"],
    )
    pci = client.query("/pci-device/pci-devices", mine, sort="+pciDeviceAddress")
    columns = ["pciDeviceAddress", "vendorId", "deviceId", "name", "type", "driver", "status", "bootCritical"]
    _print(out, "PCI devices", pci, columns)
    usb = client.query("/usb-device/usb-devices", mine, sort="+busNum")
    _print(
        out,
        "USB devices",
        usb,
        ["busNum", "devNum", "idVendor", "idProduct", "name", "iSerial", "usbVersion"],
    )
    block = client.query("/block-devices", mine, sort="+name")
    _print(
        out,
        "Block devices",
        block,
        ["name", "transport", "size", "model", "serial", "mounts", "pciDeviceAddress"],
    )


def _print(out: Console, title: str, rows: list[dict[str, Any]], columns: list[str]) -> None:
    if not rows:
        out.print(f"[bold]{title}[/bold]: none\n")
        return
    table = Table(title=f"{title} ({len(rows)})", title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, row.get(column)) for column in columns))
    out.print(table)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in ("size", "totalMemoryCapacity"):
        return human_size(value)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def human_size(size: int) -> str:
    """Return a number of bytes with a binary unit, `1.5 GiB`."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if value >= 100 or unit == 0 else f"{value:.1f} {_UNITS[unit]}"
