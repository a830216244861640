"""Shared-block storage on real kernels.

Volume groups of two hosts on LUNs over iSCSI, with lvmlockd and sanlock.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab import storage as san_storage
from tests.lab.calls import made, run
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab
from tests.lab.lock_watch import LockWatch, conflicts
from tests.libvirtd import OBEY_POWER_BUTTON, boot_sector
from tests.node import Answer, Rest

pytestmark = [pytest.mark.long, pytest.mark.takes(minutes=30)]  # sanlock waits where other storages answer

MB = 1024 * 1024
IO_TIMEOUT_S = 3
DEAD_AFTER_S = 8 * IO_TIMEOUT_S + 60
SLACK_S = 60.0
TIMEOUT_S = 300.0
GROUPS = "/primary-storage/sharedblockgroup"
CANDIDATES = f"{GROUPS}/sharedblock-candidates"
AGENT = "hardpoint-kvmagent"


@dataclass
class Scene:
    """Two hosts with the LUNs of `san`, and a shared-block storage on the first one."""

    fleet: Fleet
    kvm1: Guest
    kvm2: Guest
    san: Guest
    uuid: str = ""
    took_s: dict[str, float] = field(default_factory=dict)
    watches: list[LockWatch] = field(default_factory=list)

    @property
    def admin(self) -> Rest:
        return self.fleet.admin

    def act(self, path: str, what: str, **params: Any) -> Answer:
        return run(self.admin, "PUT", f"{path}/actions", {what: params})

    def refs(self) -> dict[str, dict[str, Any]]:
        """Return how the storage is on the hosts, by their names."""
        names = {uuid: name for name, uuid in self.fleet.hosts.items()}
        found = self.admin.query("/sharedblock-group/host-refs", f"primaryStorageUuid={self.uuid}")
        return {names[ref["hostUuid"]]: ref for ref in found if ref["hostUuid"] in names}

    def lvm(self, command: str) -> str:
        return f"LVM_SYSTEM_DIR=/var/lib/hardpoint/kvmagent/lvm/{self.uuid} {command}"

    def active(self, guest: Guest) -> set[str]:
        """Return the logical volumes of the storage that are active on a host."""
        names = guest.run("dmsetup ls 2>/dev/null | cut -f1 || true").split()
        mine = {name.partition("-")[2] for name in names if name.startswith(f"{self.uuid}-")}
        return mine - {"lvmlock"}

    def check_alone(self, *, shared: tuple[str, ...] = ()) -> None:
        """No volume is active on both hosts, but for what is read only."""
        both = self.active(self.kvm1) & self.active(self.kvm2)
        assert both <= set(shared), both

    def idle(self) -> None:
        """Wait until nothing is active on a host that nobody uses."""
        for guest in (self.kvm1, self.kvm2):
            if guest.running:
                wait_until(lambda g=guest: not self.active(g), f"{guest.name} to be idle", TIMEOUT_S)

    def volume(self, size: int = 64 * MB) -> dict[str, Any]:
        wanted = {"name": "v", "diskSize": size, "primaryStorageUuid": self.uuid}
        return made(run(self.admin, "POST", "/volumes/data", {"params": wanted}))

    def show(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/volumes/{uuid}")
        return found

    def device(self, uuid: str) -> str:
        path = str(self.show(uuid)["installPath"])
        assert path.startswith(f"sharedblock://{self.uuid}/")
        return path.replace("sharedblock://", "/dev/")

    def offline(self, guest: Guest, uuid: str, script: str) -> str:
        """Run something on a volume that nobody uses; `$d` is its device."""
        device = self.device(uuid)
        lv = device.removeprefix("/dev/")
        begin, end = self.lvm(f"lvchange -aey {lv}"), self.lvm(f"lvchange -an {lv}")
        held = f"exec 9<{device}"  # the agent gives back what nobody has open
        return guest.run(f"set -e; d={device}; {begin}; {held}; {script}; exec 9<&-; {end}")

    def write(self, guest: Guest, uuid: str, pattern: int) -> str:
        """Write a pattern; returns the volume's checksum."""
        self.offline(guest, uuid, f"qemu-io -f qcow2 -c 'write -P {pattern} 0 8M' $d >/dev/null")
        return self.sum(guest, uuid)

    def sum(self, guest: Guest, uuid: str) -> str:
        copy = "qemu-img convert -f qcow2 -O raw $d /tmp/sum.raw; sha256sum </tmp/sum.raw; rm /tmp/sum.raw"
        return self.offline(guest, uuid, copy).split()[0]

    def vm(self, host: str, **more: Any) -> str:
        wanted = {"name": "vm", "cpuNum": 1, "memorySize": 64 * MB, "hostUuid": self.fleet.hosts[host]}
        params = {**wanted, "zoneUuid": self.fleet.zone, **more}
        return str(made(run(self.admin, "POST", "/vm-instances", {"params": params}))["uuid"])

    def vm_row(self, uuid: str) -> dict[str, Any]:
        (found,) = self.admin.query(f"/vm-instances/{uuid}")
        return found

    def end_vm(self, uuid: str) -> None:
        assert run(self.admin, "DELETE", f"/vm-instances/{uuid}", None).status == 200
        assert self.act(f"/vm-instances/{uuid}", "expungeVmInstance").status == 200

    def purge(self, uuid: str) -> None:
        assert run(self.admin, "DELETE", f"/volumes/{uuid}", None).status == 200
        assert self.act(f"/volumes/{uuid}", "expungeDataVolume").status == 200


@pytest.fixture(scope="module")
def scene(lab: Lab, fleet: Fleet) -> Iterator[Scene]:
    scene = Scene(fleet, lab.machine("kvm1"), lab.machine("kvm2"), lab.machine("san"))
    for guest in (scene.kvm1, scene.kvm2):
        assert san_storage.iscsi_login(guest, scene.san, one_path=True) == 0
        for lun in range(san_storage.LUNS):
            guest.wait_for(f"[ -e /dev/disk/by-id/wwn-0x{san_storage.wwid(lun)} ]")
    for category, name, value in (
        ("sharedBlock", "sanlock.ioTimeout", str(IO_TIMEOUT_S)),
        ("primaryStorage", "reservedCapacity", "0"),
    ):
        path = f"/global-configurations/{category}/{name}/actions"
        assert run(scene.admin, "PUT", path, {"updateGlobalConfig": {"value": value}}).status == 200
    watches = [LockWatch(guest) for guest in (scene.kvm1, scene.kvm2)]
    scene.watches = watches
    yield scene
    for watch in watches:
        watch.close()
    print("\n".join(f"{what}: {took:.1f} s" for what, took in scene.took_s.items()))


def timed(scene: Scene, what: str, began: float) -> None:
    scene.took_s[what] = time.monotonic() - began


def add(scene: Scene, *tags: str) -> None:
    """Add a storage on the first LUN and attach it."""
    params = {"name": "blocks", "diskUuids": [f"3{san_storage.wwid(0)}"], "zoneUuid": scene.fleet.zone}
    body = {"params": params, "systemTags": list(tags)}
    scene.uuid = made(run(scene.admin, "POST", GROUPS, body))["uuid"]
    path = f"/clusters/{scene.fleet.cluster}/primary-storage/{scene.uuid}"
    began = time.monotonic()
    made(run(scene.admin, "POST", path, {}))
    timed(scene, "volume group made, and joined by both hosts", began)


def test_a_group_is_made_on_what_holds_nothing_and_joined_by_both_hosts(scene: Scene) -> None:
    scene.kvm1.run(f"mkfs.ext4 -q /dev/disk/by-id/wwn-0x{san_storage.wwid(1)}")
    found = scene.admin.get(CANDIDATES, clusterUuid=scene.fleet.cluster, all="true").body["results"]
    by_wwid = {disk["wwid"].removeprefix("wwn-0x"): disk for disk in found}
    assert "reason" not in by_wwid[san_storage.wwid(0)], found
    assert by_wwid[san_storage.wwid(1)]["reason"] == "it holds ext4"
    add(scene)
    refs = scene.refs()
    assert {name: (ref["status"], ref["lockState"]) for name, ref in refs.items()} == {
        "kvm1": ("Connected", "Held"),
        "kvm2": ("Connected", "Held"),
    }
    assert {ref["hostId"] for ref in refs.values()} == {1, 2}
    (row,) = scene.admin.query(f"{GROUPS}/{scene.uuid}")
    assert row["sharedBlocks"][0]["status"] == "Connected"
    assert 0 < row["availableCapacity"] <= row["totalCapacity"] < san_storage.LUN_MB * MB
    assert scene.kvm1.run("vgs 2>/dev/null --noheadings -o vg_name || true").split() in ([], [scene.uuid])
    assert "armed" in scene.kvm1.run("journalctl -u wdmd -o cat; dmesg | tail -1")


def test_a_volume_is_one_hosts_alone_and_moves_with_its_vm(scene: Scene) -> None:
    began = time.monotonic()
    volume = scene.volume()["uuid"]
    timed(scene, "volume created", began)
    digest = scene.write(scene.kvm1, volume, 7)
    assert scene.sum(scene.kvm2, volume) == digest
    vm = scene.vm("kvm1")
    made(run(scene.admin, "POST", f"/volumes/{volume}/vm-instances/{vm}", {}))
    lv = scene.device(volume).removeprefix("/dev/")
    assert scene.active(scene.kvm1) == {lv.partition("/")[2]}
    refused = scene.kvm2.try_run(scene.lvm(f"lvchange -aey {lv}"))
    assert (refused.returncode, "locked by other host" in refused.stderr) == (5, True)
    began = time.monotonic()
    moved = made(scene.act(f"/vm-instances/{vm}", "migrateVm"))
    timed(scene, "VM moved while it runs", began)
    assert moved["hostUuid"] == scene.fleet.hosts["kvm2"]
    wait_until(lambda: not scene.active(scene.kvm1), "the source to let go", TIMEOUT_S)
    assert scene.active(scene.kvm2) == {lv.partition("/")[2]}
    refused = scene.kvm1.try_run(scene.lvm(f"lvchange -asy {lv}"))
    assert refused.returncode == 5, "it is the target's alone"
    scene.end_vm(vm)
    scene.idle()
    assert scene.sum(scene.kvm1, volume) == digest
    scene.purge(volume)


def test_snapshots_and_vms_of_one_image_stand_on_what_both_hosts_read(scene: Scene) -> None:
    admin, san = scene.admin, scene.san
    login = {"hostname": san.address, "username": "root", "password": san.password}
    params = {"name": "images", "url": "/srv/images", **login}
    store = made(run(admin, "POST", "/backup-storage/image-store", {"params": params}))["uuid"]
    assert run(admin, "POST", f"/zones/{scene.fleet.zone}/backup-storage/{store}", None).status == 200
    sector = base64.b64encode(boot_sector(OBEY_POWER_BUTTON)).decode()
    san.run(f"echo {sector} | base64 -d >/srv/disk.raw && truncate -s 2M /srv/disk.raw")
    wanted = {"name": "disk", "url": "file:///srv/disk.raw", "format": "raw", "backupStorageUuids": [store]}
    image = made(run(admin, "POST", "/images", {"params": wanted}))["uuid"]
    vms = [scene.vm(host, imageUuid=image) for host in ("kvm1", "kvm2")]
    assert {image} == scene.active(scene.kvm1) & scene.active(scene.kvm2)
    scene.check_alone(shared=(image,))
    root = scene.vm_row(vms[0])["rootVolumeUuid"]
    # It obeys the power button: it has booted from what was cloned.
    assert made(scene.act(f"/vm-instances/{vms[0]}", "stopVmInstance"))["state"] == "Stopped"
    wait_until(lambda: not scene.active(scene.kvm1), "the stopped VM's volumes to be free", TIMEOUT_S)
    made(run(admin, "POST", f"/volumes/{root}/volume-snapshots", {"params": {"name": "s"}}))
    started = made(
        scene.act(f"/vm-instances/{vms[0]}", "startVmInstance", hostUuid=scene.fleet.hosts["kvm2"])
    )
    assert started["hostUuid"] == scene.fleet.hosts["kvm2"]
    assert scene.active(scene.kvm1) == set()
    assert len(scene.active(scene.kvm2)) == 4  # two tops, the snapshot, the image
    for vm in vms:
        scene.end_vm(vm)
    body = {"cleanUpImageCacheOnPrimaryStorage": {}}
    assert run(admin, "PUT", f"/primary-storage/{scene.uuid}/actions", body).status == 200
    assert run(admin, "DELETE", f"/backup-storage/{store}", None).status == 200
    scene.idle()


def test_a_lun_that_has_grown_is_used_and_another_one_is_taken(scene: Scene) -> None:
    (before,) = scene.admin.query(f"{GROUPS}/{scene.uuid}")
    scene.san.run("lvextend -q -L+256M luns/lun0 >/dev/null")
    lun = before["sharedBlocks"][0]["uuid"]
    grown = made(run(scene.admin, "POST", f"{GROUPS}/{scene.uuid}/sharedblocks/{lun}", {"params": {}}))
    assert grown["totalCapacity"] == before["totalCapacity"] + 256 * MB
    path = f"{GROUPS}/{scene.uuid}/sharedblocks"
    second = {"params": {"diskUuid": f"3{san_storage.wwid(1)}"}}
    refused = run(scene.admin, "POST", path, second)
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    assert "it holds ext4" in refused.error["details"]
    scene.kvm1.run(f"wipefs -qa /dev/disk/by-id/wwn-0x{san_storage.wwid(1)}")
    both = made(run(scene.admin, "POST", path, second))
    assert len(both["sharedBlocks"]) == 2
    assert both["totalCapacity"] > grown["totalCapacity"] + 1000 * MB


def test_killed_daemons_cost_no_vm_its_volume(scene: Scene) -> None:
    volume = scene.volume()["uuid"]
    digest = scene.write(scene.kvm1, volume, 9)
    vm = scene.vm("kvm1")
    made(run(scene.admin, "POST", f"/volumes/{volume}/vm-instances/{vm}", {}))
    lv = scene.device(volume).removeprefix("/dev/")
    scene.kvm1.run("kill -9 $(pidof lvmlockd)")
    scene.kvm1.wait_for("pidof lvmlockd")
    wait_until(lambda: scene.refs()["kvm1"]["lockState"] == "Held", "its locks to be adopted", TIMEOUT_S)
    assert scene.kvm2.try_run(scene.lvm(f"lvchange -aey {lv}")).returncode == 5
    job = scene.admin.call(
        "POST",
        "/volumes/data",
        {"params": {"name": "k", "diskSize": 64 * MB, "primaryStorageUuid": scene.uuid}},
    )
    scene.kvm1.run(f"sleep 2; systemctl kill -s KILL {AGENT}")
    other = made(scene.admin.wait(job.location, TIMEOUT_S))["uuid"]
    # The host is lost while its agent is away, and its VMs are Unknown
    wait_until(lambda: scene.vm_row(vm)["state"] == "Running", "the VM is seen again", TIMEOUT_S)
    wait_until(lambda: scene.active(scene.kvm1) == {lv.partition("/")[2]}, "leftovers to go", TIMEOUT_S)
    scene.check_alone()
    scene.purge(other)
    scene.end_vm(vm)
    scene.idle()
    assert scene.sum(scene.kvm2, volume) == digest
    scene.purge(volume)


def test_what_a_dead_host_had_is_anothers_when_its_lease_has_ended(scene: Scene) -> None:
    volume = scene.volume()["uuid"]
    digest = scene.write(scene.kvm1, volume, 5)
    vm = scene.vm("kvm1")
    made(run(scene.admin, "POST", f"/volumes/{volume}/vm-instances/{vm}", {}))
    numbers = {name: ref["hostId"] for name, ref in scene.refs().items()}
    scene.kvm1.power_off()
    began = time.monotonic()
    scene.fleet.wait_until("kvm1", "Disconnected", TIMEOUT_S)
    dead = f"/hosts/{scene.fleet.hosts['kvm1']}?deleteMode=Enforcing"
    assert run(scene.admin, "DELETE", dead, None).status == 200
    start = {"hostUuid": scene.fleet.hosts["kvm2"]}
    tries: list[str] = []

    def started() -> bool:
        answer = scene.act(f"/vm-instances/{vm}", "startVmInstance", **start)
        if answer.status != 200:
            tries.append(answer.error["details"])
        return answer.status == 200

    wait_until(started, "the VM to start on the other host", DEAD_AFTER_S + SLACK_S)
    timed(scene, "taken over from a dead host", began)
    assert scene.took_s["taken over from a dead host"] > 8 * IO_TIMEOUT_S
    assert any(f"held by host id {numbers['kvm1']}" in details for details in tries), tries
    scene.end_vm(vm)
    scene.idle()
    assert scene.sum(scene.kvm2, volume) == digest
    scene.purge(volume)
    # The dead host's number is not given to another one: it has not said that it has left.
    assert scene.refs()["kvm2"]["hostId"] == numbers["kvm2"]


def test_nothing_is_left_and_a_host_without_sanlock_is_reset(scene: Scene) -> None:
    left = scene.kvm2.run(scene.lvm(f"lvs --nolocking --noheadings -o lv_name {scene.uuid}")).split()
    assert left == ["[lvmlock]"] or left == []
    path = f"/clusters/{scene.fleet.cluster}/primary-storage/{scene.uuid}"
    assert run(scene.admin, "DELETE", path, None).status == 200
    assert run(scene.admin, "DELETE", f"/primary-storage/{scene.uuid}", None).status == 200
    assert scene.kvm2.run(f"dmsetup ls | grep -c {scene.uuid} || true").strip() == "0"
    assert "lvm_" not in scene.kvm2.run("sanlock client status")
    assert scene.kvm2.run("virsh list --name").split() == []
    params = {"name": "again", "diskUuids": [f"3{san_storage.wwid(0)}"], "zoneUuid": scene.fleet.zone}
    kept = made(run(scene.admin, "POST", GROUPS, {"params": params}))["uuid"]
    refused = run(scene.admin, "POST", f"/clusters/{scene.fleet.cluster}/primary-storage/{kept}", {})
    assert "what is left of the primary storage" in refused.error["details"]
    assert run(scene.admin, "DELETE", f"/primary-storage/{kept}", None).status == 200
    add(scene, "sharedBlock::wipe::true")
    booted = scene.kvm2.boot_id()
    scene.kvm2.run("kill -9 $(pidof sanlock)")
    began = time.monotonic()
    wait_until(
        lambda: scene.refs()["kvm2"]["lockState"] in ("DaemonDown", "LeaseLost", "NotJoined"),
        "the cause to be named",
        TIMEOUT_S,
    )
    timed(scene, "sanlock's end seen", began)
    scene.kvm2.wait_until_rebooted(booted)
    timed(scene, "host without sanlock reset by the watchdog", began)


def test_no_volume_was_one_hosts_alone_and_the_other_ones_too_all_the_while(scene: Scene) -> None:
    first, second = (watch.samples for watch in scene.watches)
    for samples in (first, second):
        assert sum(bool(sample.locks) for sample in samples) > 5, "locks were seen"
    assert conflicts(first, second) == []
