"""Images on real hosts: VMs and volumes of them, whatever is killed or full in the middle of a copy."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab import storage as san_storage
from tests.lab.calls import MB, added, gone, made, purge, run, volume
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab
from tests.libvirtd import OBEY_POWER_BUTTON, boot_sector
from tests.node import Answer, Rest

pytestmark = pytest.mark.takes(minutes=20)

TIMEOUT_S = 300.0
STORE = "/srv/images"
SIZE = 96 * MB
STORE_PID = "$(systemctl show -P MainPID hardpoint-storageagent)"
FREE = "-not -path '*/.hardpoint/*' -not -path '*/.trash/*'"


@pytest.fixture(scope="module")
def san(lab: Lab, fleet: Fleet) -> Guest:
    del fleet  # brings it up
    return lab.machine("san")


@pytest.fixture(scope="module")
def guests(lab: Lab, fleet: Fleet) -> list[Guest]:
    return [lab.machine(name) for name in fleet.hosts]


@pytest.fixture(scope="module")
def hosts(fleet: Fleet) -> list[str]:
    return list(fleet.hosts.values())


@pytest.fixture(scope="module")
def zone(fleet: Fleet) -> str:
    return fleet.zone


@pytest.fixture(scope="module")
def store(fleet: Fleet, san: Guest, zone: str) -> str:
    """An image store on the `san` guest; the last test removes it."""
    login = {"hostname": san.address, "username": "root", "password": san.password}
    params = {"name": "images", "url": STORE, **login}
    uuid = made(run(fleet.admin, "POST", "/backup-storage/image-store", {"params": params}))["uuid"]
    assert run(fleet.admin, "POST", f"/zones/{zone}/backup-storage/{uuid}", None).status == 200
    return str(uuid)


@pytest.fixture(scope="module")
def content(san: Guest) -> str:
    """The digest of a file that no copy can be made of in no time."""
    return san.run(f"head -c {SIZE} /dev/urandom >/srv/data.raw && sha256sum </srv/data.raw").split()[0]


def image(admin: Rest, store: str, name: str, **more: Any) -> Answer:
    wanted = {"name": name, "url": f"file:///srv/{name}.raw", "format": "raw", "backupStorageUuids": [store]}
    return run(admin, "POST", "/images", {"params": wanted | more})


def volume_of(admin: Rest, image: str, storage: str, *tags: str) -> Answer:
    body = {"name": "copy", "primaryStorageUuid": storage, "systemTags": list(tags)}
    return run(admin, "POST", f"/volumes/data/from/data-volume-templates/{image}", {"params": body})


def drop_image(admin: Rest, image: str) -> None:
    assert run(admin, "DELETE", f"/images/{image}", None).status == 200
    body: dict[str, Any] = {"expungeImage": {}}
    assert run(admin, "PUT", f"/images/{image}/actions", body).status == 200


def empty_cache(admin: Rest, storage: str) -> None:
    body: dict[str, Any] = {"cleanUpImageCacheOnPrimaryStorage": {}}
    assert run(admin, "PUT", f"/primary-storage/{storage}/actions", body).status == 200


def once(guest: Guest, condition: str, command: str, mark: str) -> None:
    """Have a guest do something as soon as a condition holds, for two minutes; `done` says whether it has."""
    off = f"[ -e /root/{mark}.off ]"
    script = f"until {off} || {condition}; do :; done; {off} || {{ {command}; echo done >/root/{mark}; }}"
    guest.run(f"nohup timeout 120 sh -c '{script}' >/dev/null 2>&1 </dev/null & sleep 0.1")


def disarm(guest: Guest, mark: str) -> None:
    """Have it not do so any more."""
    guest.run(f"touch /root/{mark}.off")


def done(guest: Guest, mark: str) -> bool:
    return guest.try_run(f"grep -q done /root/{mark}").returncode == 0


def digest(guest: Guest, path: str) -> str:
    raw = "/root/seen.raw"
    return guest.run(f"qemu-img convert -O raw {path} {raw} && sha256sum <{raw} && rm {raw}").split()[0]


@pytest.fixture(scope="module")
def template(fleet: Fleet, san: Guest, store: str, content: str) -> str:
    """An image of `content`. The store's daemon is killed while the image comes in."""
    assert content
    some = f"[ $(du -sm {STORE} | cut -f1) -gt {SIZE // MB // 4} ]"
    once(san, some, f"kill -9 {STORE_PID}", "killed")
    answer = image(fleet.admin, store, "data", mediaType="DataVolumeTemplate")
    assert done(san, "killed")
    if answer.status != 200:  # an emulated server may take longer to start its daemon than the node waits
        assert answer.error["code"] in ("BS.1003", "SYS.1006"), answer
        wait_until(lambda: _state_of(fleet.admin, store) == "Connected", "the store to be back", TIMEOUT_S)
        assert fleet.admin.query("/images", "status=Ready") == []
        answer = image(fleet.admin, store, "data", mediaType="DataVolumeTemplate")
    return str(made(answer)["uuid"])


def test_an_image_comes_in_though_its_store_is_killed(fleet: Fleet, template: str, store: str) -> None:
    (row,) = fleet.admin.query(f"/images/{template}")
    assert (row["status"], row["size"]) == ("Ready", SIZE)
    assert [ref["backupStorageUuid"] for ref in row["backupStorageRefs"]] == [store]


def test_a_volume_of_an_image_is_whole_though_agents_are_killed_in_the_middle(
    fleet: Fleet, guests: list[Guest], hosts: list[str], san: Guest, template: str, content: str
) -> None:
    admin = fleet.admin
    san.run(f"mkdir -p {san_storage.EXPORT}/copies")
    storage = added(admin, fleet.cluster, "nfs", f"{san.address}:{san_storage.EXPORT}/copies")
    mounted = f"/opt/zstack/nfsprimarystorage/prim-{storage}"
    for name, guest in zip(fleet.hosts, guests, strict=True):
        kill = "kill -9 $(systemctl show -P MainPID hardpoint-kvmagent)"
        once(guest, f"(find {mounted} -name *.partial | grep -q .)", kill, f"cut-{name}")
    answer = volume_of(admin, template, storage)
    assert any(done(guest, f"cut-{name}") for name, guest in zip(fleet.hosts, guests, strict=True))
    for name, guest in zip(fleet.hosts, guests, strict=True):
        disarm(guest, f"cut-{name}")  # another copy may have to be made
    fleet.wait_until_connected(TIMEOUT_S)
    wait_until(lambda: _status(admin, storage) == "Connected", "the storage to be back", TIMEOUT_S)
    if answer.status != 200:  # an emulated host may take longer to start its agent than the node waits
        assert answer.error["code"] in ("HOST.1003", "PS.1003", "SYS.1006"), answer
        assert admin.query("/volumes") == []
        answer = volume_of(admin, template, storage)
    copy = made(answer)
    assert digest(guests[0], copy["installPath"]) == content
    purge(admin, copy)
    empty_cache(admin, storage)
    assert san.run(f"find {san_storage.EXPORT}/copies -type f {FREE}") == ""
    gone(admin, fleet.cluster, storage)


def test_a_copy_that_fills_the_disk_leaves_nothing_and_goes_when_there_is_room(
    fleet: Fleet, guests: list[Guest], hosts: list[str], template: str, content: str
) -> None:
    admin = fleet.admin
    for guest in guests:
        guest.run(
            "truncate -s 400M /root/small.img && mkfs.ext4 -q -m 0 /root/small.img"
            " && mkdir -p /small && mount -o loop /root/small.img /small"
        )
    reserved = "/global-configurations/primaryStorage/reservedCapacity/actions"
    assert run(admin, "PUT", reserved, {"updateGlobalConfig": {"value": "0"}}).status == 200
    storage = added(admin, fleet.cluster, "local-storage", "/small/ps")
    some = "(find /small/ps -name *.partial | grep -q .)"
    once(guests[0], some, "dd if=/dev/zero of=/small/junk bs=1M", "full")
    tag = f"localStorage::hostUuid::{hosts[0]}"
    refused = volume_of(admin, template, storage, tag)
    assert refused.status == 503, refused
    wait_until(lambda: done(guests[0], "full"), "the disk to be full", TIMEOUT_S)
    assert "No space left" in str(refused.error), refused
    left = f"find /small/ps -type f {FREE}"
    assert guests[0].run(left) == ""
    assert admin.query("/volumes") == []
    fleet.wait_until_connected(60)
    guests[0].run("rm /small/junk")
    _until_there_is_room(admin, storage, hosts[0])
    copy = made(volume_of(admin, template, storage, tag))
    assert digest(guests[0], copy["installPath"]) == content
    # The node dies while the volume moves: it goes on, and the volume is in one place.
    path = f"/primary-storage/local-storage/volumes/{copy['uuid']}/actions"
    location = admin.call("PUT", path, {"localStorageMigrateVolume": {"destHostUuid": hosts[1]}}).location
    guests[1].wait_for('[ -n "$(find /small/ps -name *.partial)" ]', TIMEOUT_S)
    fleet.node.kill()
    fleet.node.start()
    admin.url = fleet.node.url
    moved = made(admin.wait("/api-jobs/" + location.rpartition("/")[2], TIMEOUT_S))
    assert moved["hostUuid"] == hosts[1]
    (now,) = admin.query(f"/volumes/{copy['uuid']}")
    assert digest(guests[1], now["installPath"]) == content
    purge(admin, copy)
    empty_cache(admin, storage)
    assert [guest.run(left) for guest in guests] == ["", ""]
    gone(admin, fleet.cluster, storage)
    for guest in guests:
        guest.run("umount /small && rm /root/small.img")


def _status(admin: Rest, storage: str) -> str:
    (row,) = admin.query(f"/primary-storage/{storage}")
    return str(row["status"])


def _state_of(admin: Rest, store: str) -> str:
    (row,) = admin.query(f"/backup-storage/{store}")
    return str(row["status"])


def _until_there_is_room(admin: Rest, storage: str, host: str) -> None:
    """Return when the node has heard from a host that its part of a local storage is free again."""
    path = f"/primary-storage/local-storage/{storage}/capacities"

    def room() -> int:
        (row,) = admin.get(path, hostUuid=host).body["inventories"]
        return int(row["availablePhysicalCapacity"])

    wait_until(lambda: room() > 3 * SIZE, "the free space to be seen", TIMEOUT_S)


def test_a_vm_of_an_image_runs_on_either_host_of_a_shared_storage(
    fleet: Fleet, hosts: list[str], guests: list[Guest], san: Guest, store: str, zone: str
) -> None:
    admin, cluster = fleet.admin, fleet.cluster
    san.run(f"mkdir -p {san_storage.EXPORT}/vms")
    storage = added(admin, cluster, "nfs", f"{san.address}:{san_storage.EXPORT}/vms")
    sector = base64.b64encode(boot_sector(OBEY_POWER_BUTTON)).decode()
    san.run(f"echo {sector} | base64 -d >/srv/disk.raw && truncate -s 2M /srv/disk.raw")
    disk = made(image(admin, store, "disk"))["uuid"]
    wanted = {"name": "vm", "cpuNum": 1, "memorySize": 64 * MB, "imageUuid": disk, "hostUuid": hosts[0]}
    vm = made(run(admin, "POST", "/vm-instances", {"params": {**wanted, "zoneUuid": zone}}))
    assert (vm["state"], vm["hostUuid"]) == ("Running", hosts[0])
    domains = "virsh list --name"
    assert len(guests[0].run(domains).split()) == 1
    extra = volume(admin, storage)
    path = f"/volumes/{extra['uuid']}/vm-instances"
    made(run(admin, "POST", f"{path}/{vm['uuid']}", {}))
    act = f"/vm-instances/{vm['uuid']}/actions"
    moved = made(run(admin, "PUT", act, {"migrateVm": {}}))
    assert (moved["state"], moved["hostUuid"], moved["lastHostUuid"]) == ("Running", hosts[1], hosts[0])
    assert (guests[0].run(domains).split(), len(guests[1].run(domains).split())) == ([], 1)
    maintained = f"/hosts/{hosts[1]}/actions"
    assert run(admin, "PUT", maintained, {"changeHostState": {"stateEvent": "maintain"}}).status == 200
    assert (len(guests[0].run(domains).split()), guests[1].run(domains).split()) == (1, [])
    assert run(admin, "PUT", maintained, {"changeHostState": {"stateEvent": "enable"}}).status == 200
    fleet.wait_until("kvm2", "Connected", TIMEOUT_S)
    # What the image has on its disk obeys the power button, under the guest's own KVM, after two moves.
    assert made(run(admin, "PUT", act, {"stopVmInstance": {}}))["state"] == "Stopped"
    body = {"params": {"name": "before"}}
    kept = made(run(admin, "POST", f"/volumes/{vm['rootVolumeUuid']}/volume-snapshots", body))
    started = made(run(admin, "PUT", act, {"startVmInstance": {"hostUuid": hosts[1]}}))
    assert (started["state"], started["hostUuid"]) == ("Running", hosts[1])
    assert (guests[0].run(domains).split(), len(guests[1].run(domains).split())) == ([], 1)
    revert = f"/volume-snapshots/{kept['uuid']}/actions"
    refused = run(admin, "PUT", revert, {"revertVolumeFromSnapshot": {}})
    assert refused.error["code"] == "SYS.1006", "a running VM has it open"
    guests[1].run("kill -9 $(pidof qemu-system-x86_64)")

    def state() -> str:
        (found,) = admin.query(f"/vm-instances/{vm['uuid']}")
        return str(found["state"])

    wait_until(lambda: state() == "Stopped", "the VM to be seen as stopped", TIMEOUT_S)
    assert run(admin, "PUT", revert, {"revertVolumeFromSnapshot": {}}).status == 200
    assert run(admin, "DELETE", f"/vm-instances/{vm['uuid']}", None).status == 200
    assert run(admin, "PUT", act, {"expungeVmInstance": {}}).status == 200
    purge(admin, extra)
    empty_cache(admin, storage)
    assert san.run(f"find {san_storage.EXPORT}/vms -type f {FREE}") == ""
    gone(admin, cluster, storage)
    drop_image(admin, disk)


def test_a_store_that_is_killed_as_it_frees_space_frees_all_of_one_image_and_nothing_of_another(
    fleet: Fleet, san: Guest, store: str, template: str
) -> None:
    admin, chunks = fleet.admin, f"find {STORE}/chunks -type f | wc -l"
    kept = made(image(admin, store, "disk"))["uuid"]
    drop_image(admin, template)
    fewer = f"[ $({chunks}) -lt {san.run(chunks).strip()} ]"
    once(san, fewer, f"kill -9 {STORE_PID}", "stopped")
    reclaim: dict[str, Any] = {"reclaimSpaceFromImageStore": {}}
    actions = f"/backup-storage/image-store/{store}/actions"
    run(admin, "PUT", actions, reclaim)  # it may be answered before its store is killed
    wait_until(lambda: done(san, "stopped"), "the store to be killed", 120)
    wait_until(lambda: run(admin, "PUT", actions, reclaim).status == 200, "the store to be back", TIMEOUT_S)
    export = {"exportImageFromBackupStorage": {"imageUuid": kept}}
    url = run(admin, "PUT", f"/backup-storage/{store}/actions", export).body["imageUrl"]
    assert san.run(f"curl -ksS {url} | sha256sum") == san.run("sha256sum </srv/disk.raw")
    drop_image(admin, kept)
    assert run(admin, "PUT", actions, reclaim).status == 200
    assert san.run(f"find {STORE}/chunks -type f") == ""


def test_nothing_is_left_of_images_and_their_store(
    fleet: Fleet, guests: list[Guest], san: Guest, store: str
) -> None:
    admin = fleet.admin
    assert run(admin, "DELETE", f"/backup-storage/{store}", None).status == 200
    assert san.try_run("systemctl is-active hardpoint-storageagent").returncode != 0
    for guest in guests:
        assert "/opt/zstack/nfsprimarystorage" not in guest.run("cat /proc/self/mountinfo")
        assert guest.run("virsh list --all --name").split() == []
