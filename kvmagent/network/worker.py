"""The child that looks at interfaces and changes them by netlink: `python -m kvmagent.network.worker`.

It is a process of its own since pyroute2 is heavy and blocks. `look` prints the links; `change` reads changes
from standard input and does them all or, when one fails, none.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from kvmagent.network.plan import Link
from kvmagent.network.steps import AddBridge, AddVlan, Change, Enslave, Move, Release, Remove, Route, Step

ARGV = (sys.executable, "-m", "kvmagent.network.worker")
LOOK, CHANGE = "look", "change"
LOCAL_TABLE = 255
KERNEL_PROTOCOL = 2
PERMANENT_SCOPES = (0, 200)
"""Addresses that count everywhere or at this site; those of a link come by themselves."""
NO_SPANNING_TREE = {"br_stp_state": 0, "br_forward_delay": 0}


def look(netlink: Any) -> dict[str, Link]:
    """Return the interfaces by name."""
    found = list(netlink.get_links())
    names = {link["index"]: link.get("ifname") for link in found}
    addresses: dict[int, list[str]] = {}
    for item in netlink.get_addr():
        if item["scope"] in PERMANENT_SCOPES:
            local = item.get("local") or item.get("address")
            addresses.setdefault(item["index"], []).append(f"{local}/{item['prefixlen']}")
    routes: dict[int, list[Route]] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for item in netlink.get_routes(family=family):
            if _is_set(item):
                routes.setdefault(item.get("oif"), []).append(_route(item))
    return {
        link.get("ifname"): Link(
            name=link.get("ifname"),
            kind=link.get(("linkinfo", "kind")),
            mac=link.get("address"),
            mtu=link.get("mtu") or 1500,
            master=names.get(link.get("master")),
            parent=names.get(link.get("link")),
            vlan=link.get(("linkinfo", "data", "vlan_id")),
            addresses=addresses.get(link["index"], []),
            routes=routes.get(link["index"], []),
        )
        for link in found
        if link.get("ifname") != "lo"
    }


def change_all(netlink: Any, changes: Sequence[Change]) -> None:
    """Do all changes; when one fails, take back those before it and raise."""
    done: list[Change] = []
    try:
        for change in changes:
            done.append(change)
            _do(netlink, change.do)
    except Exception as error:
        for change in reversed(done):
            with contextlib.suppress(Exception):
                _do(netlink, change.undo)
        what = msgspec.json.encode(done[-1].do).decode()
        raise OSError(f"{what}: {error}") from error


def _do(netlink: Any, step: Step) -> None:
    match step:
        case AddBridge():
            if _index(netlink, step.name) is None:
                more = {"address": step.mac} if step.mac else {}
                netlink.link("add", ifname=step.name, kind="bridge", **NO_SPANNING_TREE, **more)
            netlink.link("set", index=_must(netlink, step.name), mtu=step.mtu, state="up")
        case AddVlan():
            if _index(netlink, step.name) is None:
                lower = _must(netlink, step.interface)
                netlink.link("add", ifname=step.name, kind="vlan", link=lower, vlan_id=step.vlan)
            netlink.link("set", index=_must(netlink, step.name), state="up")
        case Remove():
            index = _index(netlink, step.name)
            if index is not None:
                netlink.link("del", index=index)
        case Enslave():
            master = _must(netlink, step.bridge)
            netlink.link("set", index=_must(netlink, step.name), master=master, state="up")
        case Release():
            index = _index(netlink, step.name)
            if index is not None:
                netlink.link("set", index=index, master=0)
        case Move():
            _move(netlink, step)


def _move(netlink: Any, step: Move) -> None:
    source, target = _index(netlink, step.source), _must(netlink, step.target)
    for text in step.addresses:
        address, _, prefix = text.partition("/")
        if source is not None:
            with _tolerating(errno.EADDRNOTAVAIL):
                netlink.addr("del", index=source, address=address, prefixlen=int(prefix))
        with _tolerating(errno.EEXIST):
            more = {"broadcast": _broadcast(text)} if ":" not in text else {}
            netlink.addr("add", index=target, address=address, prefixlen=int(prefix), **more)
    for route in step.routes:
        if source is not None:
            with _tolerating(errno.ESRCH, errno.ENOENT):
                netlink.route("del", oif=source, **_arguments(route))
        with _tolerating(errno.EEXIST):
            netlink.route("add", oif=target, **_arguments(route))


def _broadcast(address: str) -> str:
    return str(ipaddress.ip_interface(address).network.broadcast_address)


def _arguments(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {"family": route.family, "table": route.table}
    if route.destination != "default":
        found["dst"] = route.destination
    elif route.family == socket.AF_INET6:
        found["dst"] = "::/0"
    else:
        found["dst"] = "0.0.0.0/0"
    optional = {"gateway": route.gateway, "priority": route.metric, "prefsrc": route.source}
    return found | {name: value for name, value in optional.items() if value is not None}


def _is_set(item: Any) -> bool:
    table = item.get("table") or item["table"]
    single = item.get("oif") is not None and item.get("multipath") is None
    return bool(single and table != LOCAL_TABLE and item["proto"] != KERNEL_PROTOCOL and item["type"] == 1)


def _route(item: Any) -> Route:
    destination = item.get("dst")
    return Route(
        destination=f"{destination}/{item['dst_len']}" if destination else "default",
        gateway=item.get("gateway"),
        metric=item.get("priority"),
        table=item.get("table") or item["table"],
        family=item["family"],
        source=item.get("prefsrc"),
    )


def _index(netlink: Any, name: str) -> int | None:
    found = netlink.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _must(netlink: Any, name: str) -> int:
    index = _index(netlink, name)
    if index is None:
        raise OSError(errno.ENODEV, f"there is no interface {name}")
    return index


@contextlib.contextmanager
def _tolerating(*codes: int) -> Any:
    from pyroute2 import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise


def main(argv: list[str]) -> int:
    """Do `look` or `change`."""
    from pyroute2 import IPRoute  # heavy, and for this child alone

    with IPRoute() as netlink:
        if argv == [LOOK]:
            sys.stdout.buffer.write(msgspec.json.encode(look(netlink)))
            return 0
        changes = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Change])
        try:
            change_all(netlink, changes)
        except Exception as error:  # noqa: BLE001 whatever it was, it was taken back and is told
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
