"""Commands, replies and events of the KVM agent about storages and the files on them.

A storage is a directory tree on the host: a local directory, an NFS export that the agent mounts, or a
directory that somebody else keeps mounted on all hosts; or a volume group that the hosts share. Paths are
relative to its root. Every command carries the storage as it is wanted; one that the agent does not know yet
has to be initialised first (`InitStorage`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

from agentkit.wire import Command, Wire
from kvmagent.protocol_ceph import CephCluster
from kvmagent.protocol_shared_block import (
    GroupStanding,
    LunCapacity,
    RecoveryReply,
    SharedBlockGroup,
    SharedDisk,
)


class StorageKind(StrEnum):
    """Kinds of storages, by the API's names."""

    LOCAL = "LocalStorage"
    NFS = "NFS"
    SMP = "SharedMountPoint"
    SHARED_BLOCK = "SharedBlock"
    CEPH = "Ceph"


class StorageSpec(Wire):
    """A storage: `url` is its directory, or `host:/export`; `options` are those of the mount of an export.

    `group` is what a shared-block storage is, `ceph` what a Ceph storage is.
    """

    uuid: str
    kind: StorageKind
    url: str
    options: str = ""
    group: SharedBlockGroup | None = None
    ceph: CephCluster | None = None


class Capacity(Wire):
    """Bytes of the file system that a storage is on, as `df` counts them."""

    total: int
    available: int


class StorageEvent(Wire):
    """Data of a `storage` event: whether a storage answers on this host; `reason` says why not.

    `standing` is that of a volume group, which may be in danger while it answers. `fenced` are the VMs
    whose power was taken because its lease was lost.
    """

    storage_uuid: str
    answering: bool
    reason: str | None = None
    capacity: Capacity | None = None
    standing: GroupStanding | None = None
    fenced: list[str] = msgspec.field(default_factory=list)


class StorageReply(Wire):
    """The storage is there; `luns` are those of a volume group."""

    capacity: Capacity
    luns: list[LunCapacity] = msgspec.field(default_factory=list)


class InitStorage(Command[StorageReply], tag="initStorage"):
    """Make a storage usable on the host and watch it from now on; done already, it is looked at again.

    `first` says that the storage has never been initialised: on this host when it is local, on any when it is
    shared. Only then is its marker written; otherwise a storage without it is another one, or its disk is not
    mounted, and is refused (SYS.1006). `others` are the shared mount points that the directory must not be,
    or the volume groups that are in use. `wipe` allows to overwrite what a storage of this fleet has left on
    LUNs. `key` is that of the client of a Ceph storage; the host keeps it, and is asked without it as well.
    """

    storage: StorageSpec
    first: bool
    key: str | None = None
    wipe: bool = False
    others: list[str] = msgspec.field(default_factory=list)


class ListSharedDisksReply(Wire):
    """The disks that several hosts could share, with those that they could not."""

    disks: list[SharedDisk]


class ListSharedDisks(Command[ListSharedDisksReply], tag="listSharedDisks"):
    """Read which disks could become part of a volume group; `groups` are the ones that are in use."""

    groups: list[str] = msgspec.field(default_factory=list)


class ExtendGroup(Command[StorageReply], tag="extendGroup"):
    """Make a LUN part of a volume group.

    Done already, nothing happens. `others`, `wipe`: as `InitStorage`.
    """

    storage: StorageSpec
    wwid: str
    wipe: bool = False
    others: list[str] = msgspec.field(default_factory=list)


class RefreshLuns(Command[StorageReply], tag="refreshLuns"):
    """Have the kernel look how large LUNs are; `resize`: and the volume group take what they have gained."""

    storage: StorageSpec
    wwids: list[str]
    resize: bool = False


class RecoverGroup(Command[RecoveryReply], tag="recoverGroup"):
    """Bring a volume group back that a host has lost; without `execute` it is only said what that takes.

    Who calls has to allow to `fence`: to take the power of the VMs that have disks on it.
    """

    storage: StorageSpec
    execute: bool = False
    fence: bool = False


class ReleaseStorageReply(Wire):
    """The storage is no longer looked after."""


class ReleaseStorage(Command[ReleaseStorageReply], tag="releaseStorage"):
    """Unmount an NFS export, and watch the storage no longer. Files stay."""

    storage: StorageSpec


class GetStorageCapacity(Command[StorageReply], tag="getStorageCapacity"):
    """Read the capacity."""

    storage: StorageSpec


class DiskReply(Wire):
    """A disk image: `size` is what a VM sees, `actual_size` what it takes on the storage."""

    size: int
    actual_size: int
    format: str
    backing: str | None


class CreateDisk(Command[DiskReply], tag="createDisk"):
    """Create an empty disk image, or an overlay on `backing`; done already, it is left as it is.

    An overlay may be larger than what it is on; without `size` it is as large.
    """

    takes_long: ClassVar[bool] = True
    storage: StorageSpec
    path: str
    format: str
    size: int | None = None
    backing: str | None = None
    backing_format: str = "qcow2"


class GetDisk(Command[DiskReply], tag="getDisk"):
    """Read what an image is."""

    storage: StorageSpec
    path: str
    format: str


class ResizeDisk(Command[DiskReply], tag="resizeDisk"):
    """Make a disk larger; one that is as large already is left alone, a larger one is refused (SYS.1007)."""

    storage: StorageSpec
    path: str
    format: str
    size: int


class RebaseDisk(Command[DiskReply], tag="rebaseDisk"):
    """Put a qcow2 image onto another one below it, or onto none, taking over what would be lost."""

    takes_long: ClassVar[bool] = True
    storage: StorageSpec
    path: str
    backing: str | None
    backing_format: str = "qcow2"


class RemoveFilesReply(Wire):
    """They are gone, but for cached images (`kept`) that are in the trash until what stands on them is."""

    kept: list[str] = msgspec.field(default_factory=list)


class RemoveFiles(Command[RemoveFilesReply], tag="removeFiles"):
    """Remove files and folders with all that is in them; what is not there is removed already.

    With `trash` they are moved to a folder of that name in the storage's trash, for `PurgeTrash`.
    """

    storage: StorageSpec
    paths: list[str]
    trash: str | None = None


class PurgeTrashReply(Wire):
    """How many folders of the trash were removed."""

    removed: int


class PurgeTrash(Command[PurgeTrashReply], tag="purgeTrash"):
    """Remove what has been in the storage's trash for longer than `older_than_s`."""

    takes_long: ClassVar[bool] = True
    storage: StorageSpec
    older_than_s: int


class OfferFileReply(Wire):
    """Where the file can be fetched, below the host's address, and what will come."""

    port: int
    path: str
    size: int
    sha256: str


class OfferFile(Command[OfferFileReply], tag="offerFile"):
    """Let another agent fetch a file by HTTPS until the offer is withdrawn.

    Who shows `token` gets it; nothing of the file may change meanwhile.
    """

    takes_long: ClassVar[bool] = True
    storage: StorageSpec
    path: str
    offer_uuid: str
    token: str


class WithdrawOfferReply(Wire):
    """Nobody can fetch the file any more."""


class WithdrawOffer(Command[WithdrawOfferReply], tag="withdrawOffer"):
    """End an offer; done also when there is none."""

    offer_uuid: str


class FetchFile(Command[DiskReply], tag="fetchFile"):
    """Fetch a disk image by HTTPS, in parts where it breaks off; done already, it is left as it is.

    It gets its name when its size, SHA-256, format and backing file are the expected ones and it is on disk.
    `ca` is the authority (PEM) that the server's certificate is checked by, None: that of the fleet. What has
    a `source_format` other than `format` is converted; it may stand on nothing then.
    """

    takes_long: ClassVar[bool] = True
    storage: StorageSpec
    path: str
    url: str
    size: int
    sha256: str
    format: str
    backing: str | None = None
    token: str | None = None
    ca: str | None = None
    source_format: str | None = None


class CopyFile(Command[DiskReply], tag="copyFile"):
    """Copy a disk image from another storage of this host; like `FetchFile` otherwise.

    With a `source_format` other than `format` it is converted, with all that it stands on.
    """

    takes_long: ClassVar[bool] = True
    source: StorageSpec
    source_path: str
    storage: StorageSpec
    path: str
    format: str
    backing: str | None = None
    source_format: str | None = None


class TransferProgress(Wire):
    """Bytes of a file that have arrived; 0 for one that is not under way."""

    done: int


class GetTransferProgress(Command[TransferProgress], tag="getTransferProgress"):
    """Say how far the file is that is fetched or copied to `path`."""

    storage: StorageSpec
    path: str
