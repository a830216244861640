"""A management node with a zone, two clusters and one host, whose agent reads a recorded machine."""

from __future__ import annotations

import itertools
import re
import socket
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from kvmagent.record import unpack
from tests.contract.catalogue import Operation
from tests.node import Answer, Node, Rest, admin, run_node

__all__ = ["admin"]

MACHINE = Path(__file__).parents[1] / "machines" / "four-socket-2013.tar.xz"
CLOSED_PORT = 1
ABSENT = "5b1f0c9d6a3e4f7c8d2b9e0a1c4f6d85"  # a version 4 uuid that nothing has


def new_uuid() -> str:
    return uuid.uuid4().hex


def _own_address() -> str:
    """Return an address of this machine that is not loopback's: a closed port there refuses at once.

    Without one any other address is unreachable at once, too.
    """
    found = (a for addresses in psutil.net_if_addrs().values() for a in addresses)
    own = (a.address for a in found if a.family is socket.AF_INET and not a.address.startswith("127."))
    return next(own, "198.51.100.1")


NOBODY = _own_address()  # at CLOSED_PORT nobody answers there, whatever the network around is like


@dataclass
class World:
    """What the tests of the contract find in place."""

    admin: Rest
    zone: dict[str, Any]
    cluster: dict[str, Any]
    simulator_cluster: dict[str, Any]
    host: dict[str, Any]
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _spare: dict[str, str] = field(default_factory=dict)

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
        """Return parameters that the server accepts, but that make no agent start and nothing end."""
        params = self.params(operation)
        adds = "managementIp" in params and "uuid" not in params
        return {**params, "managementIp": NOBODY} if adds else params

    def call(
        self, operation: Operation, params: object, beside: dict[str, Any] | None = None, **options: Any
    ) -> Answer:
        """Send an operation; parameters of its path go there, `beside` stands beside the body's wrapper."""
        path, given = operation.paths[0], params
        if isinstance(params, dict):
            given = {name: value for name, value in params.items() if f"{{{name}}}" not in path}
            for name in params.keys() - given.keys():
                path = path.replace(f"{{{name}}}", str(params[name]))
        path = fill(path)
        if operation.wrapper:
            return self.admin.call(
                operation.method, path, {operation.wrapper: given, **(beside or {})}, **options
            )
        query = urllib.parse.urlencode(given, doseq=True) if isinstance(given, dict) else ""
        return self.admin.call(operation.method, f"{path}?{query}" if query else path, **options)

    def path(self, operation: Operation, path: str) -> str:
        """Return a path with its placeholders filled: those of a getter by the host, others by nothing."""
        is_getter = operation.method == "GET" and not operation.is_query
        return fill(path, self.host["uuid"] if is_getter else None)

    def new_zone(self) -> str:
        """Return the uuid of a zone that nothing depends on."""
        uuid: str = self.admin.create("/zones", **self.params("CreateZone"))["uuid"]
        return uuid

    def new_cluster(self) -> str:
        """Return the uuid of a cluster that nothing depends on."""
        uuid: str = self.admin.create("/clusters", **self.params("CreateCluster"))["uuid"]
        return uuid

    def spare_host(self, purpose: str) -> str:
        """Return the uuid of a host that may be changed, one for each purpose: each has an agent."""
        if purpose not in self._spare:
            self._spare[purpose] = self.admin.create("/hosts/kvm", **self.params("AddKVMHost"))["uuid"]
        return self._spare[purpose]


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
    "UpdateZone": lambda w: {"uuid": w.new_zone(), "name": w.name("zone"), "description": "new"},
    "UpdateCluster": lambda w: {"uuid": w.new_cluster(), "name": w.name("cluster"), "description": "new"},
    "ChangeZoneState": lambda w: {"uuid": w.new_zone(), "stateEvent": "disable"},
    "ChangeClusterState": lambda w: {"uuid": w.new_cluster(), "stateEvent": "disable"},
    "UpdateClusterOS": lambda w: {"uuid": w.new_cluster(), "excludePackages": ["kernel", "systemd*"]},
    "UpdateHostIommuState": lambda w: {"uuid": w.host["uuid"], "state": "Enabled"},
    "UpdateHost": lambda w: {
        "uuid": w.spare_host("update"),
        "name": w.name("host"),
        "description": "new",
        "managementIp": w.address(),
    },
    "UpdateKVMHost": lambda w: {
        "uuid": w.spare_host("update"),
        "name": w.name("host"),
        "description": "new",
        "managementIp": w.address(),
        "username": "root",
        "password": "unused",
        "sshPort": CLOSED_PORT,
    },
    "ChangeHostState": lambda w: {"uuid": w.spare_host("state"), "stateEvent": "disable"},
    "ReconnectHost": lambda w: {"uuid": w.spare_host("reconnect")},
    "DeleteHost": lambda w: {"uuid": new_uuid(), "deleteMode": "Permissive"},
    "DeleteZone": lambda w: {"uuid": w.new_zone(), "deleteMode": "Permissive"},
    "DeleteCluster": lambda w: {"uuid": w.new_cluster(), "deleteMode": "Permissive"},
}


MKCONFIG = """#!/bin/sh
set -e
sysconfdir="$HARDPOINT_ROOT/etc"
. "$sysconfdir/default/grub"
for file in ${sysconfdir}/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
echo "linux /vmlinuz $GRUB_CMDLINE_LINUX" > "$HARDPOINT_ROOT$2"
"""


def install_grub(machine: Path) -> None:
    """Give a recorded machine, which has no programs, a boot loader to configure."""
    mkconfig = machine / "usr/sbin/grub-mkconfig"
    settings = {
        "etc/default/grub": "GRUB_CMDLINE_LINUX=quiet\n",
        "boot/grub/grub.cfg": "linux /vmlinuz\n",
    }
    for name, text in {**settings, "usr/sbin/grub-mkconfig": MKCONFIG}.items():
        file = machine / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    mkconfig.chmod(0o755)


def fill(path: str, value: str | None = None) -> str:
    """Return a path with its placeholders filled: by `value`, else by a uuid that nothing has."""
    return re.sub(r"\{\w+\}", lambda _: value or new_uuid(), path)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A management node whose local agents read a recorded machine: it has PCI and USB devices."""
    directory = tmp_path_factory.mktemp("contract")
    unpack(MACHINE, directory / "machine")
    install_grub(directory / "machine")
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(directory / "machine")}
    yield from run_node(directory / "state", environment)


@pytest.fixture(scope="session")
def world(admin: Rest) -> World:
    zone = admin.create("/zones", name="zone")
    wanted = {"zoneUuid": zone["uuid"], "name": "cluster", "hypervisorType": "KVM"}
    cluster = admin.create("/clusters", **wanted)
    simulators = admin.create("/clusters", **{**wanted, "name": "simulators", "hypervisorType": "Simulator"})
    patience = {"updateGlobalConfig": {"value": "0"}}  # refused logins need not be tried again
    assert (
        admin.run("PUT", "/global-configurations/kvm/testSshPortOpenTimeout/actions", patience).status == 200
    )
    world = World(admin, zone, cluster, simulators, {})
    world.host = admin.create(
        "/hosts/kvm", **{**world.params("AddKVMHost"), "name": "host", "managementIp": "127.0.0.1"}
    )
    return world
