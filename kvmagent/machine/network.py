"""The network interfaces of a machine: from a file tree, and of the live one also from netlink.

pyroute2 takes 25 MB and a tenth of a second to import and its dumps block, so netlink is asked by a child
process: `python -m kvmagent.machine.network` prints JSON for `parse_netlink`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from agentkit.wire import Wire
from kvmagent.machine.locations import pci_address_of
from kvmagent.machine.tree import Tree
from kvmagent.protocol import NetworkInterface

INTERFACES = "/sys/class/net"
PHYSICAL = "physical"
NETLINK_ARGV = (sys.executable, "-m", "kvmagent.machine.network")
"""The child whose standard output `parse_netlink` understands."""
NETLINK_TIMEOUT_S = 10.0


class Link(Wire):
    """What netlink says of an interface; `kind` is None for one that is not virtual."""

    kind: str | None
    master: str | None
    addresses: list[str]
    default_route: bool


Netlink = dict[str, Link]
"""Links by name."""


def read_network(tree: Tree) -> list[NetworkInterface]:
    """Return the interfaces by name, with the addresses and default routes that /proc/net tells."""
    from kvmagent.machine import proc_net  # ipaddress is slow to import, and other readers do without

    routes = proc_net.parse_routes(tree.lines("/proc/net/route")[1:])
    default = proc_net.default_interfaces(routes, tree.lines("/proc/net/ipv6_route"))
    ipv4 = proc_net.ipv4_addresses(tree.text("/proc/net/fib_trie") or "", routes)
    ipv6 = proc_net.ipv6_addresses(tree.lines("/proc/net/if_inet6"))
    interfaces = []
    for name in tree.names(INTERFACES):
        path = tree.resolve(f"{INTERFACES}/{name}")
        if path and tree.is_dir(path):
            addresses = sorted(ipv4.get(name, ())) + sorted(ipv6.get(name, ()))
            interfaces.append(_interface(tree, name, path, addresses, default_route=name in default))
    return interfaces


def lower_interfaces(tree: Tree) -> dict[str, list[str]]:
    """Return the interfaces that each stacked one (bridge, bond, VLAN...) stands on."""
    found = {}
    for name in tree.names(INTERFACES):
        entries = tree.names(f"{INTERFACES}/{name}")
        lowers = [entry.removeprefix("lower_") for entry in entries if entry.startswith("lower_")]
        if lowers:
            found[name] = lowers
    return found


def merge(sysfs: list[NetworkInterface], netlink: Netlink | None) -> list[NetworkInterface]:
    """Return what sysfs says with what netlink knows better; sysfs alone when netlink could not be asked."""
    return [_merged(interface, (netlink or {}).get(interface.name)) for interface in sysfs]


def _merged(interface: NetworkInterface, link: Link | None) -> NetworkInterface:
    if link is None:
        return interface
    return msgspec.structs.replace(
        interface,
        kind=interface.kind if link.kind is None else link.kind,
        master=link.master,
        addresses=link.addresses,
        default_route=link.default_route,
    )


def parse_netlink(stdout: bytes) -> Netlink | None:
    """Return what the child printed, None when it is no such thing: sysfs alone has to do then."""
    try:
        return msgspec.json.decode(stdout, type=Netlink)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def ask_netlink(timeout_s: float = NETLINK_TIMEOUT_S) -> Netlink | None:
    """Run the child and wait for it, None when it fails; for the command line: a daemon runs NETLINK_ARGV."""
    import subprocess  # only the command line runs it

    try:
        done = subprocess.run(NETLINK_ARGV, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_netlink(done.stdout) if done.returncode == 0 else None


def _interface(
    tree: Tree, name: str, path: str, addresses: list[str], *, default_route: bool
) -> NetworkInterface:
    speed = tree.int(f"{path}/speed")
    return NetworkInterface(
        name=name,
        kind=_kind(tree, name, path),
        mac=_mac(tree, path),
        mtu=tree.int(f"{path}/mtu") or 0,
        state=tree.text(f"{path}/operstate") or "unknown",
        speed_mbit=speed if speed and speed > 0 else None,
        driver=tree.link_name(f"{path}/device/driver"),
        pci_address=pci_address_of(path),
        master=tree.link_name(f"{path}/master"),
        addresses=addresses,
        default_route=default_route,
    )


def _mac(tree: Tree, path: str) -> str | None:
    mac = (tree.text(f"{path}/address") or "").lower()
    return mac if mac.strip("0:") else None


def _kind(tree: Tree, name: str, path: str) -> str:
    """Return the kind as far as files tell it."""
    if name == "lo":
        return "loopback"
    if "/virtual/" not in path:
        return PHYSICAL
    for entry, kind in (("bridge", "bridge"), ("bonding", "bond"), ("tun_flags", "tun")):
        if tree.exists(f"{path}/{entry}"):
            return kind
    for line in tree.lines(f"{path}/uevent"):
        key, _, value = line.partition("=")
        if key == "DEVTYPE":
            return value
    if tree.exists(f"/proc/net/vlan/{name}"):
        return "vlan"
    index, peer = tree.int(f"{path}/ifindex"), tree.int(f"{path}/iflink")
    return "veth" if index and peer and index != peer else "virtual"


def _name_of(names: Mapping[int, str], index: int | None) -> str | None:
    return None if index is None else names.get(index)


def _dump() -> Netlink:
    """Ask the kernel for links, addresses and default routes."""
    from pyroute2 import IPRoute  # heavy, and for the child alone

    with IPRoute() as route:
        links = list(route.get_links())
        names = {link["index"]: link.get("ifname") for link in links}
        addresses: dict[int, list[str]] = {}
        for item in route.get_addr():
            local = item.get("local") or item.get("address")
            addresses.setdefault(item["index"], []).append(f"{local}/{item['prefixlen']}")
        default = set()
        for item in route.get_default_routes():
            hops = item.get("multipath") or []
            default |= {item.get("oif"), *(hop.get("oif") for hop in hops)}
    return {
        link.get("ifname"): Link(
            kind=link.get(("linkinfo", "kind")),
            master=_name_of(names, link.get("master")),
            addresses=_sorted(addresses.get(link["index"], [])),
            default_route=link["index"] in default,
        )
        for link in links
    }


def _sorted(addresses: list[str]) -> list[str]:
    """Return IPv4 before IPv6, each in order, as `read_network` does."""
    return sorted(set(addresses), key=lambda address: (":" in address, address))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_dump()))
