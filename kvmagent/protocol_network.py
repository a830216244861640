"""Commands and replies of the KVM agent about bridges; `mn` imports this module as well."""

from __future__ import annotations

from agentkit.wire import Command, Wire

CONFIRM_WITHIN_S = 10.0
"""A change that the management node has not confirmed by then is rolled back: it may have cut itself off."""
INTERFACE_NAME_LENGTH = 15


class Bridge(Wire):
    """A bridge on an interface of the host, or on a VLAN of it."""

    name: str
    interface: str
    vlan: int | None = None


class ApplyNetworksReply(Wire):
    """The bridges are there. `pending`: they have to be confirmed."""

    pending: bool


class ApplyNetworks(Command[ApplyNetworksReply], tag="applyNetworks"):
    """Have these bridges and none other of this fleet's.

    Addresses and routes of an interface go to its bridge. Fails (SYS.1006), and nothing is changed, when an
    interface is missing or used otherwise, or when a bridge that is to go has VMs on it.
    """

    change_uuid: str
    bridges: list[Bridge]


class ConfirmNetworksReply(Wire):
    """The change stays."""


class ConfirmNetworks(Command[ConfirmNetworksReply], tag="confirmNetworks"):
    """Say that the host can still be reached. Fails (SYS.1006) when the change has been rolled back."""

    change_uuid: str
