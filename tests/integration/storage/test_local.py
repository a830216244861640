"""Volumes on local storage: made, kept, grown, moved between two agents, and gone without a trace."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.integration.storage.conftest import MB, TIMEOUT_S, Place
from tests.node import Answer


def write(path: Path, pattern: int, at: int = 0) -> None:
    """Write into a disk image, as a VM would."""
    run("qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {at} 64k", str(path))


def holds(path: Path, pattern: int, at: int = 0) -> bool:
    said = run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {pattern} {at} 64k", str(path))
    return "Pattern verification failed" not in said


def run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def failed(answer: Answer, code: str) -> str:
    assert (answer.status, answer.error["code"]) == (503, code), answer
    details: str = answer.error["details"]
    return details


def snapshot(place: Place, volume: dict[str, Any], name: str) -> dict[str, Any]:
    return place.admin.create(f"/volumes/{volume['uuid']}/volume-snapshots", name=name)


def purge(place: Place, volume: dict[str, Any]) -> None:
    """Delete and expunge a volume."""
    assert place.admin.run("DELETE", f"/volumes/{volume['uuid']}", None).status == 200
    assert place.act(f"/volumes/{volume['uuid']}/actions", "expungeDataVolume").body == {}


def test_a_volume_is_where_its_inventory_says_and_its_room_is_given_back(place: Place) -> None:
    before = place.available(0), place.storage_row()["availableCapacity"]
    volume = place.volume(64 * MB)
    expected = {"status": "Ready", "state": "Enabled", "type": "Data", "format": "qcow2", "size": 64 * MB}
    assert expected.items() <= volume.items()
    assert place.file(0, volume["installPath"]).is_file()
    assert (place.available(0), place.storage_row()["availableCapacity"]) == tuple(
        b - 64 * MB for b in before
    )
    (ref,) = place.admin.query(
        "/primary-storage/local-storage/resource-refs", f"resourceUuid={volume['uuid']}"
    )
    assert (ref["hostUuid"], ref["size"], ref["resourceType"]) == (place.hosts[0], 64 * MB, "VolumeVO")
    purge(place, volume)
    assert place.files(0) == []
    assert (place.available(0), place.storage_row()["availableCapacity"]) == before


def test_a_deleted_volume_can_be_recovered_until_it_is_expunged(place: Place) -> None:
    volume = place.volume()
    path = f"/volumes/{volume['uuid']}/actions"
    assert "not Deleted" in failed(place.act(path, "expungeDataVolume"), "VOLUME.1000")
    assert place.admin.run("DELETE", f"/volumes/{volume['uuid']}", None).body == {}
    assert place.show(volume)["status"] == "Deleted"
    assert "Deleted, not Ready" in failed(place.act(path, "syncVolumeSize"), "VOLUME.1000")
    assert place.act(path, "recoverDataVolume").body["inventory"]["status"] == "Ready"
    purge(place, volume)
    assert place.admin.run("DELETE", f"/volumes/{volume['uuid']}", None).body == {}


def test_a_volume_of_an_offering_has_its_size(place: Place) -> None:
    offering = place.admin.create("/disk-offerings", name="small", diskSize=3 * MB)
    volume = place.volume(diskSize=None, diskOfferingUuid=offering["uuid"])
    assert (volume["size"], volume["diskOfferingUuid"]) == (3 * MB, offering["uuid"])
    purge(place, volume)
    disable = {"changeDiskOfferingState": {"stateEvent": "disable"}}
    place.admin.run("PUT", f"/disk-offerings/{offering['uuid']}/actions", disable)
    params = {"name": "v", "diskOfferingUuid": offering["uuid"]}
    answer = place.admin.run("POST", "/volumes/data", {"params": params})
    assert "is Disabled" in failed(answer, "SYS.1006")


def test_a_volume_without_a_storage_waits_for_its_first_vm(place: Place) -> None:
    volume = place.admin.create("/volumes/data", name="v", diskSize=MB)
    assert volume["status"] == "NotInstantiated"
    assert not {"installPath", "primaryStorageUuid", "format"} & set(volume)
    place.admin.run("DELETE", f"/volumes/{volume['uuid']}", None)
    assert place.admin.query("/volumes", f"uuid={volume['uuid']}") == []


@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        ({"systemTags": []}, "SYS.1007", "no host is named"),
        ({"systemTags": ["localStorage::hostUuid::" + "0" * 32]}, "SYS.1003", "0" * 32),
        ({"primaryStorageUuid": "0" * 32}, "SYS.1003", "0" * 32),
        ({"diskSize": 2**50}, "PS.1000", "has too little room"),
    ],
)
def test_a_volume_that_cannot_be_made_leaves_nothing(
    place: Place, more: dict[str, Any], code: str, reason: str
) -> None:
    before = place.available(0)
    tag = f"localStorage::hostUuid::{place.hosts[0]}"
    wanted = {"name": "none", "diskSize": MB, "primaryStorageUuid": place.storage, "systemTags": [tag]}
    answer = place.admin.run("POST", "/volumes/data", {"params": {**wanted, **more}})
    assert reason in failed(answer, code)
    assert place.admin.query("/volumes", "name=none") == []
    assert place.files(0) == []
    assert place.available(0) == before


def test_a_volume_grows_and_its_room_with_it(place: Place) -> None:
    volume = place.volume(4 * MB)
    before = place.available(0)
    path = f"/volumes/data/resize/{volume['uuid']}/actions"
    grown = place.act(path, "resizeDataVolume", size=10 * MB).body["inventory"]
    assert (grown["size"], grown["status"]) == (10 * MB, "Ready")
    assert place.available(0) == before - 6 * MB
    assert "cannot become smaller" in failed(place.act(path, "resizeDataVolume", size=MB), "SYS.1007")
    assert "too little room" in failed(place.act(path, "resizeDataVolume", size=2**50), "PS.1000")
    assert place.show(volume) == grown
    other = f"/volumes/resize/{volume['uuid']}/actions"
    assert "use ResizeDataVolume" in failed(place.act(other, "resizeRootVolume", size=20 * MB), "SYS.1007")
    purge(place, volume)


def test_snapshots_keep_what_was_and_a_volume_goes_back_to_them(place: Place) -> None:
    volume = place.volume()
    write(place.file(0, volume["installPath"]), 1)
    first = snapshot(place, volume, "first")
    assert (first["latest"], first["status"], first["volumeUuid"]) == (True, "Ready", volume["uuid"])
    assert first["primaryStorageInstallPath"] == volume["installPath"]
    write(place.file(0, place.show(volume)["installPath"]), 2)
    second = snapshot(place, volume, "second")
    assert (second["parentUuid"], second["treeUuid"]) == (first["uuid"], first["treeUuid"])
    write(place.file(0, place.show(volume)["installPath"]), 3)
    for wanted, pattern in ((first, 1), (second, 2)):
        path = f"/volume-snapshots/{wanted['uuid']}/actions"
        assert place.act(path, "revertVolumeFromSnapshot").body == {}
        now = place.show(volume)
        assert now["status"] == "Ready"
        assert holds(place.file(0, now["installPath"]), pattern)
        (latest,) = place.admin.query("/volume-snapshots", f"volumeUuid={volume['uuid']}", "latest=true")
        assert latest["uuid"] == wanted["uuid"]
    assert len(place.files(0)) == 3
    purge(place, volume)
    assert place.files(0) == []
    assert place.admin.query("/volume-snapshots", f"volumeUuid={volume['uuid']}") == []


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_deleted_snapshot_takes_the_later_ones_along_and_nothing_of_the_volume(
    place: Place, which: int
) -> None:
    volume = place.volume()
    made = []
    for number in range(3):
        write(place.file(0, place.show(volume)["installPath"]), number + 1, number * 65536)
        made.append(snapshot(place, volume, f"s{number}"))
    write(place.file(0, place.show(volume)["installPath"]), 9, 3 * 65536)
    room = place.available(0)
    assert place.admin.run("DELETE", f"/volume-snapshots/{made[which]['uuid']}", None).body == {}
    left = place.admin.query("/volume-snapshots", f"volumeUuid={volume['uuid']}", sort="+createDate")
    assert {s["uuid"] for s in left} == {s["uuid"] for s in made[:which]}
    assert [s["uuid"] for s in left if s["latest"]] == [s["uuid"] for s in made[:which]][-1:]
    now = place.show(volume)
    assert now["status"] == "Ready"
    top = place.file(0, now["installPath"])
    assert all(holds(top, number + 1, number * 65536) for number in range(3))
    assert holds(top, 9, 3 * 65536)
    assert len(place.files(0)) == which + 1
    assert place.available(0) > room
    assert place.admin.run("DELETE", f"/volume-snapshots/{made[which]['uuid']}", None).body == {}
    purge(place, volume)


def test_a_volume_moves_to_another_host_with_its_snapshots(place: Place) -> None:
    before = [place.available(0), place.available(1)]
    volume = place.volume(16 * MB)
    write(place.file(0, volume["installPath"]), 1)
    first = snapshot(place, volume, "first")
    write(place.file(0, place.show(volume)["installPath"]), 2, 65536)
    files = place.files(0)
    targets = place.admin.get(f"/volumes/{volume['uuid']}/migration-target-hosts").body["inventories"]
    assert [host["uuid"] for host in targets] == [place.hosts[1]]
    path = f"/primary-storage/local-storage/volumes/{volume['uuid']}/actions"
    moved = place.act(path, "localStorageMigrateVolume", destHostUuid=place.hosts[1])
    assert moved.status == 200, moved
    expected = {"hostUuid": place.hosts[1], "resourceUuid": volume["uuid"], "resourceType": "VolumeVO"}
    assert expected.items() <= moved.body["inventory"].items()
    assert (place.files(0), place.files(1)) == ([], files)
    now = place.show(volume)
    assert now["status"] == "Ready"
    top = place.file(1, now["installPath"])
    assert holds(top, 1)
    assert holds(top, 2, 65536)
    assert place.available(0) == before[0]
    again = place.act(path, "localStorageMigrateVolume", destHostUuid=place.hosts[1])
    assert "is on host 127.0.2.2 already" in failed(again, "SYS.1007")
    assert place.act(f"/volume-snapshots/{first['uuid']}/actions", "revertVolumeFromSnapshot").body == {}
    purge(place, volume)
    assert place.files(1) == []
    assert [place.available(0), place.available(1)] == before


def test_a_volume_moves_to_another_storage_of_its_host_and_back(place: Place) -> None:
    other = place.new_storage("/other_ps")
    volume = place.volume(64 * MB)
    write(place.file(0, volume["installPath"]), 5)
    snapshot(place, volume, "s")
    candidates = f"/primary-storage/volumes/{volume['uuid']}/migration-candidates"
    assert place.admin.get(candidates).body == {"inventories": []}, "its host does not have it"
    path = f"/primary-storage/volumes/{volume['uuid']}/actions"
    refused = failed(place.act(path, "primaryStorageMigrateVolume", dstPrimaryStorageUuid=other), "SYS.1007")
    assert other in refused
    assert place.attach(other).status == 200
    assert [s["uuid"] for s in place.admin.get(candidates).body["inventories"]] == [other]
    free = place.available(0)
    for storage, root in ((other, "/other_ps"), (place.storage, "/zstack_ps")):
        moved = place.act(path, "primaryStorageMigrateVolume", dstPrimaryStorageUuid=storage)
        assert moved.status == 200, moved
        found = moved.body["inventory"]
        assert (found["primaryStorageUuid"], found["status"]) == (storage, "Ready")
        assert found["installPath"].startswith(root)
        assert holds(place.file(0, found["installPath"]), 5)
        (kept,) = place.admin.query("/volume-snapshots", f"volumeUuid={volume['uuid']}")
        assert kept["primaryStorageUuid"] == storage
    assert place.available(0) == free
    purge(place, volume)
    assert place.files(0) == []
    assert place.detach(other).status == 200
    assert place.admin.run("DELETE", f"/primary-storage/{other}", None).status == 200


def test_what_an_earlier_moving_left_at_the_target_is_not_taken_for_the_copy(place: Place) -> None:
    volume = place.volume(16 * MB)
    here = place.file(0, volume["installPath"])
    write(here, 1)
    left = place.file(1, volume["installPath"])
    left.parent.mkdir(parents=True)
    left.write_bytes(here.read_bytes())
    write(here, 7)
    path = f"/primary-storage/local-storage/volumes/{volume['uuid']}/actions"
    moved = place.act(path, "localStorageMigrateVolume", destHostUuid=place.hosts[1])
    assert moved.status == 200, moved
    assert holds(place.file(1, place.show(volume)["installPath"]), 7)
    purge(place, volume)
    assert place.files(1) == []


def test_no_more_is_promised_than_there_is_however_many_ask_at_once(place: Place) -> None:
    room = place.available(0) - 1024**3  # what is kept free
    size, fitting = room // 5, 5
    tag = f"localStorage::hostUuid::{place.hosts[0]}"
    wanted = {"name": "many", "diskSize": size, "primaryStorageUuid": place.storage, "systemTags": [tag]}

    def create(_number: int) -> Answer:
        return place.admin.run("POST", "/volumes/data", {"params": wanted})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(create, range(20)))
    assert sorted(a.status for a in answers) == [200] * fitting + [503] * (20 - fitting)
    assert {a.error["code"] for a in answers if a.status == 503} == {"PS.1000"}
    assert place.available(0) >= 1024**3
    for volume in place.admin.query("/volumes", "name=many"):
        purge(place, volume)
    assert place.available(0) == room + 1024**3


def test_over_provisioning_promises_more_than_there_is(place: Place) -> None:
    ratio = "/global-configurations/primaryStorage/overProvisioning.ratio/actions"
    before = place.available(0)
    place.act(ratio, "updateGlobalConfig", value="4")
    volume = place.volume(before * 2)
    assert before - place.available(0) == before // 2
    place.act(ratio, "updateGlobalConfig", value="1")
    purge(place, volume)
    assert place.available(0) == before


def test_capacity_is_counted_anew_from_what_is_there(place: Place) -> None:
    volume = place.volume(32 * MB)
    before = place.storage_row()
    path = f"/primary-storage/{place.storage}/actions"
    synced = place.act(path, "syncPrimaryStorageCapacity").body["inventory"]
    same = ("totalCapacity", "availableCapacity", "totalPhysicalCapacity", "systemUsedCapacity")
    assert {key: synced[key] for key in same} == {key: before[key] for key in same}
    purge(place, volume)


def test_a_storage_takes_nothing_new_while_it_is_disabled(place: Place) -> None:
    path = f"/primary-storage/{place.storage}/actions"
    for event, state in (("disable", "Disabled"), ("maintain", "Maintenance")):
        changed = place.act(path, "changePrimaryStorageState", stateEvent=event).body["inventory"]
        assert changed["state"] == state
        tag = f"localStorage::hostUuid::{place.hosts[0]}"
        wanted = {"name": "v", "diskSize": MB, "primaryStorageUuid": place.storage, "systemTags": [tag]}
        answer = place.admin.run("POST", "/volumes/data", {"params": wanted})
        assert f"is {state}" in failed(answer, "SYS.1006")
    place.act(path, "changePrimaryStorageState", stateEvent="enable")
    purge(place, place.volume())


def test_a_storage_with_volumes_can_neither_be_detached_nor_deleted(place: Place) -> None:
    volume = place.volume()
    assert "Volume" in failed(place.detach(place.storage), "SYS.1006")
    deletion = place.admin.run("DELETE", f"/primary-storage/{place.storage}", None)
    assert "is attached to cluster" in failed(deletion, "SYS.1006")
    purge(place, volume)


def test_a_storage_comes_and_goes(place: Place) -> None:
    uuid = place.new_storage("/second")
    row = place.storage_row(uuid)
    assert (row["status"], row["attachedClusterUuids"], row["totalCapacity"]) == ("Connected", [], 0)
    attached = place.attach(uuid).body["inventory"]
    assert attached["attachedClusterUuids"] == [place.cluster]
    assert attached["totalCapacity"] > 0
    found = place.admin.query("/primary-storage", f"attachedClusterUuids?={place.cluster}")
    assert uuid in {storage["uuid"] for storage in found}
    assert "already" in failed(place.attach(uuid), "SYS.1006")
    twin = place.new_storage("/second")
    assert "has /second already" in failed(place.attach(twin), "SYS.1006")
    detached = place.detach(uuid).body["inventory"]
    assert (detached["attachedClusterUuids"], detached["totalCapacity"]) == ([], 0)
    for storage in (uuid, twin):
        assert place.admin.run("DELETE", f"/primary-storage/{storage}", None).body == {}
        assert place.admin.query("/primary-storage", f"uuid={storage}") == []


def test_a_host_that_comes_later_gets_the_storages_of_its_cluster(place: Place) -> None:
    from tests.helpers import wait_until

    before = place.storage_row()["totalCapacity"]
    uuid = place.add_host("127.0.2.3")
    query = f"/primary-storage/local-storage/{place.storage}/capacities?hostUuid={uuid}"
    wait_until(lambda: place.admin.get(query).status == 200, "the storage to be initialised", 60)
    assert place.storage_row()["totalCapacity"] > before
    assert place.admin.run("DELETE", f"/hosts/{uuid}", None).status == 200
    assert place.storage_row()["totalCapacity"] == before


def test_a_storage_that_a_host_cannot_use_when_it_is_connected_is_tried_again(place: Place) -> None:
    folder, away = place.file(0, "/zstack_ps"), place.file(0, "/away")
    folder.rename(away)
    folder.write_text("no folder")  # as when a disk is mounted later than the agent starts
    place.kill_agent(0)
    tag = f"localStorage::hostUuid::{place.hosts[0]}"
    wanted = {"name": "v", "diskSize": MB, "primaryStorageUuid": place.storage, "systemTags": [tag]}

    def make() -> Answer:
        return place.admin.run("POST", "/volumes/data", {"params": wanted})

    def refusal() -> str:
        answer = make()
        assert answer.status == 503, answer
        return str(answer.error["details"])

    wait_until(lambda: "cannot use it now" in refusal(), "it is seen that the host cannot", TIMEOUT_S)
    place.wait_for_host(0, "Connected")
    folder.unlink()
    away.rename(folder)
    wait_until(lambda: make().status == 200, "the storage is usable again", TIMEOUT_S)
