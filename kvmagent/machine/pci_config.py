"""What a PCI function's configuration space and VPD say; pure, and garbage in is None out."""

from __future__ import annotations

from collections.abc import Callable

EXTENDED_START = 0x100
EXTENDED_END = 0x1000
DEVICE_SERIAL_CAPABILITY = 0x0003
HEADER_MASK = 0x7F
HEADER_ENDPOINT = 0
VPD_LARGE = 0x80
VPD_READ_ONLY = 0x90
VPD_END = 0x78
VPD_LIMIT_BYTES = 1024

Read = Callable[[int, int], bytes]
"""`read(offset, size)`: up to `size` bytes of a configuration space."""


def class_code(config: bytes) -> str | None:
    """Return the 6-digit class code (base, sub, interface)."""
    return config[0x09:0x0C][::-1].hex() if len(config) >= 0x0C else None


def revision(config: bytes) -> str | None:
    """Return the 2-digit revision."""
    return config[0x08:0x09].hex() or None


def subsystem(config: bytes) -> tuple[str, str] | None:
    """Return subsystem vendor and device of an endpoint; bridges keep theirs elsewhere."""
    if len(config) < 0x30 or config[0x0E] & HEADER_MASK != HEADER_ENDPOINT:
        return None
    return config[0x2C:0x2E][::-1].hex(), config[0x2E:0x30][::-1].hex()


def serial_offset(read: Read) -> int | None:
    """Return where the device serial number capability's 8 bytes are (PCIe base specification, 7.9.3)."""
    offset, seen = EXTENDED_START, set[int]()
    while EXTENDED_START <= offset <= EXTENDED_END - 4 and offset not in seen:
        seen.add(offset)
        raw = read(offset, 4)
        header = int.from_bytes(raw, "little")
        if len(raw) < 4 or header in {0, 0xFFFF_FFFF}:
            return None
        if header & 0xFFFF == DEVICE_SERIAL_CAPABILITY:
            return offset + 4
        offset = header >> 20 & 0xFFC
    return None


def device_serial(read: Read) -> str | None:
    """Return the device serial number as lspci writes it (`00-11-...`), None when absent or a dummy."""
    offset = serial_offset(read)
    raw = b"" if offset is None else read(offset, 8)
    if len(raw) < 8 or raw in {b"\0" * 8, b"\xff" * 8}:
        return None
    return raw[::-1].hex("-")


def vpd_serial_span(vpd: bytes) -> tuple[int, int] | None:
    """Return start and end of the serial number (`SN`) in vital product data (PCI specification 3.0, I)."""
    at = 0
    while at + 3 <= len(vpd) and vpd[at] != VPD_END:
        if not vpd[at] & VPD_LARGE:
            at += 1 + (vpd[at] & 7)
            continue
        size = int.from_bytes(vpd[at + 1 : at + 3], "little")
        if vpd[at] == VPD_READ_ONLY:
            return _keyword(vpd, at + 3, min(at + 3 + size, len(vpd)))
        at += 3 + size
    return None


def _keyword(vpd: bytes, at: int, end: int) -> tuple[int, int] | None:
    while at + 3 <= end:
        stop = at + 3 + vpd[at + 2]
        if vpd[at : at + 2] == b"SN":
            return (at + 3, stop) if stop <= end else None
        at = stop
    return None


def vpd_serial(vpd: bytes) -> str | None:
    """Return the serial number of vital product data, None when there is none that can be printed."""
    span = vpd_serial_span(vpd)
    text = vpd[slice(*span)].decode("ascii", "replace").strip("\0 ") if span else ""
    return text if text.isprintable() and text.isascii() and text.strip("0") else None
