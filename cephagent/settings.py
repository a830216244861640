"""The agent's configuration file."""

from __future__ import annotations

from pathlib import Path

from agentkit import settings
from agentkit.settings import AgentSettings
from cephagent.protocol import AGENT_PORT


class Settings(AgentSettings, kw_only=True):
    """Keys of the TOML file; the cluster is the one of the monitor on this server."""

    port: int = AGENT_PORT
    state_dir: str = "/var/lib/hardpoint/cephagent"
    ceph_configuration: str = "/etc/ceph/ceph.conf"
    """The cluster's configuration; the keyring of `ceph_user` is where it says."""
    ceph_user: str = "admin"
    look_every_s: float = 10.0
    """So often the cluster is asked how it is."""


def load(path: Path) -> Settings:
    """Return the settings of a file. Raises HardpointError naming the file and what is wrong in it."""
    return settings.load(path, Settings, "cephagent/settings.py")
