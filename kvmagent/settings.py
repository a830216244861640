"""The agent's configuration file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agentkit import settings
from agentkit.settings import AgentSettings
from kvmagent.protocol import AGENT_PORT, TRANSFER_PORT


class Settings(AgentSettings, kw_only=True):
    """Keys of the TOML file beside those of every agent."""

    port: int = AGENT_PORT
    transfer_port: int = TRANSFER_PORT
    """Where other agents fetch what is offered to them; 0: the last one if it is free, else any."""
    state_dir: str = "/var/lib/hardpoint/kvmagent"
    root: str = "/"
    """Where the machine's file tree begins; a recorded machine's in tests and simulated hosts."""
    local_storage_root: str = "/"
    """What the directories of local storages are below: hosts that share a machine have each a tree."""
    management_address: str | None = None
    """The address that the management node calls; what carries it is boot-critical."""
    libvirt_uri: str | None = None
    """The libvirt that VMs run under; None: the system's, when `root` is the machine's own."""
    emulate: bool = False
    """Whether VMs run without KVM although the host has it."""
    rescan_s: float = 30.0

    def check(self) -> None:
        """Raise msgspec.ValidationError for values that cannot be."""
        super().check()
        if not 0 <= self.transfer_port <= 65535:
            raise msgspec.ValidationError(f"transfer_port is {self.transfer_port}, not 0 to 65535")
        if not self.rescan_s >= 1:
            raise msgspec.ValidationError(f"rescan_s is {self.rescan_s}, not 1 or more")


def load(path: Path) -> Settings:
    """Return the settings of a file. Raises HardpointError naming the file and what is wrong in it."""
    return settings.load(path, Settings, "kvmagent/settings.py")
