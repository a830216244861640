"""Images of a Ceph storage as a host makes, changes and copies them, on a real cluster with its own key."""

from __future__ import annotations

import asyncio
import hashlib
import random
import stat
import uuid as uuids
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ProcessRunner
from cephagent.parsing import capabilities
from kvmagent.ceph import client
from kvmagent.ceph.backend import CephBackend
from kvmagent.protocol_ceph import CephCluster, CephMon
from kvmagent.protocol_storage import (
    CopyFile,
    CreateDisk,
    GetDisk,
    InitStorage,
    PurgeTrash,
    RebaseDisk,
    RemoveFiles,
    ResizeDisk,
    StorageEvent,
    StorageKind,
    StorageSpec,
)
from kvmagent.storage.children import Children
from kvmagent.storage.disks import Disks
from kvmagent.storage.files import FileBackend
from kvmagent.storage.keeper import StorageKeeper
from tests.ceph.cluster import MIB, Cluster
from tests.helpers import wait_until

PATTERN = random.Random(8).randbytes(MIB)


def new_uuid() -> str:
    return uuids.uuid4().hex


@dataclass
class Host:
    """A host with a Ceph storage and a local one."""

    root: Path
    keeper: StorageKeeper
    disks: Disks
    ceph: CephBackend
    storage: StorageSpec
    local: StorageSpec
    key: str
    events: list[StorageEvent]

    async def make(self, path: str, backing: str | None = None, size: int | None = None) -> Any:
        command = CreateDisk(
            storage=self.storage, path=path, format="raw", size=size, backing=backing, backing_format="raw"
        )
        return await self.disks.create(command)

    async def remove(self, *paths: str, trash: str | None = None) -> None:
        await self.disks.remove(RemoveFiles(storage=self.storage, paths=list(paths), trash=trash))

    async def copy(
        self, source: StorageSpec, source_path: str, target: StorageSpec, path: str, **more: Any
    ) -> Any:
        command = CopyFile(
            source=source, source_path=source_path, storage=target, path=path, format="raw", **more
        )
        return await self.disks.copy(command)

    def file(self, name: str) -> Path:
        return self.root / "data" / name


@pytest.fixture
async def host(
    cluster: Cluster, make_pool: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Host]:
    monkeypatch.setenv("PATH", cluster.programs.path())
    pools = [make_pool() for _ in range(4)]
    mons = [CephMon(address=mon.address, port=mon.port + 1) for mon in cluster.monitors]
    user = f"hosts-{new_uuid()}"
    given = cluster.ceph("auth", "get-or-create", f"client.{user}", *capabilities(pools, []))
    spec = CephCluster(
        fsid=cluster.fsid,
        mons=mons,
        user=user,
        root_pool=pools[0],
        data_pool=pools[1],
        cache_pool=pools[2],
        more_pools=pools[3:],
    )
    storage = StorageSpec(uuid=new_uuid(), kind=StorageKind.CEPH, url="not used", ceph=spec)
    local = StorageSpec(uuid=new_uuid(), kind=StorageKind.LOCAL, url="/data")
    runner = ProcessRunner()
    children, events = Children(runner), list[StorageEvent]()
    backend = CephBackend(runner, tmp_path / "ceph")
    files = FileBackend(StorageKind.LOCAL, children, list, lambda: "one", local_root=tmp_path)
    keeper = StorageKeeper(
        {StorageKind.CEPH: backend, StorageKind.LOCAL: files}, events.append, probe_every_s=1.0, patience_s=0
    )
    disks = Disks(keeper, children, tmp_path / "ca.pem")
    host = Host(tmp_path, keeper, disks, backend, storage, local, given[0]["key"], events)
    await keeper.init(InitStorage(storage=storage, first=True, key=host.key))
    await keeper.init(InitStorage(storage=local, first=True))
    async with kept(keeper):
        yield host
    cluster.ceph("auth", "rm", f"client.{user}")


@asynccontextmanager
async def kept(keeper: StorageKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def write(cluster: Cluster, image: str, at: int, pattern: str) -> None:
    """Write a pattern of 64 KiB, as a VM would."""
    address = f"rbd:{image}:id=admin:conf={cluster.configuration}:keyring={cluster.keyring}"
    cluster.run("qemu-io", "-f", "raw", "-c", f"write -P {pattern} {at} 64k", address)


def holds(cluster: Cluster, image: str, at: int, pattern: str) -> bool:
    address = f"rbd:{image}:id=admin:conf={cluster.configuration}:keyring={cluster.keyring}"
    said = cluster.run("qemu-io", "-r", "-f", "raw", "-c", f"read -P {pattern} {at} 64k", address)
    return "Pattern verification failed" not in said


def snapshots(cluster: Cluster, image: str) -> list[str]:
    return [each["name"] for each in cluster.rbd("snap", "ls", image)]


def volume(kind: str = "root", pool: str | None = None) -> tuple[str, str]:
    """Return the uuid of a new volume and its folder."""
    uuid = new_uuid()
    return uuid, f"{f'pools/{pool}/' if pool else ''}{kind}Volumes/vol-{uuid}"


async def test_images_are_made_grow_and_go_and_their_key_is_for_root_only(
    host: Host, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    assert host.storage.ceph is not None
    names = host.storage.ceph
    for kind, pool, where in (
        ("root", None, names.root_pool),
        ("data", None, names.data_pool),
        ("data", names.more_pools[0], names.more_pools[0]),
    ):
        uuid, folder = volume(kind, pool)
        path = f"{folder}/{uuid}.raw"
        for _ in range(2):
            made = await host.make(path, size=8 * MIB + 512)
            assert (made.size, made.format, made.backing, made.actual_size) == (8 * MIB + 512, "raw", None, 0)
        assert cluster.names(where) == [uuid]
        for _ in range(2):
            command = ResizeDisk(storage=host.storage, path=path, format="raw", size=16 * MIB)
            assert (await host.disks.resize(command)).size == 16 * MIB
        smaller = msgspec.structs.replace(command, size=MIB)
        with pytest.raises(HardpointError, match="cannot become smaller"):
            await host.disks.resize(smaller)
        for _ in range(2):
            await host.remove(folder)
        assert cluster.names(where) == []
    for wrong in ("rootVolumes/vol-x/a.raw", "pools/rbd/dataVolumes/vol-" + "a" * 32, "../a"):
        with pytest.raises(HardpointError, match=r"is no (image|path)"):
            await host.make(wrong, size=MIB)
    with pytest.raises(HardpointError, match="there is no RBD image"):
        await host.disks.get(GetDisk(storage=host.storage, path=path, format="raw"))
    keyring = next(host.root.glob("ceph/*/keyring"))
    assert stat.S_IMODE(keyring.stat().st_mode) == 0o600
    assert stat.S_IMODE(keyring.parent.stat().st_mode) == 0o700
    assert await host.ceph.key(host.storage.uuid, host.storage.ceph.user) == host.key
    assert host.key not in caplog.text
    capacity = await host.disks.capacity(host.storage)
    assert capacity.total >= capacity.available > 0
    await host.keeper.release(host.storage)
    assert not keyring.parent.exists()
    with pytest.raises(HardpointError, match="has no key"):
        await host.ceph.key(host.storage.uuid, host.storage.ceph.user)


async def test_overlays_keep_what_was_and_leave_no_snapshot(host: Host, cluster: Cluster) -> None:
    assert host.storage.ceph is not None
    pool = host.storage.ceph.root_pool
    uuid, folder = volume()
    one, two = new_uuid(), new_uuid()
    base, first, second = (f"{folder}/{name}.raw" for name in (uuid, f"snapshots/{one}", f"snapshots/{two}"))
    await host.make(base, size=4 * MIB)
    write(cluster, f"{pool}/{uuid}", 0, "1")
    for _ in range(2):
        made = await host.make(first, backing=base, size=8 * MIB)
        assert (made.size, made.backing) == (8 * MIB, f"{pool}/{uuid}")
    write(cluster, f"{pool}/{uuid}.{one}", 0, "2")
    await host.make(second, backing=first)
    assert holds(cluster, f"{pool}/{uuid}", 0, "1")
    assert holds(cluster, f"{pool}/{uuid}.{two}", 0, "2")
    assert snapshots(cluster, f"{pool}/{uuid}") == [f"{uuid}.{one}"]

    # What is deleted below the volume: it stands on its own feet then.
    rebase = RebaseDisk(storage=host.storage, path=second, backing=base, backing_format="raw")
    for _ in range(2):
        assert (await host.disks.rebase(rebase)).backing is None
    await host.remove(first)
    assert holds(cluster, f"{pool}/{uuid}.{two}", 0, "2")
    assert snapshots(cluster, f"{pool}/{uuid}") == []
    assert sorted(cluster.names(pool)) == sorted([uuid, f"{uuid}.{two}"])

    # A folder with all in it, clones before what they are clones of.
    await host.make(first, backing=second)
    await host.remove(folder)
    assert cluster.names(pool) == []
    assert cluster.rbd("trash", "ls", "-p", pool) == []


async def test_what_others_stand_on_stays_until_they_are_gone(host: Host, cluster: Cluster) -> None:
    assert host.storage.ceph is not None
    pool = host.storage.ceph.root_pool
    uuid, folder = volume()
    above = new_uuid()
    base, top = f"{folder}/{uuid}.raw", f"{folder}/snapshots/{above}.raw"
    await host.make(base, size=4 * MIB)
    write(cluster, f"{pool}/{uuid}", 0, "3")
    await host.make(top, backing=base)
    await host.remove(base)
    assert cluster.names(pool) == [f"{uuid}.{above}"]
    assert holds(cluster, f"{pool}/{uuid}.{above}", 0, "3")
    purge = PurgeTrash(storage=host.storage, older_than_s=-1)
    assert await host.disks.purge(purge) == 0
    await host.remove(folder, trash="later")
    assert await host.disks.purge(PurgeTrash(storage=host.storage, older_than_s=3600)) == 0
    assert len(cluster.rbd("trash", "ls", "-p", pool)) == 2
    assert await host.disks.purge(purge) == 1
    assert cluster.rbd("trash", "ls", "-p", pool) == []


async def test_contents_move_to_and_from_a_local_storage(host: Host, cluster: Cluster) -> None:
    assert host.storage.ceph is not None
    image = new_uuid()
    cached = f"imagecache/template/{image}/{image}.raw"
    host.file("in").mkdir(parents=True)
    content = PATTERN + bytes(3 * MIB) + PATTERN[:512]
    host.file("in/disk.raw").write_bytes(content)
    for _ in range(2):
        made = await host.copy(host.local, "in/disk.raw", host.storage, cached)
        assert (made.size, made.backing) == (len(content), None)
    cache = host.storage.ceph.cache_pool
    assert snapshots(cluster, f"{cache}/{image}") == [image]

    uuid, folder = volume()
    path = f"{folder}/{uuid}.raw"
    assert (await host.make(path, backing=cached)).backing == f"{cache}/{image}"
    size, sha256 = await host.disks.digest(host.storage, path)
    assert (size, sha256) == (len(content), hashlib.sha256(content).hexdigest())
    await host.copy(host.storage, path, host.local, "out/disk.raw")
    assert host.file("out/disk.raw").read_bytes() == content
    assert host.file("out/disk.raw").stat().st_blocks * 512 < 2 * MIB

    # A chain of qcow2 files becomes one image.
    below = CreateDisk(storage=host.local, path="c/below.qcow2", format="qcow2", size=4 * MIB)
    await host.disks.create(below)
    await qemu_io(host.file("c/below.qcow2"), "write -P 7 1M 64k")
    await host.disks.create(msgspec.structs.replace(below, path="c/top.qcow2", backing="c/below.qcow2"))
    await qemu_io(host.file("c/top.qcow2"), "write -P 8 2M 64k")
    other, other_folder = volume("data")
    target = f"{other_folder}/{other}.raw"
    moved = await host.copy(host.local, "c/top.qcow2", host.storage, target, source_format="qcow2")
    assert (moved.size, moved.backing) == (4 * MIB, None)
    named = f"{host.storage.ceph.data_pool}/{other}"
    assert holds(cluster, named, MIB, "7")
    assert holds(cluster, named, 2 * MIB, "8")

    await host.remove(folder, other_folder, f"imagecache/template/{image}")
    assert [cluster.names(pool) for pool in host.storage.ceph.pools] == [[], [], [], []]


async def test_a_full_cluster_is_said_and_what_was_begun_goes(
    host: Host, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host.storage.ceph is not None
    host.file("in").mkdir(parents=True)
    host.file("in/disk.raw").write_bytes(PATTERN * 8)
    monkeypatch.setattr(client, "OSD_TIMEOUT_S", 5)
    await host.keeper.init(InitStorage(storage=host.storage, first=False))
    uuid, folder = volume()
    path = f"{folder}/{uuid}.raw"
    cluster.be_full(full=True)
    try:
        with pytest.raises(HardpointError, match=f"pool {host.storage.ceph.root_pool} takes no more") as full:
            await host.copy(host.local, "in/disk.raw", host.storage, path)
        assert full.value.code == "PS.1000"
        await host.remove(path, f"{path}.partial")
    finally:
        cluster.be_full(full=False)
    await host.remove(path, f"{path}.partial")
    assert cluster.names(host.storage.ceph.root_pool) == []
    made = await host.copy(host.local, "in/disk.raw", host.storage, path)
    assert made.size == 8 * MIB
    assert all(event.answering for event in host.events[-1:])


async def test_a_cluster_that_does_not_answer_is_lost_and_found(
    host: Host, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmagent.ceph.backend.LOOK_EVERY_S", 0.0)
    uuid, folder = volume()
    cluster.stop_monitor("b")
    cluster.stop_monitor("c")
    try:
        await asyncio.to_thread(
            wait_until,
            lambda: any(not event.answering for event in host.events),
            "the storage to be lost",
            60,
        )
        with pytest.raises(HardpointError, match="does not answer on this host"):
            await host.make(f"{folder}/{uuid}.raw", size=MIB)
    finally:
        cluster.start_monitor("b")
        cluster.start_monitor("c")
    await asyncio.to_thread(wait_until, lambda: host.events[-1].answering, "the storage to be found", 60)
    assert (await host.make(f"{folder}/{uuid}.raw", size=MIB)).size == MIB
    other = msgspec.structs.replace(host.storage, ceph=msgspec.structs.replace(host.storage.ceph, fsid="x"))
    with pytest.raises(HardpointError, match="is the Ceph cluster x, at"):
        await host.keeper.init(InitStorage(storage=other, first=False))


def lost(host: Host) -> bool:
    return any(not event.answering for event in host.events)


async def qemu_io(path: Path, command: str) -> None:
    (await ProcessRunner().run(["qemu-io", "-f", "qcow2", "-c", command, str(path)], timeout_s=60)).check()


async def test_an_image_that_a_killed_maker_has_only_named_is_in_nobodys_way(
    host: Host, cluster: Cluster
) -> None:
    assert host.storage.ceph is not None
    pool = host.storage.ceph.data_pool
    uuid, folder = volume("data")
    partial = f"{pool}/{uuid}.partial"
    cluster.run("rbd", "create", "--size", "8M", partial)
    cluster.run("rados", "-p", pool, "rm", f"rbd_header.{cluster.rbd('info', partial)['id']}")
    assert cluster.names(pool) == [f"{uuid}.partial"]
    assert (await host.make(f"{folder}/{uuid}.raw", size=8 * MIB)).size == 8 * MIB
    assert cluster.names(pool) == [uuid]
    await host.disks.remove(RemoveFiles(storage=host.storage, paths=[f"{folder}/{uuid}.raw"]))
    assert cluster.names(pool) == []
