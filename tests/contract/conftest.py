"""A management node with a zone, two clusters and one host, whose agent reads a recorded machine."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kvmagent.record import unpack
from tests.contract.catalogue import Operation
from tests.node import Answer, Node, Rest, admin, run_node

__all__ = ["admin"]

MACHINE = Path(__file__).parents[1] / "machines" / "four-socket-2013.tar.xz"
CLOSED_PORT = 1
NOBODY = "192.0.2.1"  # reserved for documentation: no host has it


def new_uuid() -> str:
    return uuid.uuid4().hex


@dataclass
class World:
    """What the tests of the contract find in place."""

    admin: Rest
    zone: dict[str, Any]
    cluster: dict[str, Any]
    simulator_cluster: dict[str, Any]
    host: dict[str, Any]
    spare_zone: dict[str, Any]
    spare_cluster: dict[str, Any]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def name(self, stem: str) -> str:
        """Return a name that nothing else has."""
        return f"{stem}-{next(self._numbers)}"

    def address(self) -> str:
        """Return a loopback address that no host has."""
        return f"127.0.1.{next(self._numbers) % 254 + 1}"

    def params(self, operation: Operation | str) -> dict[str, Any]:
        """Return parameters with which an operation succeeds."""
        name = operation if isinstance(operation, str) else operation.name
        return _PARAMS[name](self)

    def harmless_params(self, operation: Operation | str) -> dict[str, Any]:
        """Return parameters that the server accepts, but that make no agent start."""
        params = self.params(operation)
        return {**params, "managementIp": NOBODY} if "managementIp" in params else params

    def target(self, operation: Operation) -> str | None:
        """Return the uuid of what an operation on one resource is done to, None when any will do."""
        target = _TARGETS.get(operation.name)
        return target(self) if target else None

    def path(self, operation: Operation) -> str:
        """Return a path of an operation on a resource that is there."""
        return fill(operation.paths[0], self.target(operation))

    def call(self, operation: Operation, params: object, **options: Any) -> Answer:
        """Send an operation with a body."""
        path = self.path(operation)
        return self.admin.call(operation.method, path, {operation.wrapper: params}, **options)


_PARAMS: dict[str, Callable[[World], dict[str, Any]]] = {
    "CreateZone": lambda w: {"name": w.name("zone")},
    "CreateCluster": lambda w: {
        "name": w.name("cluster"),
        "zoneUuid": w.zone["uuid"],
        "hypervisorType": "KVM",
    },
    "AddKVMHost": lambda w: {
        "name": w.name("host"),
        "clusterUuid": w.cluster["uuid"],
        "managementIp": w.address(),
        "username": "root",
        "password": "unused",
        "sshPort": CLOSED_PORT,
    },
    "KvmRunShell": lambda w: {"hostUuids": [w.host["uuid"]], "script": "true"},
    "UpdateZone": lambda w: {"name": w.name("zone"), "description": "another"},
    "ChangeZoneState": lambda _: {"stateEvent": "enable"},
    "UpdateCluster": lambda w: {"name": w.name("cluster"), "description": "another"},
    "ChangeClusterState": lambda _: {"stateEvent": "enable"},
    "DeleteZone": lambda _: {},
    "DeleteCluster": lambda _: {},
}

_TARGETS: dict[str, Callable[[World], str]] = {
    "UpdateZone": lambda w: w.spare_zone["uuid"],
    "ChangeZoneState": lambda w: w.spare_zone["uuid"],
    "UpdateCluster": lambda w: w.spare_cluster["uuid"],
    "ChangeClusterState": lambda w: w.spare_cluster["uuid"],
}
"""What an operation on one resource is done to; deletions find nothing, which is no fault."""


def fill(path: str, value: str | None = None) -> str:
    """Return a path with its placeholders filled: by `value`, else by a uuid that nothing has."""
    return re.sub(r"\{\w+\}", lambda _: value or new_uuid(), path)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A management node whose local agents read a recorded machine: it has PCI and USB devices."""
    directory = tmp_path_factory.mktemp("contract")
    unpack(MACHINE, directory / "machine")
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(directory / "machine")}
    yield from run_node(directory / "state", environment)


@pytest.fixture(scope="session")
def world(admin: Rest) -> World:
    zone = admin.create("/zones", name="zone")
    wanted = {"zoneUuid": zone["uuid"], "name": "cluster", "hypervisorType": "KVM"}
    cluster = admin.create("/clusters", **wanted)
    simulators = admin.create("/clusters", **{**wanted, "name": "simulators", "hypervisorType": "Simulator"})
    spare_zone = admin.create("/zones", name="spare zone")
    spare = admin.create("/clusters", **{**wanted, "name": "spare", "zoneUuid": spare_zone["uuid"]})
    world = World(admin, zone, cluster, simulators, {}, spare_zone, spare)
    world.host = admin.create(
        "/hosts/kvm", **{**world.params("AddKVMHost"), "name": "host", "managementIp": "127.0.0.1"}
    )
    return world
