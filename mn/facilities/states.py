"""State events and the states they lead to."""

from __future__ import annotations

from agentkit.errors import Blame, HardpointError
from mn.rest.types import StateEvent

_AFTER = {"enable": "Enabled", "disable": "Disabled", "maintain": "Maintenance", "deleting": "Deleting"}


def check_event(event: StateEvent, *allowed: str) -> None:
    """Raise HardpointError (SYS.1007) for an event that the resource does not know."""
    if event.text not in allowed:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"parameter 'stateEvent' is '{event.text}'",
            remedy=f"give {' or '.join(allowed)}",
            blame=Blame.CALLER,
        )


def state_after(event: StateEvent) -> str:
    """Return the state that an event leads to."""
    return _AFTER[event.text]
