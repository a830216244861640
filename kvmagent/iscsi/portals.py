"""Portals and targets: what iscsiadm prints of them, and how they are written; pure functions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import NamedTuple

from agentkit.wire import Wire

_PORTAL = re.compile(
    r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[^\s:,\[\]]+)):(?P<port>\d+),(?P<group>-?\d+) (?P<iqn>\S+)"
)


class SessionKey(NamedTuple):
    """What tells sessions apart: a target and the portal that it is reached through."""

    iqn: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.iqn} at {portal_text(self.address, self.port)}"


class Target(Wire):
    """A target as a portal announces it; `group` is the portal's group there."""

    iqn: str
    address: str
    port: int
    group: int

    @property
    def key(self) -> SessionKey:
        """What its session is known by."""
        return SessionKey(self.iqn, plain_address(self.address), self.port)


def plain_address(text: str) -> str:
    """Return an IP address in its shortest form, what is none as it is."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return text.lower()


def portal_text(address: str, port: int) -> str:
    """Return a portal as iscsiadm takes it: `[2001:db8::1]:3260`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse_discovery(text: str) -> list[Target]:
    """Return the targets that `iscsiadm -m discovery` printed, each once; other lines are left out."""
    found: dict[SessionKey, Target] = {}
    for line in text.splitlines():
        match = _PORTAL.fullmatch(line.strip())
        if match is not None:
            address = plain_address(match["six"] or match["four"])
            target = Target(
                iqn=match["iqn"], address=address, port=int(match["port"]), group=int(match["group"])
            )
            found.setdefault(target.key, target)
    return list(found.values())


def through(targets: Collection[Target], addresses: Collection[str], port: int) -> list[Target]:
    """Return the targets that a portal announces for itself; `addresses` are what its name stands for.

    A portal may announce others, too: whether hosts are to use those is said by adding them.
    """
    own = {plain_address(address) for address in addresses}
    return [target for target in targets if target.port == port and target.address in own]


def by_path_name(key: SessionKey, lun: int) -> str:
    """Return the name that udev gives a LUN in /dev/disk/by-path."""
    return f"ip-{key.address}:{key.port}-iscsi-{key.iqn}-lun-{lun}"
