"""Storages on real folders with real qemu-img."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.runner import Answer, ProcessRunner, ScriptedRunner
from kvmagent.protocol_storage import (
    CreateDisk,
    DiskReply,
    GetDisk,
    InitStorage,
    PurgeTrash,
    RebaseDisk,
    RemoveFiles,
    ResizeDisk,
    StorageKind,
    StorageSpec,
)
from kvmagent.storage.backend import PARTIAL
from kvmagent.storage.children import Children
from kvmagent.storage.disks import Disks
from kvmagent.storage.files import FileBackend
from kvmagent.storage.keeper import AT_ONCE, PROBE_DEADLINE_S, StorageKeeper
from tests.integration.agent.storage_hosts import (
    LIMIT_S,
    MB,
    Host,
    MakeHost,
    ca,
    empty,
    holds,
    host,
    local,
    make_host,
    running,
    until,
    write,
)

__all__ = ["ca", "host", "make_host"]


async def test_a_disk_is_made_once_with_its_format_and_size(host: Host) -> None:
    storage = local()
    await host.init(storage)
    for disk_format in ("qcow2", "raw"):
        command = CreateDisk(storage=storage, path=f"d/{disk_format}", format=disk_format, size=3 * MB)
        made = await host.disks.create(command)
        assert (made.size, made.format, made.backing) == (3 * MB, disk_format, None)
        before = host.file(storage, f"d/{disk_format}").stat()
        assert await host.disks.create(command) == made
        assert host.file(storage, f"d/{disk_format}").stat().st_mtime_ns == before.st_mtime_ns
        assert before.st_mode & 0o777 == 0o644  # the processes of VMs are another user's
    assert not list(host.root.rglob(f"*{PARTIAL}"))


async def test_a_disk_grows_and_never_shrinks(host: Host) -> None:
    storage = local()
    await host.init(storage)
    await empty(host, storage, "d", 2 * MB)
    grow = ResizeDisk(storage=storage, path="d", format="qcow2", size=5 * MB)
    assert [(await host.disks.resize(grow)).size for _ in range(2)] == [5 * MB] * 2
    with pytest.raises(HardpointError, match="cannot become smaller") as refused:
        await host.disks.resize(ResizeDisk(storage=storage, path="d", format="qcow2", size=MB))
    assert refused.value.code == "SYS.1007"


async def test_overlays_keep_what_was_and_a_rebase_keeps_what_is(host: Host) -> None:
    storage = local()
    await host.init(storage)
    await empty(host, storage, "v/a.qcow2")
    await write(host.file(storage, "v/a.qcow2"), "1")
    for name, below, pattern in (("v/s/b.qcow2", "v/a.qcow2", "2"), ("v/s/c.qcow2", "v/s/b.qcow2", "3")):
        made = await host.disks.create(CreateDisk(storage=storage, path=name, format="qcow2", backing=below))
        assert made.size == 8 * MB
        await write(host.file(storage, name), pattern, int(pattern) * 65536)
    top = host.file(storage, "v/s/c.qcow2")
    for below in ("v/a.qcow2", "v/a.qcow2", None):
        found = await host.disks.rebase(RebaseDisk(storage=storage, path="v/s/c.qcow2", backing=below))
        assert found.backing == ("../a.qcow2" if below else None)
        assert await holds(top, "1")
        assert await holds(top, "2", 2 * 65536)
        assert await holds(top, "3", 3 * 65536)
    assert await holds(host.file(storage, "v/a.qcow2"), "0", 2 * 65536)


async def test_what_is_removed_is_gone_or_in_the_trash_until_that_is_old(host: Host) -> None:
    storage = local()
    await host.init(storage)
    for name in ("v/a", "w/b"):
        await empty(host, storage, name)
    for _ in range(2):
        await host.disks.remove(RemoveFiles(storage=storage, paths=["v"]))
        await host.disks.remove(RemoveFiles(storage=storage, paths=["w"], trash="t"))
    assert not host.file(storage, "v").exists()
    assert not host.file(storage, "w").exists()
    trashed = host.file(storage, ".trash/t/w/b")
    assert trashed.exists()
    assert await host.disks.purge(PurgeTrash(storage=storage, older_than_s=3600)) == 0
    os.utime(host.file(storage, ".trash/t"), (0, 0))
    assert await host.disks.purge(PurgeTrash(storage=storage, older_than_s=3600)) == 1
    assert not trashed.exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "", "a//b", "."])
async def test_a_path_outside_of_the_storage_is_refused(host: Host, name: str) -> None:
    storage = local()
    await host.init(storage)
    with pytest.raises(HardpointError, match="no path within the storage"):
        await host.disks.remove(RemoveFiles(storage=storage, paths=[name]))
    with pytest.raises(HardpointError, match="no path within the storage"):
        await empty(host, storage, name)


async def test_a_folder_without_its_marker_is_not_written_to(host: Host) -> None:
    storage = local()
    with pytest.raises(HardpointError, match="there is no folder"):
        await host.init(storage, first=False)
    host.files.root_of(storage).mkdir()
    with pytest.raises(HardpointError, match="not the folder that it was"):
        await host.init(storage, first=False)
    assert list(host.files.root_of(storage).iterdir()) == []
    with pytest.raises(HardpointError, match="not initialised"):
        await empty(host, storage, "d")
    await host.init(storage)
    await host.init(storage, first=False)
    await empty(host, storage, "d")


async def test_a_disk_that_is_no_longer_mounted_is_noticed_and_so_is_its_return(host: Host) -> None:
    storage = local()
    await host.init(storage)
    root = host.files.root_of(storage)
    away = root.rename(root.with_name("away"))
    await until(lambda: [event.answering for event in host.events] == [False])
    with pytest.raises(HardpointError, match=r"does not answer on this host: .*is it mounted"):
        await empty(host, storage, "d")
    away.rename(root)
    await until(lambda: [event.answering for event in host.events] == [False, True])
    await empty(host, storage, "d")


async def test_a_full_storage_is_no_lost_one(host: Host) -> None:
    storage = local()
    await host.init(storage)
    await until(lambda: host.file(storage, ".hardpoint/alive-one").exists())
    full_file = host.file(storage, ".hardpoint/full")
    full_file.symlink_to("/dev/full")
    full_file.replace(host.file(storage, ".hardpoint/alive-one"))
    root = str(host.files.root_of(storage))
    assert (await Children(ProcessRunner()).probe(root, storage.uuid, "alive-one", LIMIT_S))["total"] > 0
    await host.disks.remove(RemoveFiles(storage=storage, paths=["no-such"]))
    assert not any(event.answering is False for event in host.events)


async def test_a_shared_folder_is_one_that_another_host_has_marked(
    make_host: MakeHost, tmp_path: Path
) -> None:
    one, two = make_host("one"), make_host("two")
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    for folder in (shared, elsewhere):
        folder.mkdir()
    for each in (one, two):
        each.mounts.append(f"62 22 0:52 / {tmp_path} rw - gfs2 /dev/mapper/shared rw")
    storage = StorageSpec(uuid="b" * 32, kind=StorageKind.SMP, url=str(shared))
    await one.init(storage)
    await two.init(storage, first=False)
    other = StorageSpec(uuid="b" * 32, kind=StorageKind.SMP, url=str(elsewhere))
    with pytest.raises(HardpointError, match="not the folder that it was"):
        await two.init(other, first=False)
    second = StorageSpec(uuid="c" * 32, kind=StorageKind.SMP, url=str(shared))
    with pytest.raises(HardpointError, match=f"belongs to the primary storage {'b' * 32}"):
        await one.init(second, others=["b" * 32])
    one.mounts[:] = [f"62 22 0:52 / {tmp_path} rw - ext4 /dev/sda rw"]
    with pytest.raises(HardpointError, match="of this host alone"):
        await one.init(storage)


class HangingRunner:
    """Lets commands of workers on a folder hang, as a dead NFS server does, until they are let go."""

    def __init__(self) -> None:
        self.real = ProcessRunner()
        self.hung: str | None = None
        self.free = asyncio.Event()
        self.hanging = 0

    async def run(self, argv: Any, **options: Any) -> Any:
        body = (options.get("input") or b"").decode() + " ".join(argv)
        if self.hung is not None and self.hung in body:
            self.hanging += 1
            try:
                await self.free.wait()
            finally:
                self.hanging -= 1
        return await self.real.run(argv, **options)


async def test_a_storage_that_hangs_holds_up_nothing_else_and_comes_back(make_host: MakeHost) -> None:
    runner = HangingRunner()
    host = make_host("one", runner, PROBE_DEADLINE_S, 0.5)
    dead, alive = local("a" * 32, "/dead"), local("b" * 32, "/alive")
    async with running(host):
        for storage in (dead, alive):
            await host.init(storage)
        runner.hung = "/dead"
        calls: list[Awaitable[DiskReply]] = [empty(host, dead, f"d{n}") for n in range(3 * AT_ONCE)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(o, HardpointError) and "does not answer" in o.details for o in outcomes)
        assert [(e.storage_uuid, e.answering) for e in host.events] == [("a" * 32, False)]
        assert runner.hanging == 1  # the one probe that waits
        await empty(host, alive, "d")
        with pytest.raises(HardpointError, match="does not answer"):
            await host.disks.get(GetDisk(storage=dead, path="d", format="qcow2"))
        runner.hung = None
        runner.free.set()
        await until(lambda: [e.answering for e in host.events] == [False, True])
        await empty(host, dead, "d")


async def test_what_is_not_whole_is_not_removed_while_somebody_makes_it_whole(make_host: MakeHost) -> None:
    runner = HangingRunner()
    host = make_host("one", runner)
    async with running(host):
        await host.init(local())
        runner.hung = "v/a.qcow2.partial"
        making = asyncio.create_task(empty(host, local(), "v/a.qcow2"))
        await until(lambda: runner.hanging)
        removal = RemoveFiles(storage=local(), paths=["v/a.qcow2.partial"])
        removing = asyncio.create_task(host.disks.remove(removal))
        await asyncio.sleep(0.1)
        assert not removing.done()
        runner.hung = None
        runner.free.set()
        await making
        await removing
        assert host.file(local(), "v/a.qcow2").exists()


async def test_a_storage_that_is_slow_for_a_while_fails_nothing(make_host: MakeHost) -> None:
    runner = HangingRunner()
    host = make_host("one", runner, 0.5, LIMIT_S)
    slow = local("a" * 32, "/slow")
    async with running(host):
        await host.init(slow)
        runner.hung = "/slow"
        begun = asyncio.create_task(empty(host, slow, "begun"))
        await until(lambda: bool(host.events) and not host.events[-1].answering)
        late = asyncio.create_task(empty(host, slow, "late"))
        done, _ = await asyncio.wait({begun, late}, timeout=1)
        assert not done
        runner.hung = None
        runner.free.set()
        assert [disk.size for disk in await asyncio.gather(begun, late)]
        # A loaded machine may be slow by itself, before and after
        assert [e.answering for e in host.events][:2] == [False, True]
        runner.free.clear()
        runner.hung = "/slow"
        left = asyncio.create_task(empty(host, slow, "left"))
        await until(lambda: [e.answering for e in host.events][-1] is False)
        await host.keeper.release(slow)
        with pytest.raises(HardpointError, match=r"released meanwhile|does not answer"):
            await left


async def test_who_needs_a_storage_waits_while_it_is_made_usable(make_host: MakeHost) -> None:
    runner = HangingRunner()
    host = make_host("one", runner)
    slow = local("a" * 32, "/slow")
    runner.hung = "/slow"
    beginning = asyncio.create_task(host.init(slow))
    await until(lambda: runner.hanging)
    early = asyncio.create_task(empty(host, slow, "early"))
    await asyncio.sleep(0.2)
    assert not early.done()
    runner.hung = None
    runner.free.set()
    await beginning
    assert (await early).size


async def test_a_task_that_begins_before_storages_are_looked_after_waits_for_its_own(tmp_path: Path) -> None:
    children = Children(ProcessRunner())
    files = FileBackend(StorageKind.LOCAL, children, list, lambda: "one", local_root=tmp_path)
    keeper = StorageKeeper({StorageKind.LOCAL: files}, lambda _event: None, patience_s=LIMIT_S)
    disks = Disks(keeper, children, tmp_path / "ca")
    wanted = CreateDisk(storage=local(), path="v/early.qcow2", format="qcow2", size=1024 * 1024)
    early = asyncio.create_task(disks.create(wanted))
    await asyncio.sleep(0.2)
    assert not early.done()
    await keeper.init(InitStorage(storage=local(), first=True))
    assert (await early).size == 1024 * 1024


async def test_a_task_waits_until_the_node_that_follows_the_agent_has_had_its_turn(tmp_path: Path) -> None:
    children, hub, patience_s = Children(ProcessRunner()), EventHub("i"), 0.5
    files = FileBackend(StorageKind.LOCAL, children, list, lambda: "one", local_root=tmp_path)
    keeper = StorageKeeper({StorageKind.LOCAL: files}, lambda _event: None, patience_s=patience_s)
    hub.when_followed(keeper.expect)
    disks = Disks(keeper, children, tmp_path / "ca")
    wanted = CreateDisk(storage=local(), path="v/late.qcow2", format="qcow2", size=1024 * 1024)
    late = asyncio.create_task(disks.create(wanted))
    await asyncio.sleep(3 * patience_s)
    assert not late.done(), "no node has come yet"
    await anext(hub.subscribe(None, 0))
    with pytest.raises(HardpointError, match="not initialised"):
        await asyncio.wait_for(late, LIMIT_S)
    again = asyncio.create_task(disks.create(wanted))
    with pytest.raises(HardpointError, match="not initialised"):
        await asyncio.wait_for(again, LIMIT_S)
    await anext(hub.subscribe(None, 0))
    last = asyncio.create_task(disks.create(wanted))
    await keeper.init(InitStorage(storage=local(), first=True))
    assert (await asyncio.wait_for(last, LIMIT_S)).size == 1024 * 1024


async def test_an_export_is_mounted_with_its_options_and_another_mount_in_its_place_is_refused(
    make_host: MakeHost,
) -> None:
    runner = ScriptedRunner({(): Answer(b'{"done": {"total": 5, "available": 4}}')})
    host = make_host("one", runner)
    storage = StorageSpec(uuid="e" * 32, kind=StorageKind.NFS, url="10.0.0.1:/srv", options="vers=4.2")
    await host.init(storage)
    point = str(host.files.root_of(storage))
    mount = next(argv for argv in runner.ran if "mount" in argv)
    assert mount[-6:] == ("-t", "nfs", "-o", "vers=4.2,nosuid,nodev", "10.0.0.1:/srv", point)
    host.mounts.append(f"62 22 0:52 / {point} rw - ext4 /dev/sda rw")
    with pytest.raises(HardpointError, match="occupied by /dev/sda"):
        await host.init(storage)
