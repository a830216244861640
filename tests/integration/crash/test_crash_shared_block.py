"""Whatever the node is at when it is killed, a volume on shared blocks is one logical volume, and whole.

LVM and its locks are a double (`tests.lvm`), as programs of a real agent.
"""

from __future__ import annotations

import contextlib
import http.client
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kvmagent.record import unpack
from mn.db.schema import new_uuid
from tests import lvm, postgres
from tests.helpers import wait_until
from tests.integration.crash.sampling import sample
from tests.integration.crash.scene import DOOMED
from tests.node import Node, Rest

MACHINE = Path(__file__).parents[2] / "machines" / "virtio-guest.tar.xz"
DEADLINE_S = 120.0
GB = 2**30
WWID = "6001405" + "1" * 25
STEPS = ("work_on_disk",)
UNITS = ("wanted_size", "insert_volume", "load_coming", "finish_volume")
DOOMS = [
    *(f"{name}:{at}" for name in STEPS for at in ("before", "after", "journalled")),
    *(f"{name}:{at}" for name in UNITS for at in ("before", "journalled")),
]
"""Every boundary of the making of a volume."""


@dataclass
class World:
    """A node with one host, whose agent is a process, and a shared-block storage."""

    node: Node
    folder: Path
    admin: Rest = field(init=False)
    storage: str = field(init=False)

    def __post_init__(self) -> None:
        self.node.start()
        self.admin = self.node.rest().logged_in()
        zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"zoneUuid": zone, "hypervisorType": "KVM", "name": "cluster"}
        cluster = self.admin.create("/clusters", **wanted)["uuid"]
        login = {"managementIp": "127.0.0.1", "username": "root", "password": "unused"}
        self.admin.create("/hosts/kvm", name="host", clusterUuid=cluster, **login)
        params = {"name": "blocks", "zoneUuid": zone, "diskUuids": [f"3{WWID}"]}
        self.storage = self.admin.create("/primary-storage/sharedblockgroup", **params)["uuid"]
        answer = self.admin.run("POST", f"/clusters/{cluster}/primary-storage/{self.storage}", {})
        assert answer.status == 200, answer

    def start(self, doom: str = "none") -> None:
        """Start the node anew, to be killed at a boundary."""
        self.boundaries.unlink(missing_ok=True)
        self.node.program = (str(DOOMED), str(self.boundaries), "1", doom)
        self.node.start()
        self.admin.url = self.node.url
        wait_until(self._connected, "the host and its storage are connected", DEADLINE_S)

    @property
    def boundaries(self) -> Path:
        return self.folder / "boundaries"

    def ask(self, job: str, volume: str) -> None:
        """Ask for a volume; the same request is the same job. The node may die of it."""
        params = {
            "name": "v",
            "diskSize": GB // 16,
            "primaryStorageUuid": self.storage,
            "resourceUuid": volume,
        }
        with contextlib.suppress(OSError, http.client.HTTPException):
            header = {"X-Job-UUID": job}
            answer = self.admin.call("POST", "/volumes/data", {"params": params}, headers=header)
            assert answer.status == 202, answer

    def check_done(self, job: str, volume: str) -> None:
        """See that there is one volume, and that it goes without a trace."""
        answer = self.admin.wait(f"/api-jobs/{job}")
        assert answer.status == 200, answer
        host = self.host()
        (lv,) = host.lvm.vgs[self.storage].lvs.items()
        assert (lv[0], lv[1].held, "hardpoint:partial" in lv[1].tags) == (volume, {}, False)
        assert host.active == {}
        assert self.admin.run("DELETE", f"/volumes/{volume}", None).status == 200
        expunge = {"expungeDataVolume": {}}
        assert self.admin.run("PUT", f"/volumes/{volume}/actions", expunge).status == 200
        assert self.host().lvm.vgs[self.storage].lvs == {}
        assert postgres.rows(self.node.state, "SELECT * FROM job_lock") == []

    def host(self) -> lvm.LvmHost:
        found: lvm.LvmHost = pickle.loads((self.folder / "lvm/lvm.pickle").read_bytes())
        return found

    def _connected(self) -> bool:
        (host,) = self.admin.query("/hosts")
        (storage,) = self.admin.query(f"/primary-storage/{self.storage}")
        refs = self.admin.query("/sharedblock-group/host-refs")
        return (host["status"], storage["status"], refs[0]["status"]) == ("Connected",) * 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("blocks")
    unpack(MACHINE, folder / "machine")
    path = lvm.install(folder / "lvm", folder / "machine/dev", [WWID])
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(folder / "machine"), "PATH": path}
    node = Node(folder / "state", environment)
    try:
        world = World(node, folder)
        node.kill()
        yield world
    finally:
        node.stop()


def test_the_dooms_are_all_the_boundaries_there_are(world: World) -> None:
    job, volume = new_uuid(), new_uuid()
    world.start()
    world.boundaries.unlink(missing_ok=True)
    world.ask(job, volume)
    world.admin.wait(f"/api-jobs/{job}")
    passed = world.boundaries.read_text().split()
    world.check_done(job, volume)
    world.node.kill()
    assert sorted(passed) == sorted(DOOMS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doom", sample(DOOMS))
def test_a_volume_is_made_once_whatever_the_node_was_at(world: World, doom: str) -> None:
    job, volume = new_uuid(), new_uuid()
    world.start(doom)
    world.ask(job, volume)
    world.node.wait_until_killed()
    world.start()
    world.ask(job, volume)
    world.check_done(job, volume)
    world.node.kill()
