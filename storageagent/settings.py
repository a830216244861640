"""The agent's configuration file."""

from __future__ import annotations

from pathlib import Path

from agentkit import settings
from agentkit.settings import AgentSettings
from storageagent.protocol import AGENT_PORT


class Settings(AgentSettings, kw_only=True):
    """Keys of the TOML file; where the store is the management node says when it connects."""

    port: int = AGENT_PORT
    state_dir: str = "/var/lib/hardpoint/storageagent"


def load(path: Path) -> Settings:
    """Return the settings of a file. Raises HardpointError naming the file and what is wrong in it."""
    return settings.load(path, Settings, "storageagent/settings.py")
