"""Whatever the node is at when it is killed, a volume on shared blocks is one logical volume, and whole.

LVM and its locks are a double (`tests.lvm`), as programs of a real agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from kvmagent.record import unpack
from mn.db.schema import new_uuid
from tests import lvm
from tests.integration.crash import doomed_world
from tests.integration.crash.doomed_world import GB, boundaries, run_world
from tests.integration.crash.sampling import sample
from tests.lvm_socket import lvmlockd

MACHINE = Path(__file__).parents[2] / "machines" / "virtio-guest.tar.xz"
WWID = "6001405" + "1" * 25
DOOMS = boundaries(["work_on_disk"], ["wanted_size", "insert_volume", "load_coming", "finish_volume"])
"""Every boundary of the making of a volume."""


@dataclass
class World(doomed_world.World):
    """A node with one host, whose agent is a process, and a shared-block storage."""

    hypervisor: ClassVar[str] = "KVM"
    storage: str = field(init=False)

    def make(self) -> None:
        login = {"managementIp": "127.0.0.1", "username": "root", "password": "unused"}
        self.admin.create("/hosts/kvm", name="host", clusterUuid=self.cluster, **login)
        params = {"name": "blocks", "zoneUuid": self.zone, "diskUuids": [f"3{WWID}"]}
        self.storage = self.admin.create("/primary-storage/sharedblockgroup", **params)["uuid"]
        answer = self.admin.run("POST", f"/clusters/{self.cluster}/primary-storage/{self.storage}", {})
        assert answer.status == 200, answer

    def is_ready(self) -> bool:
        """Say whether the host, its storage and the group on it are connected."""
        (host,) = self.admin.query("/hosts")
        (storage,) = self.admin.query(f"/primary-storage/{self.storage}")
        refs = self.admin.query("/sharedblock-group/host-refs")
        return (host["status"], storage["status"], refs[0]["status"]) == ("Connected",) * 3

    def begin(self, job: str, volume: str) -> None:
        """Ask for a volume."""
        wanted = {"name": "v", "diskSize": GB // 16}
        params = {**wanted, "primaryStorageUuid": self.storage, "resourceUuid": volume}
        self.ask(job, "POST", "/volumes/data", {"params": params})

    def check_done(self, job: str, volume: str) -> None:
        """See that there is one volume, and that it goes without a trace."""
        self.ended(job)
        host = self.host()
        (lv,) = host.lvm.vgs[self.storage].lvs.items()
        assert (lv[0], lv[1].held, "hardpoint:partial" in lv[1].tags) == (volume, {}, False)
        assert host.active == {}
        assert self.admin.run("DELETE", f"/volumes/{volume}", None).status == 200
        expunge = {"expungeDataVolume": {}}
        assert self.admin.run("PUT", f"/volumes/{volume}/actions", expunge).status == 200
        assert self.host().lvm.vgs[self.storage].lvs == {}

    def host(self) -> lvm.LvmHost:
        """Return what the double has of the host."""
        with lvm.installed(self.folder / "lvm") as host:
            return host


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("blocks")
    unpack(MACHINE, folder / "machine")
    path = lvm.install(folder / "lvm", folder / "machine/dev", [WWID])
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(folder / "machine"), "PATH": path}
    with lvmlockd(folder / "machine/run/lvm/lvmlockd.socket"):
        yield from run_world(World, folder, environment)


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    job, volume = new_uuid(), new_uuid()
    world.start()
    world.boundaries.unlink(missing_ok=True)
    world.begin(job, volume)
    world.ended(job)
    passed = world.passed()
    world.check_done(job, volume)
    world.node.kill()
    assert sorted(passed) == sorted(DOOMS)


@pytest.mark.parametrize("doom", sample(DOOMS))
def test_a_volume_is_made_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    job, volume = new_uuid(), new_uuid()
    world.start(doom)
    world.begin(job, volume)
    world.node.wait_until_killed()
    world.start()
    world.begin(job, volume)
    world.check_done(job, volume)
    world.node.kill()
