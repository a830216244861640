"""Another key for a Ceph storage's hosts, while a VM runs: given to all, the former one taken after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ceph.cluster import MIB, Cluster
from tests.ceph.test_storages import PRIMARY, delete
from tests.ceph.test_volumes import HOST, LOGIN, Scene, holding, images, libvirtd, one_libvirtd, scene
from tests.helpers import wait_until
from tests.libvirtd import OBEY_POWER_BUTTON, Libvirtd, boot_sector
from tests.silence import silent

__all__ = ["libvirtd", "one_libvirtd", "scene"]


def rotate(scene: Scene) -> dict[str, Any]:
    answer: dict[str, Any] = scene.act(f"/primary-storage/ceph/{scene.ceph}", "rotateCephPrimaryStorageKey")
    return answer


def key_of(cluster: Cluster, client: str) -> str:
    return str(cluster.ceph("auth", "get-key", f"client.{client}")["key"])


def test_a_key_that_nobody_uses_any_more_is_taken(scene: Scene, cluster: Cluster) -> None:
    first = f"hardpoint-{scene.ceph}"
    before = key_of(cluster, first)
    volume = scene.volume().body["inventory"]["uuid"]
    answer = rotate(scene)
    assert (answer["client"], answer["formerClients"], answer["pendingHostUuids"]) == (f"{first}-2", [], [])
    assert [user for user in cluster.users() if scene.ceph in user] == [f"client.{first}-2"]
    after = key_of(cluster, f"{first}-2")
    assert after != before
    assert after not in scene.node.log()
    assert [file.parts[-3:] for file in holding(scene.node.state, after)] == [("ceph", scene.ceph, "keyring")]
    scene.snapshot(volume, "with the new key")

    # A host that is away while the key changes gets it when it is connected again.
    with silent(scene.node, HOST):
        answer = rotate(scene)
        assert answer["pendingHostUuids"] == [scene.host]
        assert answer["formerClients"] == [f"{first}-2"]
    wait_until(lambda: holding(scene.node.state, key_of(cluster, f"{first}-3")), "the host has the key", 60)
    assert rotate(scene)["formerClients"] == []
    assert [user for user in cluster.users() if scene.ceph in user] == [f"client.{first}-4"]
    scene.snapshot(volume, "with another one")
    scene.expunge(volume)
    delete(scene.admin, f"/clusters/{scene.cluster}/primary-storage/{scene.ceph}")
    delete(scene.admin, f"/primary-storage/{scene.ceph}")
    assert not [user for user in cluster.users() if scene.ceph in user]


def test_a_host_that_can_be_given_no_key_is_told_why(scene: Scene, cluster: Cluster) -> None:
    reference, mon = f"/clusters/{scene.cluster}/primary-storage/{scene.ceph}", cluster.monitors[0].address
    delete(scene.admin, reference)
    with silent(scene.node, mon):
        wait_until(lambda: mon_status(scene) == "Disconnected", "the monitor's agent is away", 60)
        refused = scene.admin.run("POST", reference, {})
    assert (refused.status, refused.error["code"]) == (503, "PS.1001"), refused
    details = refused.error["details"]
    assert "this host has no key of the storage" in details
    assert "no key could be had for it" in details
    assert f"{mon}" in details
    wait_until(lambda: mon_status(scene) == "Connected", "the monitor's agent is back", 60)
    scene.attach(scene.ceph)


def mon_status(scene: Scene) -> str:
    (found,) = scene.admin.query(PRIMARY, f"uuid={scene.ceph}")
    return str(found["mons"][0]["status"])


def test_a_vm_that_runs_keeps_its_key_until_it_is_started_again(
    scene: Scene, cluster: Cluster, libvirtd: Libvirtd, tmp_path: Path
) -> None:
    if not list(Path("/usr/lib").glob("*/qemu/block-rbd.so")):
        pytest.skip("QEMU cannot open RBD images here (scripts/bootstrap ceph)")
    admin, first = scene.admin, f"hardpoint-{scene.ceph}"
    file = tmp_path / "boots.raw"
    file.write_bytes(boot_sector(OBEY_POWER_BUTTON).ljust(2 * MIB, b"\0"))
    store = admin.create(
        "/backup-storage/image-store", name="s", hostname="127.0.4.2", url=str(tmp_path / "store"), **LOGIN
    )["uuid"]
    assert admin.run("POST", f"/zones/{scene.zone}/backup-storage/{store}", None).status == 200
    image = admin.create("/images", name="i", url=f"file://{file}", format="raw", backupStorageUuids=[store])[
        "uuid"
    ]
    wanted = {"name": "vm", "cpuNum": 1, "memorySize": 64 * MIB, "imageUuid": image, "zoneUuid": scene.zone}
    vm = admin.create("/vm-instances", **wanted, primaryStorageUuidForRootVolume=scene.ceph)["uuid"]
    (pid,) = libvirtd.processes()
    answer = rotate(scene)
    assert (answer["formerClients"], answer["pendingHostUuids"]) == ([first], [])
    assert libvirtd.processes() == [pid]

    # It finds another monitor, for which it needs its key, and takes a disk with the new one.
    cluster.stop_monitor("a")
    try:
        wait_until(lambda: connected(cluster, first), "the VM is connected again", 60)
    finally:
        cluster.start_monitor("a")
    data = scene.volume().body["inventory"]["uuid"]
    attached = admin.run("POST", f"/volumes/{data}/vm-instances/{vm}", {})
    assert attached.status == 200, attached
    assert libvirtd.processes() == [pid]

    scene.act(f"/vm-instances/{vm}", "stopVmInstance")
    scene.act(f"/vm-instances/{vm}", "startVmInstance")
    wait_until(lambda: len(libvirtd.processes()) == 1, "the VM to run again", 60)
    cluster.wait_for_quorum()
    wait_until(lambda: mon_status(scene) == "Connected", "the agent to have seen that", 60)
    answer = rotate(scene)
    assert answer["formerClients"] == [f"{first}-2"], "the VM is this one now; the one before is gone"
    assert f"client.{first}" not in cluster.users()
    scene.act(f"/vm-instances/{vm}", "stopVmInstance")
    assert rotate(scene)["formerClients"] == []
    delete(admin, f"/vm-instances/{vm}")
    scene.act(f"/vm-instances/{vm}", "expungeVmInstance")
    scene.expunge(data)
    scene.act(f"/primary-storage/{scene.ceph}", "cleanUpImageCacheOnPrimaryStorage")
    assert images(cluster, scene.ceph) == []


def connected(cluster: Cluster, client: str) -> bool:
    """Say whether a client has a session with a monitor that is not the first one."""
    sessions = [each for mon in "bc" for each in cluster.ceph("tell", f"mon.{mon}", "sessions")]
    return f"client.{client}" in {each["entity_name"] for each in sessions}
