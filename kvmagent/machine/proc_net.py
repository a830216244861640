"""Addresses and default routes from the texts of /proc/net, for when netlink cannot be asked; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

RTF_UP = 0x1
RTF_REJECT = 0x200
_LOCAL = re.compile(r"\|--\s+(\S+)\s+/32 host LOCAL")


class Route(NamedTuple):
    """A route of /proc/net/route: no gateway means that the network is on the link."""

    interface: str
    network: ipaddress.IPv4Network
    on_link: bool


def parse_routes(lines: Iterable[str]) -> list[Route]:
    """Return the IPv4 routes that are up; lines that make no sense are left out."""
    found = []
    for line in lines:
        fields = line.split()
        try:
            destination, gateway, mask = (_ipv4(fields[column]) for column in (1, 2, 7))
            if int(fields[3], 16) & RTF_UP and not int(fields[3], 16) & RTF_REJECT:
                network = ipaddress.IPv4Network((destination, mask))
                found.append(Route(fields[0], network, gateway == "0.0.0.0"))  # noqa: S104 - "no gateway"
        except (ValueError, IndexError):
            continue
    return found


def default_interfaces(routes: Iterable[Route], ipv6_lines: Iterable[str]) -> set[str]:
    """Return the interfaces that default routes lead through."""
    found = {route.interface for route in routes if route.network.prefixlen == 0}
    for line in ipv6_lines:
        fields = line.split()
        everywhere = len(fields) == 10 and not fields[0].strip("0") and fields[1] == "00"
        if everywhere and not int(fields[8], 16) & RTF_REJECT:
            found.add(fields[9])
    return found


def ipv4_addresses(fib_trie: str, routes: Iterable[Route]) -> dict[str, set[str]]:
    """Return each interface's IPv4 addresses with prefix lengths.

    The trie has the addresses and the on-link routes have the interfaces: an address belongs to the interface
    of the narrowest network around it.
    """
    on_link = [route for route in routes if route.on_link and route.network.prefixlen]
    found: dict[str, set[str]] = {}
    for text in _LOCAL.findall(fib_trie):
        address = ipaddress.IPv4Address(text)
        around = [route for route in on_link if address in route.network]
        if address.is_loopback:
            found.setdefault("lo", set()).add(f"{text}/8")
        elif around:
            best = max(around, key=lambda route: route.network.prefixlen)
            found.setdefault(best.interface, set()).add(f"{text}/{best.network.prefixlen}")
    return found


def ipv6_addresses(lines: Iterable[str]) -> dict[str, set[str]]:
    """Return each interface's IPv6 addresses with prefix lengths, from /proc/net/if_inet6."""
    found: dict[str, set[str]] = {}
    for line in lines:
        fields = line.split()
        if len(fields) == 6 and len(fields[0]) == 32:
            address = ipaddress.IPv6Address(int(fields[0], 16))
            found.setdefault(fields[5], set()).add(f"{address}/{int(fields[2], 16)}")
    return found


def _ipv4(text: str) -> str:
    """Return the dotted form of the kernel's native-endian hex digits (x86, ARM: little)."""
    return str(ipaddress.IPv4Address(bytes.fromhex(text)[::-1]))
