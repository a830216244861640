"""What is done to a host's interfaces, step by step; each step has one that undoes it."""

from __future__ import annotations

from typing import Union

from agentkit.wire import Wire


class Route(Wire):
    """A route through one gateway. `destination` is `default` or a network; `gateway` may be absent."""

    destination: str
    gateway: str | None
    metric: int | None
    table: int
    family: int
    source: str | None = None


class AddBridge(Wire, tag="addBridge", tag_field="step"):
    """Make a bridge with a MAC address, up, without spanning tree."""

    name: str
    mac: str | None
    mtu: int


class AddVlan(Wire, tag="addVlan", tag_field="step"):
    """Make a VLAN interface, up."""

    name: str
    interface: str
    vlan: int


class Remove(Wire, tag="remove", tag_field="step"):
    """Remove a bridge or VLAN interface."""

    name: str


class Enslave(Wire, tag="enslave", tag_field="step"):
    """Put an interface, which is set up, on a bridge."""

    name: str
    bridge: str


class Release(Wire, tag="release", tag_field="step"):
    """Take an interface from its bridge."""

    name: str


class Move(Wire, tag="move", tag_field="step"):
    """Take addresses and routes from one interface and give them to another."""

    source: str
    target: str
    addresses: tuple[str, ...]
    routes: tuple[Route, ...]


Step = Union[AddBridge, AddVlan, Remove, Enslave, Release, Move]  # noqa: UP007 msgspec reads it


class Change(Wire):
    """A step and the one that undoes it."""

    do: Step
    undo: Step
