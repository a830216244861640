"""Which agents this management node works with: those of its own protocol version and its neighbours."""

from __future__ import annotations

from agentkit.errors import HardpointError
from agentkit.wire import PROTOCOL_VERSION, Hello

NEIGHBOURS = 1
"""An agent may speak the protocol of so many versions before or after: fleets are upgraded host by host."""


def check_protocol(hello: Hello, where: str, own: int = PROTOCOL_VERSION) -> None:
    """Raise HardpointError (HOST.1003) for an agent whose protocol is too far from this management node's."""
    if abs(hello.protocol - own) <= NEIGHBOURS:
        return
    which = "newer" if hello.protocol > own else "older"
    remedy = (
        "upgrade the management node, then reconnect the host"
        if which == "newer"
        else "reconnect the host (ReconnectHost), which installs this management node's agent"
    )
    raise HardpointError(
        "HOST.1003",
        "Connection error",
        f"the agent at {where} (version {hello.version}) speaks protocol {hello.protocol}, which is too much "
        f"{which} for this management node: it speaks {own} and works with {own - NEIGHBOURS} to "
        f"{own + NEIGHBOURS}",
        remedy=remedy,
    )
