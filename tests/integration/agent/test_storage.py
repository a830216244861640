"""Storages on real folders with real qemu-img, and transfers between two agents' doors over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentkit.errors import HardpointError
from agentkit.runner import Answer, ProcessRunner, Runner, ScriptedRunner
from agentkit.tls import ServerCredentials
from kvmagent.door import Door
from kvmagent.machine.mounts import parse_mountinfo
from kvmagent.protocol_storage import (
    CopyFile,
    CreateDisk,
    DiskReply,
    FetchFile,
    GetDisk,
    GetTransferProgress,
    InitStorage,
    OfferFile,
    PurgeTrash,
    RebaseDisk,
    RemoveFiles,
    ResizeDisk,
    StorageEvent,
    StorageKind,
    StorageSpec,
)
from kvmagent.storage.backend import PARTIAL
from kvmagent.storage.children import Children
from kvmagent.storage.disks import Disks
from kvmagent.storage.files import FileBackend
from kvmagent.storage.keeper import AT_ONCE, PROBE_DEADLINE_S, StorageKeeper
from kvmagent.storage.offers import Offers
from mn.fleet.ca import CertificateAuthority
from tests.helpers import small_disk

LIMIT_S = 60.0
MB = 1024 * 1024


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Host:
    """An agent's storages without the agent around them."""

    root: Path
    keeper: StorageKeeper
    files: FileBackend
    disks: Disks
    offers: Offers
    door: Door
    events: list[StorageEvent]
    mounts: list[str]

    async def init(
        self, storage: StorageSpec, *, first: bool = True, others: list[str] | None = None
    ) -> None:
        await self.keeper.init(InitStorage(storage=storage, first=first, others=others or []))

    def file(self, storage: StorageSpec, name: str) -> Path:
        return self.files.root_of(storage) / name


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


MakeHost = Callable[..., Host]


@pytest.fixture
def make_host(tmp_path: Path, ca: CertificateAuthority) -> MakeHost:
    def make(
        name: str, runner: Runner | None = None, deadline_s: float = LIMIT_S, grace_s: float = 0
    ) -> Host:
        home = tmp_path / name
        home.mkdir()
        pair = ca.server(home, "5" * 32, "127.0.0.1")
        children, events, mounts = Children(runner or ProcessRunner()), list[StorageEvent](), list[str]()
        files = {
            kind: FileBackend(kind, children, lambda: parse_mountinfo(mounts), lambda: name, local_root=home)
            for kind in StorageKind
        }
        keeper = StorageKeeper(
            files,
            events.append,
            probe_every_s=0.05,
            probe_deadline_s=deadline_s,
            grace_s=grace_s,
            patience_s=0,
        )
        disks = Disks(keeper, children, pair.ca)
        credentials = ServerCredentials(pair.certificate, pair.key, pair.ca)
        door = Door(home, credentials, "127.0.0.1", 0)
        offers = Offers(keeper, disks, home / "offers", door)
        return Host(home, keeper, files[StorageKind.LOCAL], disks, offers, door, events, mounts)

    return make


@pytest.fixture
async def host(make_host: MakeHost) -> AsyncIterator[Host]:
    host = make_host("one")
    async with running(host):
        yield host


@asynccontextmanager
async def running(host: Host) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(host.keeper.run()), asyncio.create_task(host.offers.run())]
    tasks.append(asyncio.create_task(host.door.run()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def local(uuid: str = "a" * 32, url: str = "/data") -> StorageSpec:
    return StorageSpec(uuid=uuid, kind=StorageKind.LOCAL, url=url)


async def write(path: Path, text: str, at: int = 0) -> None:
    """Write a pattern into a disk image, as a VM would."""
    argv = ["qemu-io", "-f", "qcow2", "-c", f"write -P {text} {at} 64k", str(path)]
    (await ProcessRunner().run(argv, timeout_s=LIMIT_S)).check()


async def holds(path: Path, text: str, at: int = 0) -> bool:
    argv = ["qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {text} {at} 64k", str(path)]
    completed = await ProcessRunner().run(argv, timeout_s=LIMIT_S)
    return b"Pattern verification failed" not in completed.check().stdout


async def empty(host: Host, storage: StorageSpec, path: str, size: int = 8 * MB) -> DiskReply:
    return await host.disks.create(CreateDisk(storage=storage, path=path, format="qcow2", size=size))


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
    for host in (one, two):
        host.mounts.append(f"62 22 0:52 / {tmp_path} rw - gfs2 /dev/mapper/shared rw")
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


async def fetched(source: Host, target: Host, storage: StorageSpec, path: str, **more: Any) -> FetchFile:
    """Return the command that fetches a file of one host to the other."""
    offer = OfferFile(storage=storage, path=path, offer_uuid="d" * 32, token="secret")
    reply = await source.offers.offer(offer)
    url = f"https://127.0.0.1:{reply.port}{reply.path}"
    wanted = {"size": reply.size, "sha256": reply.sha256, "token": "secret", **more}
    return FetchFile(storage=storage, path=path, url=url, format="qcow2", **wanted)


@pytest.fixture
async def pair(make_host: MakeHost) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts with the same local storage, the first one with a disk on it."""
    one, two = make_host("one"), make_host("two")
    async with running(one), running(two):
        for host in (one, two):
            await host.init(local())
        await empty(one, local(), "v/a.qcow2", 64 * MB)
        for at in range(0, 32 * MB, 4 * MB):
            await write(one.file(local(), "v/a.qcow2"), str(at % 251), at)
        yield one, two


def same(one: Host, two: Host, name: str) -> bool:
    contents = [host.file(local(), name).read_bytes() for host in (one, two)]
    return contents[0] == contents[1]


async def test_a_disk_is_fetched_from_another_host_once(pair: tuple[Host, Host]) -> None:
    one, two = pair
    command = await fetched(one, two, local(), "v/a.qcow2")
    assert (await two.disks.fetch(command)).size == 64 * MB
    assert same(one, two, "v/a.qcow2")
    assert not list(two.root.rglob(f"*{PARTIAL}"))
    await one.offers.withdraw("d" * 32)
    assert (await two.disks.fetch(command)).size == 64 * MB  # nothing has to be fetched any more


async def test_a_fetch_goes_on_where_it_broke_off(pair: tuple[Host, Host]) -> None:
    one, two = pair
    whole = one.file(local(), "v/a.qcow2").read_bytes()
    partial = two.file(local(), "v/a.qcow2" + PARTIAL)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(whole[: len(whole) // 2])
    command = await fetched(one, two, local(), "v/a.qcow2")
    progress = GetTransferProgress(storage=local(), path="v/a.qcow2")
    assert await two.disks.progress(progress) == len(whole) // 2
    await two.disks.fetch(command)
    assert same(one, two, "v/a.qcow2")


async def test_a_fetch_to_a_full_disk_leaves_nothing_under_the_name(
    make_host: MakeHost, tmp_path: Path
) -> None:
    one, two = make_host("one"), make_host("two")
    with small_disk(two.file(local(), ""), 2 * MB):
        async with running(one), running(two):
            for host in (one, two):
                await host.init(local())
            await empty(one, local(), "v/a.qcow2", 64 * MB)
            argv = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 4M", str(one.file(local(), "v/a.qcow2"))]
            (await ProcessRunner().run(argv, timeout_s=LIMIT_S)).check()
            command = await fetched(one, two, local(), "v/a.qcow2")
            with pytest.raises(HardpointError, match="No space left on device"):
                await two.disks.fetch(command)
            assert not two.file(local(), "v/a.qcow2").exists()
            await two.disks.remove(RemoveFiles(storage=local(), paths=["v"]))
            await empty(two, local(), "v/b.qcow2", 64 * MB)
            assert not any(event.answering is False for event in two.events)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"sha256": "0" * 64}, "has the SHA-256"),
        ({"size": 5}, "bytes, not 5"),
        ({"token": "guessed"}, "answers 404"),
        ({"token": None}, "answers 404"),
        ({"backing": "v/other"}, "is qcow2 on nothing, not qcow2 on other"),
    ],
)
async def test_what_is_not_what_was_asked_for_gets_no_name(
    pair: tuple[Host, Host], wrong: dict[str, Any], reason: str
) -> None:
    one, two = pair
    command = await fetched(one, two, local(), "v/a.qcow2", **wrong)
    with pytest.raises(HardpointError, match=reason):
        await two.disks.fetch(command)
    assert not two.file(local(), "v/a.qcow2").exists()


async def test_a_fetch_that_began_wrong_is_right_the_second_time(pair: tuple[Host, Host]) -> None:
    one, two = pair
    partial = two.file(local(), "v/a.qcow2" + PARTIAL)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"something else")
    command = await fetched(one, two, local(), "v/a.qcow2")
    with pytest.raises(HardpointError, match="has the SHA-256"):
        await two.disks.fetch(command)
    await two.disks.fetch(command)
    assert same(one, two, "v/a.qcow2")


async def test_a_server_of_another_authority_is_not_fetched_from(
    pair: tuple[Host, Host], tmp_path: Path
) -> None:
    one, two = pair
    stranger = CertificateAuthority(tmp_path / "stranger").ca_path.read_text()
    command = await fetched(one, two, local(), "v/a.qcow2", ca=stranger)
    fetching = asyncio.create_task(two.disks.fetch(command))
    await until(lambda: two.file(local(), "v/a.qcow2" + PARTIAL).exists())
    await asyncio.wait({fetching}, timeout=1)
    assert two.file(local(), "v/a.qcow2" + PARTIAL).stat().st_size == 0
    fetching.cancel()


async def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_under_the_name(
    pair: tuple[Host, Host],
) -> None:
    one, two = pair
    command = await fetched(one, two, local(), "v/a.qcow2")
    fetching = asyncio.create_task(two.disks.fetch(command))
    partial = two.file(local(), "v/a.qcow2" + PARTIAL)
    await until(lambda: partial.exists() or fetching.done())
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(PARTIAL in file.path for file in child.open_files()):
                child.send_signal(signal.SIGKILL)
    await asyncio.gather(fetching, return_exceptions=True)
    if not two.file(local(), "v/a.qcow2").exists():
        await two.disks.fetch(command)
    assert same(one, two, "v/a.qcow2")


async def test_a_disk_is_copied_between_storages_with_its_holes(host: Host) -> None:
    here, there = local("a" * 32, "/here"), local("b" * 32, "/there")
    for storage in (here, there):
        await host.init(storage)
    raw = CreateDisk(storage=here, path="r", format="raw", size=64 * MB)
    await host.disks.create(raw)
    with host.file(here, "r").open("r+b") as file:
        file.seek(32 * MB)
        file.write(b"content")
    command = CopyFile(source=here, source_path="r", storage=there, path="r", format="raw")
    assert (await host.disks.copy(command)).size == 64 * MB
    contents = [hashlib.sha256(host.file(s, "r").read_bytes()).hexdigest() for s in (here, there)]
    assert contents[0] == contents[1]
    assert host.file(there, "r").stat().st_blocks * 512 < 2 * MB


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


async def test_a_storage_that_is_slow_for_a_while_fails_nothing(make_host: MakeHost) -> None:
    runner = HangingRunner()
    host = make_host("one", runner, 0.5, LIMIT_S)
    slow = local("a" * 32, "/slow")
    async with running(host):
        await host.init(slow)
        runner.hung = "/slow"
        begun = asyncio.create_task(empty(host, slow, "begun"))
        await until(lambda: [e.answering for e in host.events] == [False])
        late = asyncio.create_task(empty(host, slow, "late"))
        done, _ = await asyncio.wait({begun, late}, timeout=1)
        assert not done
        runner.hung = None
        runner.free.set()
        assert [disk.size for disk in await asyncio.gather(begun, late)]
        assert [e.answering for e in host.events] == [False, True]
        runner.free.clear()
        runner.hung = "/slow"
        left = asyncio.create_task(empty(host, slow, "left"))
        await until(lambda: [e.answering for e in host.events][-1] is False)
        await host.keeper.release(slow)
        with pytest.raises(HardpointError, match=r"released meanwhile|does not answer"):
            await left


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
