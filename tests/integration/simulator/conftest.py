"""A management node with a cluster for simulated hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.node import Answer, Node, Rest, run_node

SIMULATED = "hypervisorType=Simulator"


@dataclass
class Scene:
    """The node, a client, and what simulated hosts need."""

    node: Node
    admin: Rest
    zone: dict[str, Any]
    cluster: dict[str, Any]

    def add(self, last_byte: int, **more: Any) -> Answer:
        """Ask for a simulated host and return the answer of the ended job."""
        address = f"127.64.0.{last_byte}"
        params = {"name": f"simulated-{last_byte}", "managementIp": address, **more}
        return self.admin.run(
            "POST", "/hosts/simulators", {"params": {"clusterUuid": self.cluster["uuid"], **params}}
        )

    def hosts(self, *conditions: str) -> list[dict[str, Any]]:
        """Return the simulated hosts for which the conditions hold."""
        return self.admin.query("/hosts", SIMULATED, *conditions)

    def control(self, *words: str) -> dict[str, Any]:
        """Have the simulator do something."""
        state = str(self.node.state / "simulator")
        argv = [sys.executable, "-m", "simulator", words[0], "--state", state, *words[1:]]
        done = subprocess.run(
            argv, env=self.node.environment, cwd="/", check=True, capture_output=True, text=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def simulator_pid(self) -> int:
        """Return the pid of the simulator process."""
        pid: int = json.loads((self.node.state / "simulator" / "ready.json").read_bytes())["pid"]
        return pid


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A node of its own, so that a test may do to its hosts what it likes."""
    for node in run_node(tmp_path / "state"):
        admin = node.rest().logged_in()
        zone = admin.create("/zones", name="zone")
        cluster = admin.create(
            "/clusters", name="simulated", zoneUuid=zone["uuid"], hypervisorType="Simulator"
        )
        yield Scene(node, admin, zone, cluster)
