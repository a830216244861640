"""Stand-ins for what tells a recorded machine from others: serial numbers, MAC addresses, names; pure.

The same original gets the same stand-in within a machine's recordings, and the same length, so that the
readers find the same structure.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from kvmagent.machine import pci_config

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5,19}", re.IGNORECASE)
_SERIAL_FILES = frozenset(
    {
        "serial",
        "wwid",
        "nguid",
        "eui",
        "uuid",
        "product_serial",
        "product_uuid",
        "board_serial",
        "board_asset_tag",
        "chassis_serial",
        "chassis_asset_tag",
        "boot_id",
    }
)
_COMMAND_LINE_KEYS = re.compile(
    r"(?:\w+_)?iommu|vfio\S*|pci\S*|kvm\S*|modprobe\.blacklist|rd\.driver\.\S+|\w*hugepages\w*|isolcpus|root|ro|rw"
)
"""What of a kernel command line is of use; the rest may hold passwords and names."""
_UNIT_SERIAL_HEADER_BYTES = 4
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_EUI = re.compile(r"(?<=[0-9a-f]{16})([0-9a-f]{6})fffe([0-9a-f]{6})(?![0-9a-f])")
_HEX = "0123456789abcdef"
_KIND = re.compile(r"(?:naa\.|eui\.|t10\.|uuid\.|nvme\.|(?:part\d+-)?mpath-|LVM-|CRYPT-\w+-)?")
"""What a world-wide name or a device mapper's uuid begins with says what kind it is."""


class Pseudonyms:
    """Makes stand-ins with a secret that is the machine's own, so that nobody can try serial numbers out."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def text(self, original: str) -> str:
        """Return a stand-in for a serial number: letters and digits are replaced, all else stays."""
        digest = self._digest(original)
        while len(digest) < len(original):
            digest += self._digest(digest)
        drawn = iter(digest)
        return "".join(_like(char, next(drawn)) if char.isalnum() else char for char in original)

    def mac(self, original: str) -> str:
        """Return a stand-in for a link-layer address that keeps its maker: the first three bytes."""
        kept, made = original[:9], self._digest(original.lower())
        rest = (len(original) - 8) // 3
        return kept + ":".join(made[at * 2 : at * 2 + 2] for at in range(rest))

    def hexadecimal(self, original: str) -> str:
        """Return a stand-in for a machine id."""
        return self._digest(original)[: len(original)]

    def _digest(self, original: str) -> str:
        return hmac.new(self._secret, original.encode(), hashlib.sha256).hexdigest()


def _like(char: str, drawn: str) -> str:
    """Return a character of the kind of `char`: hex digits stay hex digits."""
    if char in _HEX:
        return drawn if not char.isdigit() else str(int(drawn, 16) % 10)
    picked = chr(ord("g") + int(drawn, 16))
    return picked.upper() if char.isupper() else picked


def disguise(path: str, data: bytes, names: Pseudonyms) -> bytes:
    """Return the content of the file at `path` with what identifies the machine replaced."""
    name = path.rpartition("/")[2]
    if name == "config":
        return _config(data, names)
    if name == "vpd":
        return _replaced(data, pci_config.vpd_serial_span(data), names)
    if name == "vpd_pg80":
        return _replaced(data, (_UNIT_SERIAL_HEADER_BYTES, len(data)), names)
    text = data.decode("utf-8", "surrogateescape")
    return _text(path, name, text, names).encode("utf-8", "surrogateescape")


def _text(path: str, name: str, text: str, names: Pseudonyms) -> str:
    stripped = text.strip()
    if path in {"/etc/machine-id", "/var/lib/dbus/machine-id"}:
        return names.hexadecimal(stripped) + "\n"
    if path in {"/etc/hostname", "/proc/sys/kernel/hostname"}:
        return "recorded\n"
    if name == "address" and MAC.fullmatch(stripped):
        return (names.mac(stripped) if stripped.strip("0:") else stripped) + "\n"
    if name in {"if_inet6", "ipv6_route"}:
        return _EUI.sub(lambda match: _eui(match, names), text)
    if path == "/proc/cmdline":
        kept = [word for word in stripped.split() if _COMMAND_LINE_KEYS.fullmatch(word.partition("=")[0])]
        return " ".join(kept) + "\n"
    # The serial number of a root hub is its controller's address.
    if name in _SERIAL_FILES and not _PCI_ADDRESS.fullmatch(stripped):
        kind = _KIND.match(text)
        begin = kind.end() if kind else 0
        return text[:begin] + names.text(text[begin:])
    return text


def _eui(match: re.Match[str], names: Pseudonyms) -> str:
    """Return an IPv6 interface identifier for the stand-in of the MAC address that it was made from."""
    first = int(match[1][:2], 16) ^ 2
    mac = f"{first:02x}" + match[1][2:] + match[2]
    made = names.mac(":".join(mac[at : at + 2] for at in range(0, 12, 2))).replace(":", "")
    return f"{match[1]}fffe{made[6:]}"


def _config(data: bytes, names: Pseudonyms) -> bytes:
    at = pci_config.serial_offset(lambda offset, size: data[offset : offset + size])
    return data if at is None else _replaced_bytes(data, at, min(at + 8, len(data)), names)


def _replaced_bytes(data: bytes, start: int, end: int, names: Pseudonyms) -> bytes:
    if not data[start:end].strip(b"\0") or not data[start:end].strip(b"\xff"):
        return data
    made = bytes.fromhex(names.hexadecimal(data[start:end].hex()))
    return data[:start] + made + data[end:]


def _replaced(data: bytes, span: tuple[int, int] | None, names: Pseudonyms) -> bytes:
    if span is None:
        return data
    start, end = span
    original = data[start:end].decode("latin-1")
    return data[:start] + names.text(original).encode("latin-1", "replace") + data[end:]
