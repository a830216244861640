"""Arithmetic of address ranges: pure functions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from agentkit.errors import Blame, HardpointError


class Range(msgspec.Struct, frozen=True):
    """Addresses from `start` to `end` of a network, all as texts."""

    start: str
    end: str
    netmask: str
    gateway: str
    cidr: str


def checked(start: str, end: str, netmask: str, gateway: str) -> Range:
    """Return a range of IPv4 addresses. Raises HardpointError (SYS.1007) naming what does not fit."""
    first, last, way_out = _address(start, "startIp"), _address(end, "endIp"), _address(gateway, "gateway")
    try:
        network = ipaddress.IPv4Network(f"{first}/{netmask}", strict=False)
    except ValueError:
        raise _illegal(f"netmask {netmask} is none", "give one as 255.255.255.0") from None
    if first > last:
        raise _illegal(f"startIp {first} comes after endIp {last}", "swap them")
    for name, address in (("endIp", last), ("gateway", way_out)):
        if address not in network:
            raise _illegal(
                f"{name} {address} is not in the network {network} of startIp", "correct one of them"
            )
    if network.prefixlen < 31 and (first == network.network_address or last == network.broadcast_address):
        raise _illegal(
            f"the range {first} to {last} has the first or the last address of the network {network}, "
            "which no machine can have",
            "leave them out",
        )
    if first <= way_out <= last:
        raise _illegal(
            f"the gateway {way_out} is in the range {first} to {last}", "leave it out of the range"
        )
    return Range(str(first), str(last), str(network.netmask), str(way_out), str(network))


def of_network(cidr: str, gateway: str | None) -> Range:
    """Return the range of all machines of a network; its gateway is the first of them unless given."""
    try:
        network = ipaddress.IPv4Network(cidr, strict=False)
    except ValueError:
        raise _illegal(f"networkCidr {cidr} is no IPv4 network", "give one as 192.0.2.0/24") from None
    if network.prefixlen > 29:
        raise _illegal(f"networkCidr {cidr} has too few addresses", "give one of /29 or larger")
    first, last = network.network_address + 1, network.broadcast_address - 1
    way_out = first if gateway is None else _address(gateway, "gateway")
    if way_out == first:
        first += 1
    elif way_out == last:
        last -= 1
    return checked(str(first), str(last), str(network.netmask), str(way_out))


def overlaps(one: Range, start: str, end: str) -> bool:
    """Say whether a range has addresses of another."""
    return _number(one.start) <= _number(end) and _number(start) <= _number(one.end)


def first_free(start: str, end: str, used: Iterable[str]) -> str | None:
    """Return the lowest address of a range that is not used, None when all are."""
    taken = {_number(ip) for ip in used}
    for number in range(_number(start), _number(end) + 1):
        if number not in taken:
            return str(ipaddress.IPv4Address(number))
    return None


def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


def _address(text: str, name: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise _illegal(f"{name} {text} is no IPv4 address", "give one as 192.0.2.10") from None


def _illegal(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)
