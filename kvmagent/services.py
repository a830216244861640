"""What it means that a service of the host does not start."""

from __future__ import annotations

from agentkit.errors import HardpointError
from agentkit.runner import Completed


def not_started(unit: str, completed: Completed, remedy: str) -> HardpointError:
    """Return the error (SYS.1006) of a `systemctl start` that failed, with what it said last."""
    said = completed.stderr.decode(errors="replace").strip().splitlines()
    reason = said[-1].strip() if said else "no reason is given"
    see = f"{remedy}; `systemctl status {unit}` and `journalctl -u {unit}` on the host say more"
    return HardpointError("SYS.1006", "Operation failed", f"{unit} does not start: {reason}", remedy=see)
