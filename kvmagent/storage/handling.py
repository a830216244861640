"""What the agent does for each command about storages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agentkit.events import EventHub
from agentkit.runner import Runner
from agentkit.tasks import Handler
from agentkit.wire import Command, EventKind
from kvmagent.ceph.backend import CephBackend
from kvmagent.door import Door
from kvmagent.machine.mounts import Mount
from kvmagent.protocol_shared_block import RecoveryReply
from kvmagent.protocol_storage import (
    CopyFile,
    CreateDisk,
    DiskReply,
    ExtendGroup,
    FetchFile,
    GetDisk,
    GetStorageCapacity,
    GetTransferProgress,
    InitStorage,
    ListSharedDisks,
    ListSharedDisksReply,
    OfferFile,
    OfferFileReply,
    PurgeTrash,
    PurgeTrashReply,
    RebaseDisk,
    RecoverGroup,
    RefreshLuns,
    ReleaseStorage,
    ReleaseStorageReply,
    RemoveFiles,
    RemoveFilesReply,
    ResizeDisk,
    StorageKind,
    StorageReply,
    TransferProgress,
    WithdrawOffer,
    WithdrawOfferReply,
)
from kvmagent.shared_block.backend import SharedBlockBackend
from kvmagent.shared_block.group import HostPlaces
from kvmagent.shared_block.vm_disks import VmDisks
from kvmagent.storage.backend import Backend
from kvmagent.storage.children import Children
from kvmagent.storage.disks import Disks
from kvmagent.storage.files import FileBackend
from kvmagent.storage.keeper import StorageKeeper
from kvmagent.storage.offers import Offers


@dataclass
class Storages:
    """What the handlers work with."""

    keeper: StorageKeeper
    disks: Disks
    offers: Offers
    shared_blocks: SharedBlockBackend
    ceph: CephBackend
    vm_disks: VmDisks


@dataclass(frozen=True)
class StoragePlace:
    """What storages need to know of their agent: its folder, the fleet's authority."""

    state_dir: Path
    fleet_ca: Path
    local_root: Path = Path("/")
    root: Path = Path("/")
    """Of the machine: devices, and units of systemd, are below it."""


def make_storages(
    place: StoragePlace,
    runner: Runner,
    door: Door,
    hub: EventHub,
    host_name: Callable[[], str],
    mounts: Callable[[], list[Mount]],
) -> Storages:
    """Wire the parts together."""
    children = Children(runner)
    backends: dict[StorageKind, Backend] = {
        kind: FileBackend(kind, children, mounts, host_name, local_root=place.local_root)
        for kind in (StorageKind.LOCAL, StorageKind.NFS, StorageKind.SMP)
    }
    root = place.root
    places = HostPlaces(
        place.state_dir / "lvm",
        root / "dev",
        root / "sys",
        root / "etc/systemd/system",
        root / "run/lvm/lvmlockd.socket",
    )
    shared_blocks = SharedBlockBackend(children, places, lambda event: hub.publish(EventKind.STORAGE, event))
    backends[StorageKind.SHARED_BLOCK] = shared_blocks
    backends[StorageKind.CEPH] = ceph = CephBackend(runner, place.state_dir / "ceph")
    keeper = StorageKeeper(backends, lambda event: hub.publish(EventKind.STORAGE, event))
    hub.when_followed(keeper.expect)
    disks = Disks(keeper, children, place.fleet_ca)
    offers = Offers(keeper, disks, place.state_dir / "offers", door)
    return Storages(keeper, disks, offers, shared_blocks, ceph, VmDisks(shared_blocks))


class HasStorages(Protocol):
    """A context that has them."""

    storages: Storages


async def init_storage(context: HasStorages, command: InitStorage) -> StorageReply:
    """Make a storage usable."""
    return StorageReply(capacity=await context.storages.keeper.init(command))


async def release_storage(context: HasStorages, command: ReleaseStorage) -> ReleaseStorageReply:
    """Look after a storage no longer."""
    await context.storages.keeper.release(command.storage)
    return ReleaseStorageReply()


async def get_capacity(context: HasStorages, command: GetStorageCapacity) -> StorageReply:
    """Read a storage's capacity."""
    if command.storage.group is not None:
        return await context.storages.shared_blocks.luns(command.storage.uuid)
    return StorageReply(capacity=await context.storages.disks.capacity(command.storage))


async def create_disk(context: HasStorages, command: CreateDisk) -> DiskReply:
    """Make an image."""
    return await context.storages.disks.create(command)


async def get_disk(context: HasStorages, command: GetDisk) -> DiskReply:
    """Describe an image."""
    return await context.storages.disks.get(command)


async def resize_disk(context: HasStorages, command: ResizeDisk) -> DiskReply:
    """Make an image larger."""
    return await context.storages.disks.resize(command)


async def rebase_disk(context: HasStorages, command: RebaseDisk) -> DiskReply:
    """Put an image onto another one."""
    return await context.storages.disks.rebase(command)


async def remove_files(context: HasStorages, command: RemoveFiles) -> RemoveFilesReply:
    """Remove files."""
    return RemoveFilesReply(kept=await context.storages.disks.remove(command))


async def purge_trash(context: HasStorages, command: PurgeTrash) -> PurgeTrashReply:
    """Empty the trash of what is old."""
    return PurgeTrashReply(removed=await context.storages.disks.purge(command))


async def offer_file(context: HasStorages, command: OfferFile) -> OfferFileReply:
    """Let a file be fetched."""
    return await context.storages.offers.offer(command)


async def withdraw_offer(context: HasStorages, command: WithdrawOffer) -> WithdrawOfferReply:
    """Let a file be fetched no longer."""
    await context.storages.offers.withdraw(command.offer_uuid)
    return WithdrawOfferReply()


async def fetch_file(context: HasStorages, command: FetchFile) -> DiskReply:
    """Fetch an image."""
    return await context.storages.disks.fetch(command)


async def copy_file(context: HasStorages, command: CopyFile) -> DiskReply:
    """Copy an image."""
    return await context.storages.disks.copy(command)


async def transfer_progress(context: HasStorages, command: GetTransferProgress) -> TransferProgress:
    """Say how far a file is."""
    return TransferProgress(done=await context.storages.disks.progress(command))


async def list_shared_disks(context: HasStorages, command: ListSharedDisks) -> ListSharedDisksReply:
    """Say which disks several hosts could share."""
    return ListSharedDisksReply(disks=await context.storages.shared_blocks.disks(command.groups))


async def extend_group(context: HasStorages, command: ExtendGroup) -> StorageReply:
    """Take a LUN into a volume group."""
    return await context.storages.shared_blocks.extend(command)


async def refresh_luns(context: HasStorages, command: RefreshLuns) -> StorageReply:
    """Look how large LUNs are."""
    return await context.storages.shared_blocks.refresh(command)


async def recover_group(context: HasStorages, command: RecoverGroup) -> RecoveryReply:
    """Bring a volume group back."""
    return await context.storages.shared_blocks.recover(command)


STORAGE_HANDLERS: Mapping[type[Command[Any]], Handler[Any]] = {
    InitStorage: init_storage,
    ReleaseStorage: release_storage,
    GetStorageCapacity: get_capacity,
    CreateDisk: create_disk,
    GetDisk: get_disk,
    ResizeDisk: resize_disk,
    RebaseDisk: rebase_disk,
    RemoveFiles: remove_files,
    PurgeTrash: purge_trash,
    OfferFile: offer_file,
    WithdrawOffer: withdraw_offer,
    FetchFile: fetch_file,
    CopyFile: copy_file,
    GetTransferProgress: transfer_progress,
    ListSharedDisks: list_shared_disks,
    ExtendGroup: extend_group,
    RefreshLuns: refresh_luns,
    RecoverGroup: recover_group,
}
