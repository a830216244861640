"""Primary storage on real kernels: NFS exports, shared mount points, local storage between two hosts."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab import storage as san_storage
from tests.lab.calls import MB, added, gone, made, purge, run, volume
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab
from tests.node import Rest

pytestmark = pytest.mark.takes(minutes=20)

LOST_WITHIN_S = 45.0
"""A probe's pause and its deadline are 11 s; the rest is for guests that are emulated."""
TIMEOUT_S = 300.0
MOUNTS = "/opt/zstack/nfsprimarystorage"


@pytest.fixture(scope="module")
def san(lab: Lab, fleet: Fleet) -> Guest:
    del fleet  # brings it up
    return lab.machine("san")


@pytest.fixture(scope="module")
def guests(lab: Lab, fleet: Fleet) -> list[Guest]:
    return [lab.machine(name) for name in fleet.hosts]


@pytest.fixture(scope="module")
def admin(fleet: Fleet) -> Rest:
    return fleet.admin


@pytest.fixture(scope="module")
def cluster(fleet: Fleet) -> str:
    return fleet.cluster


@pytest.fixture(scope="module")
def hosts(fleet: Fleet) -> list[str]:
    return list(fleet.hosts.values())


def snapshot(admin: Rest, of: dict[str, Any]) -> dict[str, Any]:
    return made(run(admin, "POST", f"/volumes/{of['uuid']}/volume-snapshots", {"params": {"name": "s"}}))


def show(admin: Rest, of: dict[str, Any]) -> dict[str, Any]:
    (found,) = admin.query(f"/volumes/{of['uuid']}")
    return found


def write(guest: Guest, path: str, pattern: int) -> None:
    guest.run(f"qemu-io -f qcow2 -c 'write -P {pattern} 0 1M' {path}")


def check(guest: Guest, path: str, pattern: int) -> None:
    said = guest.run(f"qemu-io -r -f qcow2 -c 'read -P {pattern} 0 1M' {path}")
    assert "verification failed" not in said


def status(admin: Rest, storage: str) -> str:
    (row,) = admin.query(f"/primary-storage/{storage}")
    return str(row["status"])


def test_volumes_on_two_exports_are_made_moved_and_gone(
    admin: Rest, cluster: str, hosts: list[str], guests: list[Guest], san: Guest
) -> None:
    san.run(f"mkdir -p {san_storage.EXPORT}/one {san_storage.EXPORT}/two")
    exports = [f"{san.address}:{san_storage.EXPORT}/{name}" for name in ("one", "two")]
    one = added(admin, cluster, "nfs", exports[0], ["nfs::mountOptions::vers=4.2"])
    two = added(admin, cluster, "nfs", exports[1])
    for guest in guests:
        mounted = guest.run("cat /proc/self/mountinfo")
        assert all(f"{MOUNTS}/prim-{uuid} " in mounted for uuid in (one, two))
    assert (status(admin, one), status(admin, two)) == ("Connected", "Connected")
    (row,) = admin.query(f"/primary-storage/{one}")
    assert row["mountPath"] == f"{MOUNTS}/prim-{one}"
    assert 0 < row["availableCapacity"] <= row["totalCapacity"]
    first = volume(admin, one)
    write(guests[0], first["installPath"], 7)
    snapshot(admin, first)
    candidates = admin.get(f"/primary-storage/volumes/{first['uuid']}/migration-candidates").body
    assert [storage["uuid"] for storage in candidates["inventories"]] == [two]
    body = {"primaryStorageMigrateVolume": {"dstPrimaryStorageUuid": two}}
    moved = made(run(admin, "PUT", f"/primary-storage/volumes/{first['uuid']}/actions", body))
    assert (moved["primaryStorageUuid"], moved["status"]) == (two, "Ready")
    check(guests[1], moved["installPath"], 7)  # the other host sees it, too
    purge(admin, first)
    left = f"find {san_storage.EXPORT} -type f -not -path '*/.hardpoint/*' -not -path '*/.trash/*'"
    assert san.run(left) == ""
    gone(admin, cluster, one, two)
    for guest in guests:
        assert MOUNTS not in guest.run("cat /proc/self/mountinfo")
        assert guest.run(f"ls {MOUNTS}") == ""


def test_an_export_whose_server_stops_is_disconnected_and_comes_back_by_itself(
    fleet: Fleet, cluster: str, hosts: list[str], san: Guest, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = fleet.admin
    san.run(f"mkdir -p {san_storage.EXPORT}/dead")
    dead = added(admin, cluster, "nfs", f"{san.address}:{san_storage.EXPORT}/dead")
    alive = added(admin, cluster, "local-storage", "/alive")
    kept = volume(admin, dead)
    san.run("systemctl stop nfs-server")
    try:
        began = time.monotonic()
        wait_until(lambda: status(admin, dead) == "Disconnected", "the storage to be lost", LOST_WITHIN_S)
        with capsys.disabled():
            print(f"\nAn export is lost {time.monotonic() - began:.1f} s after its server was stopped")
        wanted = {"name": "none", "diskSize": MB, "primaryStorageUuid": dead}
        refused = run(admin, "POST", "/volumes/data", {"params": wanted})
        assert (refused.status, refused.error["code"]) == (503, "PS.1003")
        purge(admin, volume(admin, alive, f"localStorage::hostUuid::{hosts[0]}"))
        fleet.wait_until_connected(60)
    finally:
        san.run("systemctl start nfs-server")
    wait_until(lambda: status(admin, dead) == "Connected", "the storage to come back", TIMEOUT_S)
    purge(admin, kept)
    gone(admin, cluster, dead, alive)


def test_a_shared_mount_point_is_the_same_on_all_hosts_or_refused_and_carries_a_moving_vm(
    admin: Rest, cluster: str, hosts: list[str], guests: list[Guest], san: Guest
) -> None:
    (row,) = admin.query(f"/clusters/{cluster}")
    params = {"name": "smp", "url": "/mnt/smp", "zoneUuid": row["zoneUuid"]}
    uuid = admin.create("/primary-storage/smp", **params)["uuid"]
    path = f"/clusters/{cluster}/primary-storage/{uuid}"
    for guest in guests:
        guest.run("mkdir -p /mnt/smp")
    local = run(admin, "POST", path, {})
    assert (local.status, local.error["code"]) == (503, "PS.1001")
    assert "a file system of this host alone" in local.error["details"]
    for guest, folder in zip(guests, ("a", "b"), strict=True):
        san.run(f"mkdir -p {san_storage.EXPORT}/{folder}")
        guest.run(f"mount -t nfs -o vers=4.2 {san.address}:{san_storage.EXPORT}/{folder} /mnt/smp")
    different = run(admin, "POST", path, {})
    assert "not the folder that it was" in different.error["details"]
    guests[1].run(
        f"umount /mnt/smp && mount -t nfs -o vers=4.2 {san.address}:{san_storage.EXPORT}/a /mnt/smp"
    )
    made(run(admin, "POST", path, {}))
    shared = volume(admin, uuid)
    write(guests[0], shared["installPath"], 5)
    check(guests[1], shared["installPath"], 5)
    size = {"cpuNum": 1, "memorySize": 64 * MB}
    wanted = {"name": "vm", **size, "hostUuid": hosts[0], "zoneUuid": row["zoneUuid"]}
    vm = made(run(admin, "POST", "/vm-instances", {"params": wanted}))["uuid"]
    made(run(admin, "POST", f"/volumes/{shared['uuid']}/vm-instances/{vm}", {}))
    moved = made(run(admin, "PUT", f"/vm-instances/{vm}/actions", {"migrateVm": {}}))
    assert (moved["state"], moved["hostUuid"]) == ("Running", hosts[1])
    assert [len(guest.run("virsh list --name").split()) for guest in guests] == [0, 1]
    assert run(admin, "DELETE", f"/vm-instances/{vm}", None).status == 200
    assert run(admin, "PUT", f"/vm-instances/{vm}/actions", {"expungeVmInstance": {}}).status == 200
    check(guests[0], shared["installPath"], 5)
    purge(admin, shared)
    gone(admin, cluster, uuid)
    for guest in guests:
        guest.run("umount /mnt/smp")


def test_a_local_volume_moves_from_host_to_host_and_by_nfs_to_itself(
    admin: Rest, cluster: str, hosts: list[str], guests: list[Guest], san: Guest
) -> None:
    storage = added(admin, cluster, "local-storage", "/zstack_ps")
    moving = volume(admin, storage, f"localStorage::hostUuid::{hosts[0]}")
    write(guests[0], moving["installPath"], 3)
    snapshot(admin, moving)
    body = {"localStorageMigrateVolume": {"destHostUuid": hosts[1]}}
    path = f"/primary-storage/local-storage/volumes/{moving['uuid']}/actions"
    assert made(run(admin, "PUT", path, body))["hostUuid"] == hosts[1]
    check(guests[1], show(admin, moving)["installPath"], 3)
    files = "find /zstack_ps -type f -not -path '*/.hardpoint/*' -not -path '*/.trash/*'"
    assert guests[0].run(files) == ""
    san.run(f"mkdir -p {san_storage.EXPORT}/between")
    between = added(admin, cluster, "nfs", f"{san.address}:{san_storage.EXPORT}/between")
    path = f"/primary-storage/volumes/{moving['uuid']}/actions"
    for to in (between, storage):
        body = {"primaryStorageMigrateVolume": {"dstPrimaryStorageUuid": to}}
        assert made(run(admin, "PUT", path, body))["primaryStorageUuid"] == to
        refs = admin.query("/primary-storage/local-storage/resource-refs", f"resourceUuid={moving['uuid']}")
        homes = [guests[hosts.index(ref["hostUuid"])] for ref in refs] if to == storage else guests
        assert homes
        for home in homes:
            check(home, show(admin, moving)["installPath"], 3)
    purge(admin, moving)
    assert [guest.run(files) for guest in guests] == ["", ""]
    gone(admin, cluster, storage, between)
