"""Ceph on real hosts: monitors that are guests get their agents over SSH, VMs have their disks on RBD."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab import storage as san_storage
from tests.lab.calls import MB, added, gone, made, purge, run
from tests.lab.ceph import LabCluster, lab_cluster
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab
from tests.libvirtd import OBEY_POWER_BUTTON, boot_sector
from tests.node import Answer, Rest

# The program `ceph` takes an emulated server half a minute each time
pytestmark = [pytest.mark.long, pytest.mark.takes(minutes=40), pytest.mark.timeout(2400)]

TIMEOUT_S = 300.0
PRIMARY, BACKUP = "/primary-storage/ceph", "/backup-storage/ceph"
KVM_AGENT, CEPH_AGENT = "hardpoint-kvmagent", "hardpoint-cephagent"
KEYS = "/var/lib/hardpoint/kvmagent/ceph"
SIZE = 96 * MB
MONITORS = ("san", "kvm2")


@dataclass
class Scene:
    """Two KVM hosts, one of them with a monitor of the cluster, as the storage server has one."""

    fleet: Fleet
    cluster: LabCluster
    guests: dict[str, Guest]
    folder: Path
    primary: str = ""
    backup: str = ""

    @property
    def admin(self) -> Rest:
        return self.fleet.admin

    def mon_url(self, name: str) -> str:
        guest = self.guests[name]
        return f"root:{guest.password}@{guest.address}/?monPort=3301"

    def act(self, path: str, what: str, **params: Any) -> Answer:
        return run(self.admin, "PUT", f"{path}/actions", {what: params})

    def show(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/volumes/{uuid}")
        return found

    def image(self, uuid: str) -> str:
        """Return the pool and the name of the image that a volume is now."""
        path = str(self.show(uuid)["installPath"])
        assert path.startswith("ceph://")
        return path.removeprefix("ceph://")

    def digest(self, uuid: str) -> str:
        """Return the SHA-256 of what a volume on Ceph has."""
        copy = self.folder / uuid
        self.cluster.run("rbd", "export", "--no-progress", self.image(uuid), str(copy), timeout_s=TIMEOUT_S)
        with copy.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        copy.unlink()
        return found

    def add_image(self, name: str, **more: Any) -> Answer:
        """Add a file that both monitors' hosts have."""
        wanted = {"name": name, "url": f"file:///srv/{name}.raw", "format": "raw"}
        body = {"params": {**wanted, "backupStorageUuids": [self.backup], **more}}
        return run(self.admin, "POST", "/images", body)

    def mons(self) -> dict[str, str]:
        """Return the status of the storage's monitors by their guests."""
        (row,) = self.admin.query(f"{PRIMARY}/{self.primary}")
        names = {self.guests[name].address: name for name in MONITORS}
        return {names[mon["hostname"]]: mon["status"] for mon in row["mons"]}

    def status(self, storage: str) -> str:
        (row,) = self.admin.query(f"/primary-storage/{storage}")
        return str(row["status"])

    def wait_for_storages(self) -> None:
        def connected() -> bool:
            rows = [*self.admin.query("/primary-storage"), *self.admin.query("/hosts")]
            return {row["status"] for row in rows} == {"Connected"}

        wait_until(connected, "hosts and storages are connected", TIMEOUT_S)

    def move(self, volume: str, storage: str) -> str:
        """Begin to move a volume; return the job's address."""
        body = {"primaryStorageMigrateVolume": {"dstPrimaryStorageUuid": storage}}
        return self.admin.call("PUT", f"/primary-storage/volumes/{volume}/actions", body).location

    def wait_for_partial(self, volume: str) -> None:
        pool = f"pri-v-d-{self.primary}"
        wait_until(
            lambda: f"{volume}.partial" in self.cluster.names(pool), "the copy is under way", TIMEOUT_S
        )


@pytest.fixture(scope="module")
def scene(lab: Lab, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    guests = {name: lab.machine(name) for name in ("kvm1", "kvm2", "san")}
    folder = tmp_path_factory.mktemp("ceph")
    cluster = lab_cluster(folder / "cluster", [guests[name] for name in MONITORS])
    for category, name, value in (
        ("ceph", "primaryStorage.deletePool", "true"),
        ("ceph", "image.expiration.time", "0"),
        ("primaryStorage", "reservedCapacity", "0"),
    ):
        path = f"/global-configurations/{category}/{name}/actions"
        assert run(fleet.admin, "PUT", path, {"updateGlobalConfig": {"value": value}}).status == 200
    sector = base64.b64encode(boot_sector(OBEY_POWER_BUTTON)).decode()
    for name in MONITORS:
        guests[name].run(f"echo {sector} | base64 -d >/srv/disk.raw && truncate -s 2M /srv/disk.raw")
    try:
        cluster.start()
        yield Scene(fleet, cluster, guests, folder)
    finally:
        cluster.stop()


def test_storages_are_added_by_monitors_that_get_their_agents_over_ssh(scene: Scene) -> None:
    admin, cluster = scene.admin, scene.cluster
    urls = [scene.mon_url(name) for name in MONITORS]
    params = {"name": "ceph", "zoneUuid": scene.fleet.zone}
    params["monUrls"] = urls
    scene.primary = made(run(admin, "POST", PRIMARY, {"params": params}))["uuid"]
    scene.backup = made(run(admin, "POST", BACKUP, {"params": {"name": "images", "monUrls": urls}}))["uuid"]
    assert run(admin, "POST", f"/zones/{scene.fleet.zone}/backup-storage/{scene.backup}", None).status == 200
    assert scene.mons() == dict.fromkeys(MONITORS, "Connected")
    for name in MONITORS:
        assert scene.guests[name].run(f"systemctl is-active {CEPH_AGENT}").strip() == "active"
    assert scene.guests["kvm1"].try_run(f"systemctl is-active {CEPH_AGENT}").returncode != 0
    made(run(admin, "POST", f"/clusters/{scene.fleet.cluster}/primary-storage/{scene.primary}", {}))
    key = cluster.ceph("auth", "get-key", f"client.hardpoint-{scene.primary}")["key"]
    for name in scene.fleet.hosts:
        guest = scene.guests[name]
        assert guest.run(f"find {KEYS} -type f ! -perm 600 ! -name ceph.conf").strip() == ""
        assert guest.run(f"grep -c {key} {KEYS}/{scene.primary}/keyring").strip() == "1"
        assert guest.run(f"journalctl -o cat -u {KVM_AGENT} | grep -c {key} || true").strip() == "0"


def test_a_vm_on_rbd_moves_while_it_runs_and_has_its_snapshot_and_clone(scene: Scene) -> None:
    admin, cluster, hosts = scene.admin, scene.cluster, scene.fleet.hosts
    image = made(scene.add_image("disk"))["uuid"]
    wanted = {
        "name": "vm",
        "cpuNum": 1,
        "memorySize": 64 * MB,
        "imageUuid": image,
        "zoneUuid": scene.fleet.zone,
    }
    vm = made(run(admin, "POST", "/vm-instances", {"params": {**wanted, "hostUuid": hosts["kvm1"]}}))
    root = vm["rootVolumeUuid"]
    assert (vm["state"], vm["hostUuid"]) == ("Running", hosts["kvm1"])
    assert cluster.rbd("info", scene.image(root))["parent"]["image"] == image
    wanted = {"name": "v", "diskSize": 64 * MB, "primaryStorageUuid": scene.primary}
    data = made(run(admin, "POST", "/volumes/data", {"params": wanted}))
    made(run(admin, "POST", f"/volumes/{data['uuid']}/vm-instances/{vm['uuid']}", {}))
    act = f"/vm-instances/{vm['uuid']}"
    moved = made(scene.act(act, "migrateVm"))
    assert (moved["state"], moved["hostUuid"]) == ("Running", hosts["kvm2"])
    domains = "virsh list --name"
    running = {name: len(scene.guests[name].run(domains).split()) for name in hosts}
    assert running == {"kvm1": 0, "kvm2": 1}
    for each in (root, data["uuid"]):
        (watcher,) = cluster.rbd("status", scene.image(each))["watchers"]
        assert scene.guests["kvm2"].address in watcher["address"]
    # What is on the clone obeys the power button, after the move.
    assert made(scene.act(act, "stopVmInstance"))["state"] == "Stopped"
    kept = made(run(admin, "POST", f"/volumes/{root}/volume-snapshots", {"params": {"name": "s"}}))["uuid"]
    started = made(scene.act(act, "startVmInstance", hostUuid=hosts["kvm1"]))
    assert (started["state"], started["hostUuid"]) == ("Running", hosts["kvm1"])
    assert made(scene.act(act, "stopVmInstance"))["state"] == "Stopped"
    assert scene.act(f"/volume-snapshots/{kept}", "revertVolumeFromSnapshot").status == 200
    assert run(admin, "DELETE", act, None).status == 200
    assert scene.act(act, "expungeVmInstance").status == 200
    purge(admin, data)
    assert run(admin, "DELETE", f"/images/{image}", None).status == 200
    assert scene.act(f"/images/{image}", "expungeImage").status == 200
    assert scene.act(f"/primary-storage/{scene.primary}", "cleanUpImageCacheOnPrimaryStorage").status == 200
    pools = [pool for pool in cluster.pools() if scene.primary in pool or scene.backup in pool]
    assert [name for pool in pools for name in cluster.names(pool)] == []


def test_a_volume_moves_from_nfs_to_ceph_to_a_hosts_disk_whatever_is_killed(scene: Scene) -> None:
    admin, cluster, hosts = scene.admin, scene.cluster, scene.fleet.hosts
    san = scene.guests["san"]
    san.run(f"mkdir -p {san_storage.EXPORT}/volumes")
    nfs = added(admin, scene.fleet.cluster, "nfs", f"{san.address}:{san_storage.EXPORT}/volumes")
    local = added(admin, scene.fleet.cluster, "local-storage", "/srv/volumes")
    wanted = {"name": "v", "diskSize": SIZE, "primaryStorageUuid": nfs}
    volume = made(run(admin, "POST", "/volumes/data", {"params": wanted}))
    file = volume["installPath"]
    raw = "/root/content.raw"
    content = scene.guests["kvm1"].run(
        f"head -c {SIZE} /dev/urandom >{raw} && sha256sum <{raw} && "
        f"qemu-img convert -n -f raw -O {volume['format']} {raw} {file} && rm {raw}",
        TIMEOUT_S,
    )
    content = content.split()[0]
    job = scene.move(volume["uuid"], scene.primary)
    scene.wait_for_partial(volume["uuid"])
    for name in hosts:
        scene.guests[name].run(f"systemctl kill -s KILL {KVM_AGENT}")
    answer = admin.wait(job, TIMEOUT_S)
    scene.wait_for_storages()
    if answer.status != 200:  # an emulated host may take longer to start its agent than the node waits
        assert answer.error["code"] in ("HOST.1003", "PS.1003", "SYS.1006"), answer
        assert scene.show(volume["uuid"])["primaryStorageUuid"] == nfs
        assert made(admin.wait(scene.move(volume["uuid"], scene.primary), TIMEOUT_S))
    assert scene.digest(volume["uuid"]) == content
    assert cluster.names(f"pri-v-d-{scene.primary}") == [volume["uuid"]]
    # The management node dies as the volume goes on to a host's disk: it goes on, and is in one place.
    job = scene.move(volume["uuid"], local)
    found = '[ -n "$(find /srv/volumes -name *.partial)" ]'
    wait_until(
        lambda: any(scene.guests[name].try_run(found).returncode == 0 for name in hosts),
        "the copy is under way",
        TIMEOUT_S,
    )
    scene.fleet.node.kill()
    scene.fleet.node.start()
    admin.url = scene.fleet.node.url
    moved = made(admin.wait("/api-jobs/" + job.rpartition("/")[2], TIMEOUT_S))
    now = scene.show(volume["uuid"])
    assert (moved["primaryStorageUuid"], now["primaryStorageUuid"]) == (local, local)
    there = f"test -e {now['installPath']}"
    (place,) = [name for name in hosts if scene.guests[name].try_run(there).returncode == 0]
    copied = f"qemu-img convert -O raw {now['installPath']} {raw} && sha256sum <{raw} && rm {raw}"
    assert scene.guests[place].run(copied, TIMEOUT_S).split()[0] == content
    assert cluster.names(f"pri-v-d-{scene.primary}") == []
    purge(admin, volume)
    scene.wait_for_storages()
    gone(admin, scene.fleet.cluster, nfs, local)


def test_a_monitor_that_stops_costs_nothing_and_comes_back(scene: Scene) -> None:
    scene.cluster.stop_monitor("san")
    expected = {"san": "Disconnected", "kvm2": "Connected"}
    wait_until(lambda: scene.mons() == expected, "the monitor's end is seen", TIMEOUT_S)
    assert scene.status(scene.primary) == "Connected"
    wanted = {"name": "v", "diskSize": 64 * MB, "primaryStorageUuid": scene.primary}
    volume = made(run(scene.admin, "POST", "/volumes/data", {"params": wanted}))
    scene.cluster.start_monitor("san")
    wait_until(lambda: set(scene.mons().values()) == {"Connected"}, "the monitor is back", TIMEOUT_S)
    purge(scene.admin, volume)


def test_a_full_cluster_takes_nothing_more_says_so_and_loses_nothing(scene: Scene) -> None:
    admin, cluster = scene.admin, scene.cluster
    kept = made(scene.add_image("disk", mediaType="DataVolumeTemplate"))["uuid"]
    (row,) = admin.query(f"{BACKUP}/{scene.backup}")
    pool = row["poolName"]
    assert cluster.names(pool) == [kept]
    cluster.be_full(full=True)
    try:
        refused = scene.add_image("disk", mediaType="DataVolumeTemplate")
        assert (refused.status, refused.error["code"]) == (503, "BS.1003"), refused
    finally:
        cluster.be_full(full=False)
    assert cluster.names(pool) == [kept]
    (row,) = admin.query("/images")
    assert (row["uuid"], row["status"]) == (kept, "Ready")
    path = f"/volumes/data/from/data-volume-templates/{kept}"
    body = {"params": {"name": "v", "primaryStorageUuid": scene.primary}}
    volume = made(run(admin, "POST", path, body))
    disk = boot_sector(OBEY_POWER_BUTTON).ljust(2 * MB, b"\0")
    assert scene.digest(volume["uuid"]) == hashlib.sha256(disk).hexdigest()
    purge(admin, volume)


def test_nothing_is_left_of_a_cluster_on_hosts_and_of_us_on_the_cluster(scene: Scene) -> None:
    admin, cluster = scene.admin, scene.cluster
    for path in (
        f"/clusters/{scene.fleet.cluster}/primary-storage/{scene.primary}",
        f"/primary-storage/{scene.primary}",
        f"/backup-storage/{scene.backup}",
    ):
        answer = run(admin, "DELETE", path, None)
        assert answer.status == 200, answer
    assert [name for name in cluster.pools() if scene.primary in name] == []
    assert [name for name in cluster.users() if "hardpoint" in name] == []
    for name in scene.fleet.hosts:
        guest = scene.guests[name]
        assert guest.run(f"find {KEYS} -mindepth 1 2>/dev/null || true").strip() == ""
        assert "hardpoint" not in guest.run("virsh secret-list")
        assert guest.run("virsh list --all --name").split() == []
    for name in MONITORS:
        assert scene.guests[name].try_run(f"systemctl is-active {CEPH_AGENT}").returncode != 0
        assert scene.guests[name].run("ls -d /opt/hardpoint/cephagent 2>/dev/null || true").strip() == ""
    assert scene.guests["kvm2"].run(f"systemctl is-active {KVM_AGENT}").strip() == "active"
    scene.fleet.wait_until_connected(60)
