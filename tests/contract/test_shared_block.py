"""Shared-block storages (manual 4.4.19) beyond what all operations are held to."""

from __future__ import annotations

from tests.contract.conftest import World
from tests.contract.params import new_uuid

GROUPS = "/primary-storage/sharedblockgroup"


def add(world: World, *wwids: str) -> str:
    params = {**world.params("AddSharedBlockGroupPrimaryStorage"), "diskUuids": list(wwids)}
    uuid: str = world.admin.create(GROUPS, **params)["uuid"]
    return uuid


def test_the_printed_request_is_taken_without_its_url(world: World) -> None:
    wanted = {
        "diskUuids": ["1b5682b663b937a59adb9e318cab6b05"],
        "name": "shared-block-group-1",
        "type": "SharedBlock",
        "zoneUuid": world.zone["uuid"],
    }
    added = world.admin.create(GROUPS, **wanted)
    assert (added["type"], added["state"], added["status"]) == ("SharedBlock", "Enabled", "Disconnected")
    assert added["attachedClusterUuids"] == []
    (group,) = world.admin.query(f"{GROUPS}/{added['uuid']}")
    assert group["sharedBlockGroupType"] == "LvmVolumeGroupBasic"
    (lun,) = group["sharedBlocks"]
    assert (lun["diskUuid"], lun["type"]) == (wanted["diskUuids"][0], "LvmLogicalVolumeBasic")


def test_a_disk_belongs_to_one_storage_however_its_wwid_is_written(world: World) -> None:
    wwid = world.wwid()
    add(world, wwid)
    for spelling in (wwid, f"wwn-0x{wwid[1:]}", f"scsi-{wwid}"):
        params = {**world.params("AddSharedBlockGroupPrimaryStorage"), "diskUuids": [spelling]}
        refused = world.admin.run("POST", GROUPS, {"params": params})
        assert (refused.status, refused.error["code"]) == (503, "SYS.1007")
    twice = {**params, "diskUuids": [world.wwid()] * 2}
    assert world.admin.call("POST", GROUPS, {"params": twice}).status == 400


def test_hosts_have_numbers_and_the_state_of_their_lease(world: World) -> None:
    group = world.block_group()
    for path in ("/sharedblock-group/host-refs", f"/sharedblock-group/{group}/host-refs"):
        refs = [
            ref for ref in world.admin.get(path).body["inventories"] if ref["primaryStorageUuid"] == group
        ]
        (ref,) = refs
        assert (ref["hostId"], ref["status"], ref["lockState"]) == (1, "Connected", "Held")
    (lun,) = world.admin.query(f"/sharedblock-group/sharedblock/{world.lun()}")
    assert (lun["sharedBlockGroupUuid"], lun["status"]) == (group, "Connected")
    assert world.admin.get("/sharedblock-group/").status == 200


def test_candidates_are_what_no_storage_has_and_others_say_why(world: World) -> None:
    world.block_group()
    path, cluster = f"{GROUPS}/sharedblock-candidates", world.cluster["uuid"]
    free = world.admin.get(path, clusterUuid=cluster).body["results"]
    assert all("reason" not in disk for disk in free)
    everything = world.admin.get(path, clusterUuid=cluster, all="true").body["results"]
    taken = [disk for disk in everything if "reason" in disk]
    assert any("belongs to primary storage" in disk["reason"] for disk in taken)
    assert not {disk["wwid"] for disk in free} & {disk["wwid"] for disk in taken}
    nobody = world.admin.get(path, clusterUuid=world.new_cluster())
    assert nobody.error["code"] == "SYS.1006"


def test_capacity_is_refreshed_with_and_without_a_luns_uuid(world: World) -> None:
    path = f"{GROUPS}/{world.block_group()}/sharedblocks"
    for each in (f"{path}/{world.lun()}", f"{path}/actions/refresh"):
        answer = world.admin.run("POST", each, {"params": {}})
        assert answer.status == 200, answer
        assert answer.body["inventory"]["totalCapacity"] > 0
    absent = world.admin.run("POST", f"{path}/{new_uuid()}", {"params": {}})
    assert absent.error["code"] == "SYS.1003"


def test_a_storage_without_a_host_takes_no_lun(world: World) -> None:
    uuid = add(world, world.wwid())
    body = {"params": {"diskUuid": world.wwid()}}
    refused = world.admin.run("POST", f"{GROUPS}/{uuid}/sharedblocks", body)
    assert (refused.status, refused.error["code"]) == (503, "PS.1003")
    (group,) = world.admin.query(f"{GROUPS}/{uuid}")
    assert len(group["sharedBlocks"]) == 1, "the row of the LUN that was not taken is gone"


def test_recovery_of_what_is_well_takes_nothing(world: World) -> None:
    group = world.block_group()
    (ref,) = world.admin.query("/sharedblock-group/host-refs", f"primaryStorageUuid={group}")
    body = {"recoverSharedBlockGroup": {"hostUuid": ref["hostUuid"]}}
    answer = world.admin.run("PUT", f"{GROUPS}/{group}/actions", body)
    assert answer.status == 200, answer
    assert (answer.body["steps"], answer.body["lockState"]) == ([], "Held")


def test_volumes_snapshots_and_their_migration_are_those_of_other_storages(world: World) -> None:
    group = world.block_group()
    wanted = {"name": "v", "diskSize": 64 * 1024**2, "primaryStorageUuid": group}
    volume = world.admin.create("/volumes/data", **wanted)
    assert volume["installPath"] == f"sharedblock://{group}/{volume['uuid']}"
    assert volume["actualSize"] >= 0
    path = f"/volumes/{volume['uuid']}"
    snapshot = world.admin.create(f"{path}/volume-snapshots", name="s")
    assert snapshot["primaryStorageInstallPath"] == f"sharedblock://{group}/{volume['uuid']}"
    body = {"resizeDataVolume": {"size": 128 * 1024**2}}
    resized = world.admin.run("PUT", f"/volumes/data/resize/{volume['uuid']}/actions", body)
    assert resized.body["inventory"]["size"] == 128 * 1024**2
    assert world.admin.run("DELETE", f"/volume-snapshots/{snapshot['uuid']}", None).status == 200
    assert world.admin.run("DELETE", path, None).status == 200
    assert world.admin.run("PUT", f"{path}/actions", {"expungeDataVolume": {}}).status == 200
    assert not world.admin.query("/volumes", f"uuid={volume['uuid']}")
