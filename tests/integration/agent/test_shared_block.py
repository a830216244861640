"""Volume groups of two hosts with real qemu-img.

LVM, its locks and device-mapper are a double (`tests.lvm`).
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentkit.errors import HardpointError
from agentkit.runner import CommandError, Completed
from kvmagent.protocol_shared_block import GroupState, RecoveryStep, SharedBlockGroup
from kvmagent.protocol_storage import (
    CopyFile,
    CreateDisk,
    ExtendGroup,
    GetDisk,
    GetTransferProgress,
    InitStorage,
    PurgeTrash,
    RebaseDisk,
    RecoverGroup,
    RemoveFiles,
    ResizeDisk,
    StorageEvent,
    StorageKind,
    StorageSpec,
)
from kvmagent.protocol_vms import DiskFormat, VmDisk
from kvmagent.shared_block.backend import SharedBlockBackend
from kvmagent.shared_block.group import HostPlaces
from kvmagent.shared_block.vm_disks import VmDisks
from kvmagent.storage.backend import UnusableError
from kvmagent.storage.children import Children
from kvmagent.storage.disks import Disks
from kvmagent.storage.files import FileBackend
from kvmagent.storage.keeper import StorageKeeper
from tests.lvm import MB, Lvm, Vg
from tests.lvm_runner import LvmRunner
from tests.lvm_socket import lvmlockd

GROUP = "a" * 32
WWIDS = ["6001405" + str(number) * 25 for number in range(2)]
V, S, I = "b" * 32, "c" * 32, "d" * 32  # noqa: E741
VOLUME = f"dataVolumes/vol-{V}/{V}.qcow2"
TOP = f"dataVolumes/vol-{V}/snapshots/{S}.qcow2"
IMAGE = f"imagecache/template/{I}/{I}.qcow2"


_SOCKETS = ExitStack()


def spec(host_id: int = 1, disks: list[str] | None = None, **more: Any) -> StorageSpec:
    group = SharedBlockGroup(disks=disks or WWIDS[:1], host_id=host_id, **more)
    return StorageSpec(uuid=GROUP, kind=StorageKind.SHARED_BLOCK, url=f"sharedblock://{GROUP}", group=group)


@dataclass
class Host:
    """An agent's storages on one host."""

    number: int
    lvm: LvmRunner
    backend: SharedBlockBackend
    keeper: StorageKeeper
    disks: Disks
    vm_disks: VmDisks
    told: list[StorageEvent]
    ended: list[str]

    async def init(self, *, first: bool = False, **more: Any) -> None:
        extra = {"wipe": more.pop("wipe", False), "others": more.pop("others", [])}
        await self.keeper.init(InitStorage(storage=spec(self.number, **more), first=first, **extra))

    async def make(self, name: str = VOLUME, backing: str | None = None, size: int = 64 * MB) -> None:
        command = CreateDisk(storage=spec(self.number), path=name, format="qcow2", size=size, backing=backing)
        await self.disks.create(command)


@pytest.fixture
def san(tmp_path: Path) -> Iterator[Lvm]:
    (tmp_path / "store").mkdir()
    san = Lvm(tmp_path / "store")
    for wwid in WWIDS:
        san.add(wwid)
    yield san
    _SOCKETS.close()


def make_host(san: Lvm, folder: Path, number: int) -> Host:
    """Make a host; all have one /dev, as headers of images name what is below by it."""
    home = folder / f"host{number}"
    dev = folder / f"dev{number}"
    lvm = LvmRunner(san, dev)
    children = Children(lvm)
    told: list[StorageEvent] = []
    address = Path(_SOCKETS.enter_context(tempfile.TemporaryDirectory())) / "socket"
    _SOCKETS.enter_context(lvmlockd(address, lambda: "lvmlockd" in lvm.daemons))
    places = HostPlaces(home / "lvm", dev, home / "sys", home / "units", address)
    backend = SharedBlockBackend(children, places, told.append)
    ended: list[str] = []

    async def fence(_folder: str) -> list[str]:
        lvm.opened.clear()
        ended.append("vm")
        return ["vm"]

    backend.fence = fence
    files = FileBackend(StorageKind.LOCAL, children, list, lambda: "host", local_root=home)
    keeper = StorageKeeper(
        {StorageKind.SHARED_BLOCK: backend, StorageKind.LOCAL: files},
        told.append,
        probe_every_s=0.05,
        patience_s=0,
    )
    disks = Disks(keeper, children, folder / "ca")
    return Host(number, lvm, backend, keeper, disks, VmDisks(backend), told, ended)


@pytest.fixture
async def host(san: Lvm, tmp_path: Path) -> Host:
    host = make_host(san, tmp_path, 1)
    await host.init(first=True)
    return host


@pytest.fixture
async def other(san: Lvm, host: Host, tmp_path: Path) -> Host:
    other = make_host(san, tmp_path, 2)
    await other.init()
    return other


def disk(name: str = VOLUME) -> VmDisk:
    return VmDisk(
        volume_uuid=V,
        path="",
        format=DiskFormat.QCOW2,
        device_id=1,
        storage_uuid=GROUP,
        name=name,
    )


async def test_a_group_is_made_once_and_joined_under_the_hosts_own_number(host: Host, san: Lvm) -> None:
    assert san.vgs[GROUP].tags == ["hardpoint:group"]
    assert host.lvm.joined == {GROUP: 1}
    await host.init(first=True)  # as after a crash before it was noted
    assert sum("vgcreate" in command for command in host.lvm.ran) == 1


async def test_a_second_host_that_finds_no_group_makes_none(san: Lvm, tmp_path: Path) -> None:
    second = make_host(san, tmp_path, 2)
    with pytest.raises(HardpointError, match="hold no group of it, though it has been made before"):
        await second.init()
    assert san.vgs == {}


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        ({"group": "e" * 32}, "none of Hardpoint's"),
        ({"holds": "ext4"}, "it holds ext4"),
        ({"partitions": "gpt"}, "it has partitions"),
    ],
)
async def test_what_is_anothers_is_not_wiped_though_that_is_asked_for(
    san: Lvm, tmp_path: Path, holds: dict[str, str], said: str
) -> None:
    san.add(WWIDS[0], **holds)
    san.vgs["e" * 32] = Vg(["theirs"])
    host = make_host(san, tmp_path, 1)
    with pytest.raises(HardpointError, match=said):
        await host.init(first=True, wipe=True)
    assert not any("wipefs -a" in command or "vgcreate" in command for command in host.lvm.ran)


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_disk_that_cannot_be_read_is_no_candidate_and_hides_no_other(
    san: Lvm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    host = make_host(san, tmp_path, 1)
    assert [disk.reason for disk in await host.backend.disks([])] == [None, None]
    assert len([command for command in host.lvm.ran if command.startswith("wipefs")]) == 1
    san.luns[WWIDS[0]].broken = not hangs
    if hangs:
        run = host.lvm.run

        async def hang(argv: Sequence[str], **how: Any) -> Completed:
            if "wipefs" in argv and any(WWIDS[0] in word for word in argv):
                raise CommandError(Completed(tuple(argv), -9, b"", b"", False, 20.0), "has not ended")
            return await run(argv, **how)

        monkeypatch.setattr(host.lvm, "run", hang)
    san.luns[WWIDS[1]].holds = "xfs"
    found = {disk.wwid[-1]: disk.reason for disk in await host.backend.disks([])}
    assert found == {"0": "it cannot be read", "1": "it holds xfs"}


async def test_what_a_deleted_storage_has_left_is_wiped_on_request_only(san: Lvm, tmp_path: Path) -> None:
    san.add(WWIDS[0], group="e" * 32)
    san.vgs["e" * 32] = Vg(["hardpoint:group"])
    host = make_host(san, tmp_path, 1)
    with pytest.raises(HardpointError, match="sharedBlock::wipe::true"):
        await host.init(first=True)
    with pytest.raises(HardpointError, match="belongs to the primary storage"):
        await host.init(first=True, wipe=True, others=["e" * 32])
    await host.init(first=True, wipe=True)
    assert list(san.vgs) == [GROUP]


async def test_volumes_are_active_only_while_they_are_worked_on(host: Host, san: Lvm) -> None:
    await host.make()
    assert host.lvm.active == {}
    found = await host.disks.get(GetDisk(storage=spec(), path=VOLUME, format="qcow2"))
    assert (found.size, found.backing) == (64 * MB, None)
    resize = ResizeDisk(storage=spec(), path=VOLUME, format="qcow2", size=128 * MB)
    assert (await host.disks.resize(resize)).size == 128 * MB
    assert san.vgs[GROUP].lvs[V].size > 128 * MB
    assert host.lvm.active == {}
    await host.disks.remove(RemoveFiles(storage=spec(), paths=[f"dataVolumes/vol-{V}"]))
    assert san.vgs[GROUP].lvs == {}


async def test_a_volume_that_is_written_tells_how_far_it_is(host: Host) -> None:
    await host.make()
    command = GetTransferProgress(storage=spec(), path=VOLUME)
    assert await host.disks.progress(command) == 0
    with (host.lvm.lvm.store / V).open("r+b") as writer:
        writer.seek(3 * MB)
        async with host.backend.joined(GROUP).images.opened(VOLUME):
            assert await host.disks.progress(command) == 3 * MB


async def test_a_half_made_volume_is_no_volume_and_is_made_whole(host: Host, san: Lvm) -> None:
    host.lvm.fails["lvchange"] = "killed"
    with pytest.raises(HardpointError):
        await host.make()
    assert "hardpoint:partial" in san.vgs[GROUP].lvs[V].tags
    host.lvm.fails.clear()
    await host.make()
    assert "hardpoint:partial" not in san.vgs[GROUP].lvs[V].tags
    await host.disks.remove(RemoveFiles(storage=spec(), paths=[VOLUME, f"{VOLUME}.partial"]))
    assert san.vgs[GROUP].lvs == {}


async def test_a_chain_is_opened_shared_and_its_top_alone(host: Host, other: Host, san: Lvm) -> None:
    await host.make(IMAGE)
    await host.make(backing=IMAGE)
    await host.make(TOP, backing=VOLUME)
    async with host.vm_disks.starting([disk(TOP)]):
        assert host.lvm.active == {(GROUP, S): "ex", (GROUP, V): "sh", (GROUP, I): "sh"}
        host.lvm.opened |= {S, V, I}
        with pytest.raises(HardpointError, match="cannot be used here"):
            async with other.vm_disks.starting([disk(TOP)]):
                pass
        assert other.lvm.active == {}
    assert set(host.lvm.active) == {(GROUP, S), (GROUP, V), (GROUP, I)}, "the VM has them open"
    host.lvm.opened.clear()
    await host.vm_disks.tidy()
    assert host.lvm.active == {}
    rebase = RebaseDisk(storage=spec(), path=TOP, backing=IMAGE)
    assert (await host.disks.rebase(rebase)).backing is not None


async def test_a_moving_vm_has_its_volume_on_both_hosts_and_then_on_one(
    host: Host, other: Host, san: Lvm
) -> None:
    await host.make()
    async with host.vm_disks.starting([disk()]):
        host.lvm.opened.add(V)
    await other.vm_disks.admit("f" * 32, [disk()])
    with pytest.raises(HardpointError, match="is held by other hosts"):
        await other.vm_disks.arrive("f" * 32)
    async with host.vm_disks.leaving([disk()]):
        for _ in range(2):  # libvirt may connect more than once
            await other.vm_disks.arrive("f" * 32)
        assert san.vgs[GROUP].lvs[V].held == {1: "sh", 2: "sh"}
        host.lvm.opened.clear()
        other.lvm.opened.add(V)
    await other.vm_disks.dismiss("f" * 32)
    assert san.vgs[GROUP].lvs[V].held == {2: "ex"}
    assert san.twice_active() == []


async def test_a_vm_that_stays_has_its_volume_alone_again(host: Host, other: Host, san: Lvm) -> None:
    await host.make()
    async with host.vm_disks.starting([disk()]):
        host.lvm.opened.add(V)
    await other.vm_disks.admit("f" * 32, [disk()])
    async with host.vm_disks.leaving([disk()]):
        await other.vm_disks.arrive("f" * 32)
    assert san.vgs[GROUP].lvs[V].held == {1: "sh", 2: "sh"}, "the target has it still"
    await other.vm_disks.dismiss("f" * 32)
    await host.vm_disks.tidy()
    assert san.vgs[GROUP].lvs[V].held == {1: "ex"}


async def test_a_thin_volume_grows_before_it_is_full(san: Lvm, tmp_path: Path) -> None:
    host = make_host(san, tmp_path, 1)
    await host.init(first=True, thin=True, step_bytes=64 * MB)
    create = CreateDisk(
        storage=spec(thin=True, step_bytes=64 * MB), path=VOLUME, format="qcow2", size=512 * MB
    )
    await host.disks.create(create)
    assert san.vgs[GROUP].lvs[V].size == 64 * MB
    joined = host.backend.joined(GROUP)
    used = 16 * MB

    async def written(folder: str) -> dict[str, tuple[int, int]]:
        return {f"{folder}/{V}": (used, 512 * MB)}

    roomy = []

    async def revive(_folder: str, devices: set[str]) -> list[str]:
        roomy.append({Path(device).name for device in devices})
        return []

    host.vm_disks.written, host.vm_disks.revive = written, revive
    await host.vm_disks.grow(joined)
    assert san.vgs[GROUP].lvs[V].size == 64 * MB
    used = 40 * MB
    await host.vm_disks.grow(joined)
    assert san.vgs[GROUP].lvs[V].size == 128 * MB
    used = 128 * MB
    await host.vm_disks.grow(joined)
    assert san.vgs[GROUP].lvs[V].size == 192 * MB
    assert roomy == [{V}] * 3, "a VM that the full volume had stopped may go on"


async def test_trash_is_kept_while_its_image_comes_back_and_is_purged(host: Host, san: Lvm) -> None:
    await host.make()
    await host.disks.remove(RemoveFiles(storage=spec(), paths=[f"dataVolumes/vol-{V}"], trash=f"{'1' * 32}"))
    await host.make()
    assert len(san.vgs[GROUP].lvs) == 2
    assert await host.disks.purge(PurgeTrash(storage=spec(), older_than_s=3600)) == 0
    assert await host.disks.purge(PurgeTrash(storage=spec(), older_than_s=-1)) == 1
    assert list(san.vgs[GROUP].lvs) == [V]


async def test_a_chain_moves_to_files_and_back_with_what_it_says_below(
    host: Host, san: Lvm, tmp_path: Path
) -> None:
    local = StorageSpec(uuid="9" * 32, kind=StorageKind.LOCAL, url="/data")
    await host.keeper.init(InitStorage(storage=local, first=True))
    await host.make()
    await host.make(TOP, backing=VOLUME)
    for name, backing in ((VOLUME, None), (TOP, VOLUME)):
        command = CopyFile(
            source=spec(), source_path=name, storage=local, path=name, format="qcow2", backing=backing
        )
        await host.disks.copy(command)
    folder = tmp_path / "host1/data"
    shown = subprocess.run(
        ["qemu-img", "info", "-U", str(folder / TOP)], capture_output=True, text=True, check=True
    )
    assert f"backing file: ../{V}.qcow2" in shown.stdout
    await host.disks.remove(RemoveFiles(storage=spec(), paths=[f"dataVolumes/vol-{V}"]))
    for name, backing in ((VOLUME, None), (TOP, VOLUME)):
        command = CopyFile(
            source=local, source_path=name, storage=spec(), path=name, format="qcow2", backing=backing
        )
        back = await host.disks.copy(command)
    assert back.backing == str(tmp_path / f"dev1/{GROUP}/{V}")
    assert host.lvm.active == {}


async def test_a_group_answers_though_lvm_waits_for_other_hosts(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = host.backend.joined(GROUP)
    waits = asyncio.Event()

    async def tidy() -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(joined.images.activations, "tidy", tidy)
    joined.tidied_at = -1e9
    async with asyncio.timeout(30):
        capacity, standing = await host.backend.probe(spec())
        await waits.wait()
        again, _ = await host.backend.probe(spec())
    assert (standing.state, again) == (GroupState.HELD, capacity)
    monkeypatch.undo()
    async with asyncio.timeout(30):
        await host.backend.close(spec())
    assert host.backend.all_joined() == [], "what waited was ended"


async def test_each_state_has_its_cause_and_what_brings_it_back(host: Host) -> None:
    async def state() -> GroupState:
        try:
            _, standing = await host.backend.probe(spec())
        except UnusableError as error:
            return error.standing.state
        return standing.state

    assert await state() is GroupState.HELD
    host.lvm.renewed_ago_s = 50
    assert await state() is GroupState.RENEWAL_LATE
    host.lvm.renewed_ago_s = 90
    assert await state() is GroupState.LEASE_LOST
    host.lvm.renewed_ago_s = 5
    host.lvm.lose(WWIDS[0])
    assert await state() is GroupState.DEVICE_MISSING
    host.lvm.see(WWIDS[0])
    host.lvm.daemons.discard("lvmlockd")
    assert await state() is GroupState.DAEMON_DOWN
    planned = await host.backend.recover(RecoverGroup(storage=spec()))
    assert planned.steps[0] is RecoveryStep.START_DAEMONS
    done = await host.backend.recover(RecoverGroup(storage=spec(), execute=True))
    assert done.standing.state is GroupState.HELD
    host.lvm.joined[GROUP] = 7
    assert await state() is GroupState.FOREIGN_LOCK
    host.lvm.joined.clear()
    assert await state() is GroupState.NOT_JOINED


async def test_a_lost_lease_ends_the_vms_of_this_storage_and_says_so(host: Host) -> None:
    await host.make()
    async with host.vm_disks.starting([disk()]):
        host.lvm.opened.add(V)
    host.lvm.renewed_ago_s = 90
    with pytest.raises(HardpointError, match="only when its VMs on this host are ended"):
        await host.backend.recover(RecoverGroup(storage=spec(), execute=True))
    assert host.ended == []
    probing = asyncio.create_task(host.keeper.run())
    try:
        async with asyncio.timeout(30):
            while not any(event.fenced for event in host.told):
                await asyncio.sleep(0.05)
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
    (event,) = [event for event in host.told if event.fenced]
    assert event.fenced == ["vm"]
    assert event.standing is not None
    assert event.standing.state is GroupState.LEASE_LOST
    wiped = [command for command in host.lvm.ran if "wipe_table" in command]
    assert wiped
    assert host.lvm.active == {}


async def test_a_lost_lease_ends_nothing_where_the_settings_say_so(host: Host) -> None:
    await host.make()
    host.backend.joined(GROUP).group.wanted.fence_lost = False
    host.lvm.renewed_ago_s = 90
    await host.backend.mend(spec())
    assert host.ended == []


async def test_another_lun_comes_in_and_all_that_is_worked_on_goes_on(host: Host, san: Lvm) -> None:
    wanted = spec(disks=WWIDS)
    reply = await host.backend.extend(ExtendGroup(storage=wanted, wwid=WWIDS[1]))
    assert [lun.wwid for lun in reply.luns] == WWIDS
    assert san.luns[WWIDS[1]].group == GROUP
    await host.keeper.init(InitStorage(storage=wanted, first=False))
    await host.make()


async def test_a_group_in_use_is_not_left(host: Host) -> None:
    await host.make()
    async with host.vm_disks.starting([disk()]):
        host.lvm.opened.add(V)
    with pytest.raises(HardpointError, match="is in use here"):
        await host.backend.close(spec())
    host.lvm.opened.clear()
    await host.backend.close(spec())
    assert (host.lvm.joined, host.lvm.active) == ({}, {})
    await host.backend.close(spec())
