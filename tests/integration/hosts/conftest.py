"""A management node whose hosts are scripted (`surveyed_node`), in a cluster of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import wait_until
from tests.node import Answer, Node, Rest

PROGRAM = (str(Path(__file__).with_name("surveyed_node.py")),)
TIMEOUT_S = 120.0
CPU = """\
processor\t: {number}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU E5-2630 v3 @ 2.40GHz
flags\t\t: fpu vme lm vmx ept
physical id\t: 0
core id\t\t: {number}
cpu MHz\t\t: 1200.000

"""


def make_machine(root: Path) -> None:
    """Write a small machine that can be a host: what the agents read."""
    files = {
        "proc/cpuinfo": "".join(CPU.format(number=n) for n in range(4)),
        "proc/meminfo": "MemTotal:       16777216 kB\n",
        "proc/sys/kernel/osrelease": "6.1.0\n",
        "proc/sys/kernel/arch": "x86_64\n",
        "etc/os-release": "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\nNAME=Debian\n",
        "etc/hostname": "machine\n",
        "etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.2016-04.com.example:machine\n",
        "dev/kvm": "",
        "sys/class/dmi/id/product_name": "R730\n",
        "sys/class/dmi/id/product_serial": "ABC123\n",
        "sys/module/kvm_intel/parameters/ept": "Y\n",
    }
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    library = root / "usr/lib64/libvirt.so.0"
    library.parent.mkdir(parents=True)
    library.symlink_to("libvirt.so.0.9000.0")


@dataclass
class Place:
    """A node with an administrator and a cluster."""

    node: Node
    machine: Path
    admin: Rest = field(init=False)
    zone: str = field(init=False)
    cluster: str = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.node.rest().logged_in()
        self.zone = self.admin.create("/zones", name="zone")["uuid"]
        self.cluster = self.new_cluster("cluster")

    def new_cluster(self, name: str, **more: Any) -> str:
        wanted = {"name": name, "zoneUuid": self.zone, "hypervisorType": "KVM", **more}
        uuid: str = self.admin.create("/clusters", **wanted)["uuid"]
        return uuid

    def script(self, address: str, **script: Any) -> None:
        """Say what a host is like."""
        file = self.node.state / "surveys" / f"{address}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(script))

    def add(self, address: str, **params: Any) -> Answer:
        """Add a host and return how that ended."""
        wanted = {
            "name": f"host {address}",
            "managementIp": address,
            "clusterUuid": self.cluster,
            "username": "root",
            "password": "unset",
            **params,
        }
        return self.admin.run("POST", "/hosts/kvm", {"params": wanted})

    def added(self, address: str, **params: Any) -> dict[str, Any]:
        """Add a host, which must go well; return its inventory."""
        answer = self.add(address, **params)
        assert answer.status == 200, answer
        inventory: dict[str, Any] = answer.body["inventory"]
        return inventory

    def host(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/hosts/{uuid}")
        return found

    def act(self, uuid: str, operation: str, **params: Any) -> Answer:
        """Have something done to a host."""
        path = f"/hosts/kvm/{uuid}/actions" if operation == "updateKVMHost" else f"/hosts/{uuid}/actions"
        return self.admin.run("PUT", path, {operation: params})

    def delete(self, uuid: str, mode: str = "Permissive") -> Answer:
        return self.admin.run("DELETE", f"/hosts/{uuid}?deleteMode={mode}", None)

    def wait_for(self, uuid: str, **expected: str) -> None:
        """Wait until the host's inventory has these values."""
        wait_until(
            lambda: expected.items() <= self.host(uuid).items(), f"{uuid} is not {expected}", TIMEOUT_S
        )

    def set(self, category: str, name: str, value: str) -> None:
        """Change a global setting."""
        path = f"/global-configurations/{category}/{name}/actions"
        answer = self.admin.run("PUT", path, {"updateGlobalConfig": {"value": value}})
        assert answer.status == 200, answer

    def tags(self, uuid: str) -> set[str]:
        return {tag["tag"] for tag in self.admin.query("/system-tags", f"resourceUuid={uuid}")}

    def deployments(self, address: str) -> int:
        """Return how often an agent was deployed to an address."""
        file = self.node.state / "deployments"
        return file.read_text().split().count(address) if file.exists() else 0

    def home(self, uuid: str) -> Path:
        """Return the folder of a host's agent."""
        return self.node.state / "agents" / uuid

    def agent(self, uuid: str) -> psutil.Process:
        return psutil.Process(json.loads((self.home(uuid) / "ready.json").read_text())["pid"])

    def kill_agent(self, uuid: str) -> None:
        """Kill a host's agent; returns when the node knows."""
        agent = self.agent(uuid)
        os.kill(agent.pid, signal.SIGKILL)
        self.wait_for(uuid, status="Disconnected")

    def restarted(self) -> None:
        """Take up the session after the node was started again."""
        self.admin = Rest(self.node.url, self.admin.session)


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Settings of the node; a module may have its own."""
    return {"HARDPOINT_RECONNECT_AFTER_S": "3600", "HARDPOINT_RECONNECT_AFTER_MAX_S": "3600"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Node]:
    """A node for all tests of a module."""
    folder = tmp_path_factory.mktemp("hosts")
    machine = folder / "machine"
    node = Node(folder / "state", {"HARDPOINT_LOCAL_AGENT_ROOT": str(machine), **environment}, PROGRAM)
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def place(node: Node) -> Iterator[Place]:
    """The node with nothing but an empty cluster; what the test leaves is taken away."""
    machine = node.state.parent / "machine"
    shutil.rmtree(machine, ignore_errors=True)
    make_machine(machine)
    place = Place(node, machine)
    place.set("kvm", "testSshPortOpenTimeout", "0")
    yield place
    place.restarted()
    for zone in place.admin.query("/zones"):
        answer = place.admin.run("DELETE", f"/zones/{zone['uuid']}?deleteMode=Enforcing", None)
        assert answer.status == 200, answer
    for setting in place.admin.query("/global-configurations"):
        if setting["value"] != setting["defaultValue"]:
            place.set(setting["category"], setting["name"], setting["defaultValue"])
    for folder in ("surveys", "stuck"):
        shutil.rmtree(node.state / folder, ignore_errors=True)
    (node.state / "deployments").unlink(missing_ok=True)
