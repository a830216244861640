"""Which network addresses are whose: callers on this machine, and receivers that may be called."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_TRANSLATED = IPv6Network("64:ff9b::/96")
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_UNIQUE_LOCAL = IPv6Network("fc00::/7")
_METADATA = (ip_address("fd00:ec2::254"),)
"""Addresses of cloud metadata services that lie outside the link-local networks."""


def plain(text: str) -> Address:
    """Return an address; one of IPv4 that is written as IPv6 is IPv4. Raises ValueError when it is none."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def client_address(request: web.BaseRequest) -> str:
    """Return the address that a request came from, without zone."""
    return (request.remote or "").partition("%")[0]


def is_from_loopback(request: web.BaseRequest) -> bool:
    """Say whether a request came from this machine; one that a proxy passed on did not."""
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        return plain(client_address(request)).is_loopback
    except ValueError:
        return False


def is_in(request: web.BaseRequest, networks: Sequence[Network]) -> bool:
    """Say whether a request came from one of some networks."""
    try:
        address = plain(client_address(request))
    except ValueError:
        return False
    return any(address in network for network in networks)


def refusal(text: str, networks: Sequence[Network], *, from_loopback: bool) -> str | None:
    """Return why a receiver at an address may not be called, None when it may."""
    address = plain(text)
    if address.is_loopback:
        return None if from_loopback else "it is this machine, and the request came from another one"
    if address.is_link_local or address in _METADATA:
        return "link-local addresses are never called"
    if address.is_multicast:
        return "multicast addresses are never called"
    reserved = address.is_reserved and not (isinstance(address, IPv6Address) and address in _UNIQUE_LOCAL)
    if reserved or address.is_unspecified or (isinstance(address, IPv4Address) and address in _THIS_NETWORK):
        return "reserved addresses are never called"
    if networks and not any(address in ip_network(network) for network in networks):
        return "it is in none of the web_hook_networks of the settings"
    return None
