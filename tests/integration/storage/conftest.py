"""A management node with two hosts on this machine, each with a tree of its own for local storages."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.integration.hosts.conftest import make_machine
from tests.node import Answer, Node, Rest, run_node

TIMEOUT_S = 120.0
MB = 1024 * 1024
HOSTS = ("127.0.2.1", "127.0.2.2")


@dataclass
class Place:
    """A cluster with two hosts and a local storage that both have."""

    node: Node
    admin: Rest = field(init=False)
    zone: str = field(init=False)
    cluster: str = field(init=False)
    storage: str = field(init=False)
    hosts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.node.rest().logged_in()
        self.zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"name": "cluster", "zoneUuid": self.zone, "hypervisorType": "KVM"}
        self.cluster = self.admin.create("/clusters", **wanted)["uuid"]
        self.hosts = [self.add_host(address) for address in HOSTS]
        self.storage = self.new_storage("/zstack_ps")
        assert self.attach(self.storage).status == 200

    def add_host(self, address: str) -> str:
        wanted = {"name": address, "managementIp": address, "username": "root", "password": "unused"}
        uuid: str = self.admin.create("/hosts/kvm", clusterUuid=self.cluster, **wanted)["uuid"]
        return uuid

    def new_storage(self, url: str) -> str:
        wanted = {"name": url, "url": url, "zoneUuid": self.zone}
        uuid: str = self.admin.create("/primary-storage/local-storage", **wanted)["uuid"]
        return uuid

    def attach(self, storage: str) -> Answer:
        return self.admin.run("POST", f"/clusters/{self.cluster}/primary-storage/{storage}", {})

    def detach(self, storage: str) -> Answer:
        return self.admin.run("DELETE", f"/clusters/{self.cluster}/primary-storage/{storage}", None)

    def volume(self, size: int = 8 * MB, host: int = 0, **more: Any) -> dict[str, Any]:
        """Make a data volume on the local storage of a host."""
        tag = f"localStorage::hostUuid::{self.hosts[host]}"
        wanted = {"name": "v", "diskSize": size, "primaryStorageUuid": self.storage, "systemTags": [tag]}
        return self.admin.create("/volumes/data", **{**wanted, **more})

    def show(self, volume: dict[str, Any]) -> dict[str, Any]:
        (found,) = self.admin.query(f"/volumes/{volume['uuid']}")
        return found

    def act(self, path: str, operation: str, **params: Any) -> Answer:
        return self.admin.run("PUT", path, {operation: params})

    def file(self, host: int, path: str) -> Path:
        """Return where a path that the API shows is on this machine."""
        return self.node.state / "storage" / self.hosts[host] / path.lstrip("/")

    def files(self, host: int) -> list[Path]:
        """Return all files on a host's local storage, the storage's own aside."""
        root = self.file(host, "/zstack_ps")
        found = (f for f in root.rglob("*") if f.is_file() and ".hardpoint" not in f.parts)
        return sorted(f.relative_to(root) for f in found if ".trash" not in f.parts)

    def storage_row(self, uuid: str | None = None) -> dict[str, Any]:
        (found,) = self.admin.query(f"/primary-storage/{uuid or self.storage}")
        return found

    def available(self, host: int) -> int:
        query = f"/primary-storage/local-storage/{self.storage}/capacities?hostUuid={self.hosts[host]}"
        (found,) = self.admin.get(query).body["inventories"]
        available: int = found["availableCapacity"]
        return available

    def agent_pid(self, host: int) -> int:
        ready = self.node.state / "agents" / self.hosts[host] / "ready.json"
        pid: int = json.loads(ready.read_text())["pid"]
        return pid

    def kill_agent(self, host: int) -> None:
        os.kill(self.agent_pid(host), signal.SIGKILL)

    def wait_for_host(self, host: int, status: str) -> None:
        def is_so() -> bool:
            (found,) = self.admin.query(f"/hosts/{self.hosts[host]}")
            return bool(found["status"] == status)

        wait_until(is_so, f"host {host} to be {status}", TIMEOUT_S)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("storage")
    make_machine(directory / "machine")
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(directory / "machine")}
    yield from run_node(directory / "state", environment)


@pytest.fixture(scope="module")
def place(node: Node) -> Place:
    return Place(node)
