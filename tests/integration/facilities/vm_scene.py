"""A node with simulated hosts and VMs on them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers import wait_until
from tests.node import Answer, Node, Rest, run_node

GB = 2**30
TIMEOUT_S = 120.0


@dataclass
class Scene:
    """A node with a zone, a cluster, an offering of one CPU and a gigabyte, and simulated hosts."""

    node: Node
    admin: Rest
    zone: str
    cluster: str
    offering: str

    def add_host(self, last_byte: int, memory: int = 8 * GB, cpus: int = 4, **more: Any) -> str:
        params = {
            "name": f"host-{last_byte}",
            "managementIp": f"127.66.0.{last_byte}",
            "clusterUuid": self.cluster,
            "memoryCapacity": memory,
            "cpuCapacity": cpus,
            **more,
        }
        answer = self.admin.run("POST", "/hosts/simulators", {"params": params})
        assert answer.status == 200, answer
        return answer.body["inventory"]["uuid"]

    def create(self, name: str = "vm", **more: Any) -> Answer:
        params = {"name": name, "instanceOfferingUuid": self.offering, "zoneUuid": self.zone, **more}
        return self.admin.run("POST", "/vm-instances", {"params": params})

    def created(self, name: str = "vm", **more: Any) -> dict[str, Any]:
        answer = self.create(name, **more)
        assert answer.status == 200, answer
        return answer.body["inventory"]

    def act(self, uuid: str, operation: str, **params: Any) -> Answer:
        return self.admin.run("PUT", f"/vm-instances/{uuid}/actions", {operation: params})

    def vm(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/vm-instances/{uuid}")
        return found

    def host(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/hosts/{uuid}")
        return found

    def host_named(self, name: str) -> str:
        (found,) = self.admin.query("/hosts", f"name={name}")
        return found["uuid"]

    def migrate(self, uuid: str, **params: Any) -> Answer:
        return self.act(uuid, "migrateVm", **params)

    def free(self, host: str) -> tuple[int, int]:
        row = self.host(host)
        return row["availableCpuCapacity"], row["availableMemoryCapacity"]

    def control(self, *words: str) -> None:
        state = str(self.node.state / "simulator")
        argv = [sys.executable, "-m", "simulator", words[0], "--state", state, *words[1:]]
        subprocess.run(argv, env=self.node.environment, cwd="/", check=True, capture_output=True)

    def vms_file(self, host: str) -> Path:
        (found,) = self.node.state.glob(f"simulator/**/{host}/vms.json")
        return found

    def on_host(self, host: str) -> list[str]:
        return [vm["uuid"] for vm in json.loads(self.vms_file(host).read_bytes())]

    def wait_for(self, uuid: str, state: str) -> None:
        wait_until(lambda: self.vm(uuid)["state"] == state, f"VM {uuid} is not {state}", TIMEOUT_S)


def run_scene(state: Path) -> Iterator[Scene]:
    """Run a node, and give its scene."""
    for node in run_node(state):
        admin = node.rest().logged_in()
        zone = admin.create("/zones", name="zone")["uuid"]
        cluster = admin.create("/clusters", name="c", zoneUuid=zone, hypervisorType="Simulator")["uuid"]
        offering = admin.create("/instance-offerings", name="small", cpuNum=1, memorySize=GB)["uuid"]
        yield Scene(node, admin, zone, cluster, offering)
