"""A management node with a zone, two clusters and one host, whose agent reads a recorded machine."""

from __future__ import annotations

import itertools
import re
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from kvmagent.record import unpack
from tests import ceph_double, lvm
from tests.contract.catalogue import Operation
from tests.contract.params import CLOSED_PORT, ISCSI, PARAMS, PCI, USB, new_uuid
from tests.helpers import wait_until
from tests.lvm_socket import lvmlockd
from tests.node import Answer, Node, Rest, admin, run_node

__all__ = ["admin"]

MACHINE = Path(__file__).parents[1] / "machines" / "four-socket-2013.tar.xz"
WWIDS = [f"6001405{number:025x}" for number in range(99)]
"""LUNs that the hosts see; LVM and its locks are a double."""
_ADDRESSES = itertools.count()  # of all worlds: hosts of one may still be there in the next


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
    directory: Path
    """Where image stores keep their images."""
    store: dict[str, Any] = field(default_factory=dict)
    image: dict[str, Any] = field(default_factory=dict)
    storage: dict[str, Any] = field(default_factory=dict)
    volume: dict[str, Any] = field(default_factory=dict)
    vm: dict[str, Any] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _luns: Iterator[int] = field(default_factory=itertools.count)
    _spare: dict[str, str] = field(default_factory=dict)
    _clusters: Iterator[int] = field(default_factory=itertools.count)
    _mons: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def name(self, stem: str) -> str:
        """Return a name that nothing else has."""
        return f"{stem}-{next(self._numbers)}"

    def address(self) -> str:
        """Return a loopback address that no host has."""
        number = next(_ADDRESSES)
        return f"127.0.{number // 254 + 1}.{number % 254 + 1}"

    def params(self, operation: Operation | str) -> dict[str, Any]:
        """Return parameters with which an operation succeeds."""
        name = operation if isinstance(operation, str) else operation.name
        return PARAMS[name](self)

    def harmless_params(self, operation: Operation | str) -> dict[str, Any]:
        """Return parameters that the server accepts, but that make no agent start and nothing end."""
        params = self.params(operation)
        adds = [name for name in ("managementIp", "hostname") if name in params and "uuid" not in params]
        mons = {"monUrls": [f"root:unused@{NOBODY}:{CLOSED_PORT}"]} if "monUrls" in params else {}
        return {**params, **dict.fromkeys(adds, NOBODY), **mons}

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
        """Return a path with its placeholders filled: a getter's by what the world has, others by nothing."""
        if operation.method != "GET" or operation.is_query:
            return fill(path)
        path = path.replace("{vmInstanceUuid}", self.vm["uuid"])
        path = path.replace("/vm-instances/{uuid}", f"/vm-instances/{self.vm['uuid']}")
        path = path.replace("{primaryStorageUuid}", self.storage["uuid"])
        path = path.replace("{srcBackupStorageUuid}", self.store["uuid"])
        return fill(path.replace("{volumeUuid}", self.volume["uuid"]), self.host["uuid"])

    def query_for(self, operation: Operation) -> dict[str, str]:
        """Return what an operation needs in its query string."""
        if operation.name.startswith("RemoveMonFrom"):
            return {"monHostnames": "nowhere"}
        if operation.name == "GetSharedBlockCandidate":
            return {"clusterUuid": self.cluster["uuid"]}
        wants_all = operation.name in ("GetPrimaryStorageCapacity", "GetBackupStorageCapacity")
        return {"all": "true"} if wants_all else {}

    def new_zone(self) -> str:
        """Return the uuid of a zone that nothing depends on."""
        uuid: str = self.admin.create("/zones", **self.params("CreateZone"))["uuid"]
        return uuid

    def new_cluster(self) -> str:
        """Return the uuid of a cluster that nothing depends on."""
        uuid: str = self.admin.create("/clusters", **self.params("CreateCluster"))["uuid"]
        return uuid

    def pci_id(self) -> str:
        """Return an id of a PCI device that the machine has not."""
        return f"{0xE000 + next(self._numbers):04x}"

    def device(self, path: str, condition: str) -> str:
        """Return the uuid of a device of the host."""
        (device,) = self.admin.query(path, condition, f"hostUuid={self.host['uuid']}")
        return str(device["uuid"])

    def new_store(self) -> dict[str, Any]:
        """Return an image store of its own, attached to the zone."""
        made = self.admin.create("/backup-storage/image-store", **self.params("AddImageStoreBackupStorage"))
        answer = self.admin.run("POST", f"/zones/{self.zone['uuid']}/backup-storage/{made['uuid']}", None)
        attached: dict[str, Any] = answer.body["inventory"]
        return attached

    def new_image(self) -> dict[str, Any]:
        """Return an image on the image store."""
        file = self.directory / "disk.raw"
        if not file.exists():
            file.write_bytes(bytes(range(256)) * 4096)
        wanted = {"format": "raw", "url": f"file://{file}", "backupStorageUuids": [self.store["uuid"]]}
        return self.admin.create("/images", name=self.name("image"), **wanted)

    def spare_store(self, purpose: str) -> str:
        """Return the uuid of an image store that may be changed, one for each purpose."""
        key = f"{purpose} of a store"
        if key not in self._spare:
            self._spare[key] = self.new_store()["uuid"]
        return self._spare[key]

    def attached_zone(self) -> str:
        """Return a zone that the image store is attached to, beside the others."""
        zone = self.new_zone()
        self.admin.run("POST", f"/zones/{zone}/backup-storage/{self.store['uuid']}", None)
        return zone

    def new_storage(self) -> str:
        """Return the uuid of a local storage that no host has."""
        params = self.params("AddLocalPrimaryStorage")
        uuid: str = self.admin.create("/primary-storage/local-storage", **params)["uuid"]
        return uuid

    def attached_storage(self) -> str:
        """Return the uuid of a local storage that the world's cluster has."""
        uuid = self.new_storage()
        path = f"/clusters/{self.cluster['uuid']}/primary-storage/{uuid}"
        assert self.admin.run("POST", path, {}).status == 200
        return uuid

    def wwid(self) -> str:
        """Return the WWID of a LUN that nothing has, and that no host need see."""
        return f"36001405{next(self._numbers) + 2**32:025x}"

    def lun_wwid(self) -> str:
        """Return that of one that hosts see."""
        return f"3{WWIDS[next(self._luns)]}"

    def block_group(self) -> str:
        """Return the uuid of a shared-block storage that a host has, in a cluster of their own."""
        if "group" not in self._spare:
            cluster = self.new_cluster()
            self.admin.create("/hosts/kvm", **{**self.params("AddKVMHost"), "clusterUuid": cluster})
            params = {**self.params("AddSharedBlockGroupPrimaryStorage"), "diskUuids": [self.lun_wwid()]}
            uuid = self.admin.create("/primary-storage/sharedblockgroup", **params)["uuid"]
            answer = self.admin.run("POST", f"/clusters/{cluster}/primary-storage/{uuid}", {})
            assert answer.status == 200, answer
            self._spare["group"] = uuid
        return self._spare["group"]

    def lun(self) -> str:
        """Return the uuid of a LUN of that storage."""
        (lun, *_) = self.admin.query(
            "/sharedblock-group/sharedblocks", f"sharedBlockGroupUuid={self.block_group()}"
        )
        return str(lun["uuid"])

    def new_volume(self) -> dict[str, Any]:
        """Return a volume on the world's storage and host."""
        tag = f"localStorage::hostUuid::{self.host['uuid']}"
        wanted = {"name": self.name("volume"), "diskSize": 1024**2, "systemTags": [tag]}
        return self.admin.create("/volumes/data", primaryStorageUuid=self.storage["uuid"], **wanted)

    def new_vm(self, **more: Any) -> dict[str, Any]:
        """Return a VM that has never run."""
        size = {"cpuNum": 1, "memorySize": 64 * 1024**2, "zoneUuid": self.zone["uuid"]}
        params = {"name": self.name("vm"), "strategy": "CreateStopped", **size, **more}
        return self.admin.create("/vm-instances", **params)

    def simulated_host(self) -> str:
        """Return the uuid of a host that is only simulated: it has what recorded machines have not."""
        if "simulated" not in self._spare:
            host = {"name": self.name("simulated"), "managementIp": self.address()}
            cluster = {"clusterUuid": self.simulator_cluster["uuid"]}
            self._spare["simulated"] = self.admin.create("/hosts/simulators", **host, **cluster)["uuid"]
        return self._spare["simulated"]

    def new_iscsi_server(self) -> str:
        """Return the uuid of an iSCSI server that no cluster has."""
        uuid: str = self.admin.create(ISCSI, **self.params("AddIscsiServer"))["uuid"]
        return uuid

    def attached_iscsi_server(self) -> str:
        """Return the uuid of an iSCSI server that the cluster of simulated hosts has."""
        self.simulated_host()
        uuid = self.new_iscsi_server()
        path = f"/clusters/{self.simulator_cluster['uuid']}{ISCSI}/{uuid}"
        assert self.admin.run("POST", path, {}).status == 200
        return uuid

    def usb(self, action: str, vm: str | None = None) -> str:
        """Return the uuid of a USB device that is attached to a VM, or detached, by now."""
        (device,) = self.admin.query(USB, f"hostUuid={self.spare_host('usb')}")
        params = {"vmInstanceUuid": vm} if vm is not None else {}
        self.admin.run("POST", f"{USB}/{device['uuid']}/{action}", {"params": params})  # it may be already
        uuid: str = device["uuid"]
        return uuid

    def pci_vm(self) -> str:
        """Return the uuid of a VM for PCI devices, which tie it to their host."""
        if "pci vm" not in self._spare:
            self._spare["pci vm"] = self.new_vm()["uuid"]
        return self._spare["pci vm"]

    def pci(self, action: str) -> str:
        """Return the uuid of a PCI device that is attached to that VM, or detached, by now."""
        if "pci" not in self._spare:
            host = {"name": self.name("iommu"), "managementIp": self.address(), "machine": "q35-iommu-guest"}
            cluster = {"clusterUuid": self.simulator_cluster["uuid"]}
            self._spare["pci"] = self.admin.create("/hosts/simulators", **host, **cluster)["uuid"]
        where = (f"hostUuid={self._spare['pci']}", "pciDeviceAddress=0000:01:00.0")
        (device,) = self.admin.query(PCI, *where)
        params = {"vmInstanceUuid": self.pci_vm()}
        self.admin.run("POST", f"{PCI}/{device['uuid']}/{action}", {"params": params})  # it may be already
        uuid: str = device["uuid"]
        return uuid

    def mon_urls(self, network: str | None = None, host: int = 1) -> list[str]:
        """Return a monitor of a Ceph cluster that no storage has, or of the one in a network."""
        number = next(self._clusters) if network is None else 0
        return [f"root:unused@{network or f'127.{9 + number // 250}.{number % 250}'}.{host}"]

    def spare_ceph(self, kind: str) -> str:
        """Return the uuid of a Ceph storage that may be changed, one `primary` and one `backup`."""
        key = f"{kind} ceph"
        if key not in self._spare:
            params = self.params(f"AddCeph{kind.capitalize()}Storage")
            self._spare[key] = self.admin.create(f"/{kind}-storage/ceph", **params)["uuid"]
        return self._spare[key]

    def ceph_mon(self, kind: str) -> dict[str, Any]:
        """Return a monitor of that storage."""
        path = f"/{kind}-storage/ceph/{self.spare_ceph(kind)}"
        mon: dict[str, Any] = self.admin.query(path)[0]["mons"][0]
        return mon

    def more_mons(self, kind: str) -> dict[str, Any]:
        """Return parameters that add a monitor to that storage."""
        network = self.ceph_mon(kind)["hostname"].rpartition(".")[0]
        return {"uuid": self.spare_ceph(kind), "monUrls": self.mon_urls(network, next(self._mons))}

    def ceph_pool(self) -> str:
        """Return the uuid of a pool that was added to that storage."""
        if "ceph pool" not in self._spare:
            params = self.params("AddCephPrimaryStoragePool")
            path = f"/primary-storage/ceph/{params.pop('primaryStorageUuid')}/pools"
            self._spare["ceph pool"] = self.admin.create(path, **params)["uuid"]
        return self._spare["ceph pool"]

    def other_host(self) -> str:
        """Return the uuid of a host that has the world's storage, too."""
        uuid = self.spare_host("storage")
        path = f"/primary-storage/local-storage/{self.storage['uuid']}/capacities"
        wait_until(lambda: self.admin.get(path, hostUuid=uuid).status == 200, "the storage to be there", 60)
        return uuid

    def spare_host(self, purpose: str) -> str:
        """Return the uuid of a host that may be changed, one for each purpose: each has an agent."""
        if purpose not in self._spare:
            self._spare[purpose] = self.admin.create("/hosts/kvm", **self.params("AddKVMHost"))["uuid"]
        return self._spare[purpose]


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
    ceph_double.install(directory / "ceph")
    path = lvm.install(directory / "lvm", directory / "machine/dev", WWIDS)
    environment = {
        "HARDPOINT_LOCAL_AGENT_ROOT": str(directory / "machine"),
        "PATH": f"{directory / 'ceph'}:{path}",
    }
    with lvmlockd(directory / "machine/run/lvm/lvmlockd.socket"):
        yield from run_node(directory / "state", environment)


@pytest.fixture(scope="session")
def world(admin: Rest, tmp_path_factory: pytest.TempPathFactory) -> World:
    zone = admin.create("/zones", name="zone")
    wanted = {"zoneUuid": zone["uuid"], "name": "cluster", "hypervisorType": "KVM"}
    cluster = admin.create("/clusters", **wanted)
    simulators = admin.create("/clusters", **{**wanted, "name": "simulators", "hypervisorType": "Simulator"})
    patience = {"updateGlobalConfig": {"value": "0"}}  # refused logins need not be tried again
    assert (
        admin.run("PUT", "/global-configurations/kvm/testSshPortOpenTimeout/actions", patience).status == 200
    )
    world = World(admin, zone, cluster, simulators, {}, tmp_path_factory.mktemp("stores"))
    world.host = admin.create(
        "/hosts/kvm", **{**world.params("AddKVMHost"), "name": "host", "managementIp": "127.0.0.1"}
    )
    world.store = world.new_store()
    world.image = world.new_image()
    (world.storage,) = admin.query("/primary-storage", f"uuid={world.attached_storage()}")
    world.volume = world.new_volume()
    world.admin.create("/pci-device/pci-device-offerings", name="graphics", vendorId="102b", deviceId="0532")
    world.vm = world.new_vm()
    world.attached_iscsi_server()
    world.block_group()
    world.ceph_pool()
    world.spare_ceph("backup")
    return world
