"""Ceph primary and backup storages of a management node, on a real cluster."""

from __future__ import annotations

import hashlib
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ceph.cluster import Cluster
from tests.helpers import wait_until
from tests.integration.agent.test_storageagent import IMAGE, MIB, Web
from tests.node import Node, Rest

PRIMARY, BACKUP = "/primary-storage/ceph", "/backup-storage/ceph"
PASSWORD = "p@ss:w/rd?#"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Node]:
    environment = {
        "HARDPOINT_LOCAL_AGENT_CEPH": str(cluster.configuration),
        "PATH": cluster.programs.path(),
    }
    made = Node(tmp_path_factory.mktemp("ceph-node") / "state", environment)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def admin(node: Node) -> Rest:
    return node.rest().logged_in()


@pytest.fixture
def zone(admin: Rest) -> str:
    return str(admin.create("/zones", name="zone")["uuid"])


def mon_url(cluster: Cluster, number: int) -> str:
    monitor = cluster.monitors[number]
    return f"root:{PASSWORD}@{monitor.address}/?monPort={monitor.port + 1}"


def statuses(storage: dict[str, Any]) -> dict[str, str]:
    return {mon["hostname"]: mon["status"] for mon in storage["mons"]}


def delete(admin: Rest, path: str) -> None:
    answer = admin.run("DELETE", path, None)
    assert answer.status == 200, answer


def expunge(admin: Rest, image: str) -> None:
    assert admin.run("DELETE", f"/images/{image}", None).status == 200
    answer = admin.run("PUT", f"/images/{image}/actions", {"expungeImage": {}})
    assert answer.status == 200, answer


def setting(admin: Rest, name: str, value: str) -> None:
    path = f"/global-configurations/ceph/{name}/actions"
    assert admin.run("PUT", path, {"updateGlobalConfig": {"value": value}}).status == 200


def test_a_primary_storage_with_its_pools_and_monitors(
    admin: Rest, node: Node, cluster: Cluster, zone: str
) -> None:
    setting(admin, "primaryStorage.deletePool", "true")
    root = cluster.make_pool("named-root")
    cluster.wait_for_quorum()
    made = admin.create(
        PRIMARY,
        monUrls=[mon_url(cluster, 0), mon_url(cluster, 1)],
        name="ceph",
        zoneUuid=zone,
        rootVolumePoolName=root,
    )
    uuid = made["uuid"]
    assert (made["fsid"], made["status"], made["type"]) == (cluster.fsid, "Connected", "Ceph")
    assert made["totalCapacity"] >= made["availableCapacity"] > 0
    assert statuses(made) == {monitor.address: "Connected" for monitor in cluster.monitors[:2]}
    assert {mon["sshPassword"] for mon in made["mons"]} == {"*****"}
    assert {mon["monAddr"] for mon in made["mons"]} == {m.address for m in cluster.monitors[:2]}
    assert PASSWORD not in str(made)
    assert PASSWORD not in node.log()
    assert {(pool["poolName"], pool["type"], pool["replicatedSize"]) for pool in made["pools"]} == {
        (root, "Root", 1),
        (f"pri-v-d-{uuid}", "Data", 1),
        (f"pri-c-{uuid}", "ImageCache", 1),
    }
    again = admin.run(
        "POST", PRIMARY, {"params": {"monUrls": [mon_url(cluster, 2)], "name": "b", "zoneUuid": zone}}
    )
    assert (again.status, again.error["code"]) == (503, "SYS.1007"), again

    cluster.wait_for_quorum()
    added = admin.run("POST", f"{PRIMARY}/{uuid}/mons", {"params": {"monUrls": [mon_url(cluster, 2)]}})
    assert statuses(added.body["inventory"]) == {m.address: "Connected" for m in cluster.monitors}
    first = cluster.monitors[0].address
    removed = admin.run("DELETE", f"{PRIMARY}/{uuid}/mons?monHostnames={first}&monHostnames=nowhere", None)
    assert first not in statuses(removed.body["inventory"])
    names = "&".join(f"monHostnames={each.address}" for each in cluster.monitors[1:])
    last = admin.run("DELETE", f"{PRIMARY}/{uuid}/mons?{names}", None)
    assert (last.status, last.error["code"]) == (503, "SYS.1006"), last

    cluster.stop_monitor("b")
    try:
        wait_until(
            lambda: (
                statuses(admin.query(f"{PRIMARY}/{uuid}")[0])[cluster.monitors[1].address] == "Disconnected"
            ),
            "the monitor to be lost",
            60,
        )
        assert admin.query(f"{PRIMARY}/{uuid}")[0]["status"] == "Connected"
    finally:
        cluster.start_monitor("b")
    wait_until(
        lambda: set(statuses(admin.query(f"{PRIMARY}/{uuid}")[0]).values()) == {"Connected"},
        "the monitor to be back",
        60,
    )
    answer = admin.run("PUT", f"/primary-storage/{uuid}/actions", {"reconnectPrimaryStorage": {}})
    assert answer.body["inventory"]["status"] == "Connected", answer

    delete(admin, f"/primary-storage/{uuid}")
    assert {name for name in cluster.pools() if uuid in name} == set()
    assert root in cluster.pools()
    assert not list((node.state / "agents").glob("*/agent.toml"))


def test_pools_are_added_and_leave(admin: Rest, cluster: Cluster, zone: str) -> None:
    setting(admin, "primaryStorage.deletePool", "true")
    storage = admin.create(PRIMARY, monUrls=[mon_url(cluster, 0)], name="ceph", zoneUuid=zone)
    path = f"{PRIMARY}/{storage['uuid']}/pools"
    there = cluster.make_pool("there")
    refused = admin.run("POST", path, {"params": {"poolName": there, "isCreate": True}})
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006"), refused
    absent = admin.run("POST", path, {"params": {"poolName": "absent"}})
    assert (absent.status, absent.error["code"]) == (503, "SYS.1006"), absent
    pool = admin.create(path, poolName=there, aliasName="fast")
    assert (pool["poolName"], pool["aliasName"], pool["type"]) == (there, "fast", "Data")
    twice = admin.run("POST", path, {"params": {"poolName": there}})
    assert (twice.status, twice.error["code"]) == (503, "SYS.1007"), twice
    changed = admin.run(
        "PUT",
        f"{PRIMARY}/pools/{pool['uuid']}/actions",
        {"updateCephPrimaryStoragePool": {"aliasName": "slow", "description": "old disks"}},
    )
    assert changed.body["inventory"]["aliasName"] == "slow"
    assert admin.query(f"{PRIMARY}/pools", f"poolName={there}")[0]["description"] == "old disks"
    default = next(each for each in storage["pools"] if each["type"] == "Data")
    stays = admin.run("DELETE", f"{PRIMARY}/pools/{default['uuid']}", None)
    assert (stays.status, stays.error["code"]) == (503, "SYS.1006"), stays
    delete(admin, f"{PRIMARY}/pools/{pool['uuid']}")
    assert there in cluster.pools()
    delete(admin, f"/primary-storage/{storage['uuid']}")


def test_images_of_a_backup_storage(
    admin: Rest, node: Node, cluster: Cluster, zone: str, tmp_path: Path
) -> None:
    setting(admin, "image.expiration.time", "0")
    file = tmp_path / "disk.raw"
    file.write_bytes(IMAGE)
    pool = cluster.make_pool("images")
    made = admin.create(BACKUP, monUrls=[mon_url(cluster, 0)], name="ceph", poolName=pool)
    uuid = made["uuid"]
    assert (made["fsid"], made["poolName"], made["status"]) == (cluster.fsid, pool, "Connected")
    assert made["poolReplicatedSize"] == 1
    image = admin.create(
        "/images", name="image", url=f"file://{file}", format="raw", backupStorageUuids=[uuid]
    )
    digest = hashlib.sha256(IMAGE).hexdigest()
    assert (image["status"], image["sha256Sum"], image["size"]) == ("Ready", digest, len(IMAGE))
    (ref,) = image["backupStorageRefs"]
    assert ref["installPath"] == f"ceph://{pool}/{image['uuid']}"
    answer = admin.run(
        "PUT",
        f"/backup-storage/{uuid}/actions",
        {"exportImageFromBackupStorage": {"imageUuid": image["uuid"]}},
    )
    url = answer.body["imageUrl"]
    trust = ssl.create_default_context(cafile=str(node.state / "ca" / "ca.pem"))
    with urllib.request.urlopen(url, context=trust) as response:
        assert response.read() == IMAGE

    delete(admin, f"/backup-storage/{uuid}")
    assert cluster.names(pool) == [image["uuid"]]
    again = admin.create(
        BACKUP, monUrls=[mon_url(cluster, 1)], name="again", poolName=pool, importImages=True
    )
    (found,) = admin.query("/images", f"uuid={image['uuid']}")
    assert (found["status"], found["sha256Sum"]) == ("Ready", digest)
    expunge(admin, image["uuid"])
    assert cluster.names(pool) == []
    assert cluster.rbd("trash", "ls", "-p", pool) == []
    delete(admin, f"/backup-storage/{again['uuid']}")


def test_images_move_between_ceph_and_an_image_store(
    admin: Rest, cluster: Cluster, zone: str, tmp_path: Path
) -> None:
    setting(admin, "image.expiration.time", "0")
    file = tmp_path / "disk.raw"
    file.write_bytes(IMAGE)
    ceph = admin.create(BACKUP, monUrls=[mon_url(cluster, 0)], name="ceph")
    store = admin.create(
        "/backup-storage/image-store",
        hostname="127.0.3.1",
        username="root",
        password="unused",
        url=str(tmp_path / "store"),
        name="store",
    )
    for each in (ceph, store):
        path = f"/zones/{zone}/backup-storage/{each['uuid']}"
        assert admin.run("POST", path, None).status == 200
    image = admin.create(
        "/images", name="image", url=f"file://{file}", format="raw", backupStorageUuids=[ceph["uuid"]]
    )
    digest = hashlib.sha256(IMAGE).hexdigest()

    def move(source: dict[str, Any], target: dict[str, Any]) -> None:
        found = admin.get(f"/backup-storage/{source['uuid']}/migration-candidates").body["inventories"]
        assert target["uuid"] in {each["uuid"] for each in found}
        wanted = {"srcBackupStorageUuid": source["uuid"], "dstBackupStorageUuid": target["uuid"]}
        answer = admin.run(
            "PUT",
            f"/backup-storage/images/{image['uuid']}/actions",
            {"backupStorageMigrateImage": wanted},
        )
        assert answer.status == 200, answer
        moved = answer.body["inventory"]
        assert (moved["status"], moved["sha256Sum"]) == ("Ready", digest)
        assert [ref["backupStorageUuid"] for ref in moved["backupStorageRefs"]] == [target["uuid"]]

    move(ceph, store)
    assert cluster.names(ceph["poolName"]) == []
    move(store, ceph)
    assert cluster.names(ceph["poolName"]) == [image["uuid"]]
    expunge(admin, image["uuid"])
    for each in (ceph, store):
        delete(admin, f"/backup-storage/{each['uuid']}")


def test_a_killed_node_goes_on_with_an_image(node: Node, cluster: Cluster, tmp_path: Path) -> None:
    admin = node.rest().logged_in()
    setting(admin, "image.expiration.time", "0")
    web = Web()
    web.go_on.clear()
    web.break_after = 5 * MIB
    storage = admin.create(BACKUP, monUrls=[mon_url(cluster, 0)], name="ceph")
    wanted = {"name": "image", "url": web.url.replace("user:hunter2@", ""), "format": "raw"}
    accepted = admin.call("POST", "/images", {"params": {**wanted, "backupStorageUuids": [storage["uuid"]]}})
    assert accepted.status == 202, accepted
    assert web.paused.wait(60)
    node.kill()
    web.go_on.set()
    node.start()
    admin = node.rest().logged_in()
    answer = admin.wait(accepted.location.partition("/zstack")[1] + accepted.location.partition("/zstack")[2])
    assert answer.status == 200, answer
    image = answer.body["inventory"]
    assert (image["status"], image["sha256Sum"]) == ("Ready", hashlib.sha256(IMAGE).hexdigest())
    assert cluster.names(storage["poolName"]) == [image["uuid"]]
    expunge(admin, image["uuid"])
    assert cluster.names(storage["poolName"]) == []
    delete(admin, f"/backup-storage/{storage['uuid']}")
    web.server.shutdown()
