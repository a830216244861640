"""From the interfaces that there are and the bridges that are wanted to steps: pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from agentkit.errors import Blame, HardpointError
from agentkit.wire import Wire
from kvmagent.network.steps import AddBridge, AddVlan, Change, Enslave, Move, Release, Remove, Route
from kvmagent.protocol_network import INTERFACE_NAME_LENGTH, Bridge


class Link(Wire):
    """An interface; `routes` are those that somebody has set through it, not the kernel's own."""

    name: str
    kind: str | None
    mac: str | None
    mtu: int
    master: str | None
    parent: str | None
    vlan: int | None
    addresses: list[str]
    routes: list[Route]


Links = Mapping[str, Link]


def plan(links: Links, wanted: Sequence[Bridge], owned: Sequence[Bridge]) -> list[Change]:
    """Return the steps to the wanted bridges; `owned` are those that were made here before.

    Raises HardpointError (SYS.1006) when an interface is missing or is used otherwise.
    """
    names = {bridge.name for bridge in wanted}
    changes: list[Change] = []
    for bridge in owned:
        if bridge.name not in names:
            changes += _removal(links, bridge)
    for bridge in wanted:
        changes += _addition(links, bridge)
    return changes


def undo_of(changes: Sequence[Change]) -> list[Change]:
    """Return what takes all of the changes back, the last first."""
    return [Change(do=change.undo, undo=change.do) for change in reversed(changes)]


def vlan_name(bridge: Bridge) -> str:
    """Return the name of the VLAN interface below a bridge."""
    name = f"{bridge.interface}.{bridge.vlan}"
    if len(name) <= INTERFACE_NAME_LENGTH:
        return name
    digest = hashlib.sha256(bridge.interface.encode()).hexdigest()
    return f"v{digest[: INTERFACE_NAME_LENGTH - 6]}.{bridge.vlan}"


def _addition(links: Links, bridge: Bridge) -> list[Change]:
    lower = links.get(bridge.interface)
    if lower is None:
        names = ", ".join(sorted(links)) or "none"
        raise _refused(bridge, f"there is no interface {bridge.interface}", f"interfaces: {names}")
    changes = []
    port = lower.name
    if bridge.vlan is not None:
        port = vlan_name(bridge)
        if port not in links:
            step = AddVlan(name=port, interface=lower.name, vlan=bridge.vlan)
            changes.append(Change(do=step, undo=Remove(name=port)))
        elif (links[port].parent, links[port].vlan) != (lower.name, bridge.vlan):
            raise _refused(bridge, f"the interface {port} is something else", "rename or remove it")
    there = links.get(bridge.name)
    if there is None:
        added = AddBridge(name=bridge.name, mac=lower.mac, mtu=lower.mtu)
        changes.append(Change(do=added, undo=Remove(name=bridge.name)))
    elif there.kind != "bridge":
        raise _refused(bridge, f"{bridge.name} is no bridge on this host", "rename or remove it")
    return changes + _joining(links.get(port), port, bridge)


def _joining(link: Link | None, port: str, bridge: Bridge) -> list[Change]:
    changes: list[Change] = []
    master = link.master if link is not None else None
    if master not in (None, bridge.name):
        raise _refused(bridge, f"the interface {port} belongs to {master}", "choose another interface")
    if master is None:
        enslave = Enslave(name=port, bridge=bridge.name)
        changes.append(Change(do=enslave, undo=Release(name=port)))
    if link is not None and (link.addresses or link.routes):
        changes.append(_move(link, bridge.name))
    return changes


def _removal(links: Links, bridge: Bridge) -> list[Change]:
    there = links.get(bridge.name)
    if there is None:
        return []
    port = bridge.interface if bridge.vlan is None else vlan_name(bridge)
    others = sorted(link.name for link in links.values() if link.master == bridge.name and link.name != port)
    if others:
        reason = f"it is in use by {', '.join(others)}"
        raise _refused(bridge, reason, "stop the VMs that are connected to it first", verb="removed")
    changes: list[Change] = []
    lower = links.get(port)
    if lower is not None and lower.master == bridge.name:
        changes.append(Change(do=Release(name=port), undo=Enslave(name=port, bridge=bridge.name)))
    if lower is not None and bridge.vlan is None and (there.addresses or there.routes):
        changes.append(_move(there, port))
    back = AddBridge(name=bridge.name, mac=there.mac, mtu=there.mtu)
    changes.append(Change(do=Remove(name=bridge.name), undo=back))
    if lower is not None and bridge.vlan is not None:
        vlan = AddVlan(name=port, interface=bridge.interface, vlan=bridge.vlan)
        changes.append(Change(do=Remove(name=port), undo=vlan))
    return changes


def _move(link: Link, target: str) -> Change:
    addresses, routes = tuple(link.addresses), tuple(link.routes)
    return Change(
        do=Move(source=link.name, target=target, addresses=addresses, routes=routes),
        undo=Move(source=target, target=link.name, addresses=addresses, routes=routes),
    )


def _refused(bridge: Bridge, reason: str, remedy: str, verb: str = "made") -> HardpointError:
    where = bridge.interface if bridge.vlan is None else f"VLAN {bridge.vlan} of {bridge.interface}"
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the bridge {bridge.name} on {where} was not {verb}: {reason}",
        remedy=remedy,
        blame=Blame.CALLER,
    )
