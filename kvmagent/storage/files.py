"""Storages that are directories: local ones, NFS exports that are mounted, mount points of somebody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agentkit.errors import HardpointError
from kvmagent.machine.mounts import Mount
from kvmagent.protocol_storage import Capacity, InitStorage, StorageKind, StorageSpec
from kvmagent.storage.backend import PARTIAL, Backend, check_name
from kvmagent.storage.children import COPY_LIMIT_S, QUICK_LIMIT_S, Children, refused
from kvmagent.storage.mounting import (
    MOUNT_BASE,
    check_shared,
    holder_of,
    is_export,
    mount_argv,
    mounted_at,
)
from kvmagent.storage.qemu_images import QemuImages
from kvmagent.storage.qemu_img import relative_backing

PROBE_LIMIT_S = 7 * 24 * 3600.0
INIT_LIMIT_S = 60.0
MOUNT_LIMIT_S = 60.0
UNMOUNT_LIMIT_S = 20.0


class FileImages(QemuImages):
    """Images that are files below a root."""

    def __init__(self, uuid: str, root: Path, children: Children) -> None:
        self._uuid = uuid
        self._root = root
        self._children = children

    def path(self, name: str) -> str:
        """Return where a file of the storage is."""
        return str(self._root / check_name(self._uuid, name))

    def below(self, name: str, backing: str | None) -> str | None:
        """Return it relative to the image's folder: the storage may be mounted anywhere."""
        return relative_backing(name, backing)

    @asynccontextmanager
    async def opened(self, *names: str, chain: bool = False, shared: bool = False) -> AsyncIterator[None]:
        """Files can be opened whenever their storage answers."""
        for name in names:
            check_name(self._uuid, name)
        yield

    async def exists(self, name: str) -> bool:
        """Say whether there is a file."""
        return bool(await self._children.do("exists", QUICK_LIMIT_S, path=self.path(name)))

    async def make_room(self, name: str, size: int | None, disk_format: str, length: int | None) -> None:
        """Make the folders above it: a file takes room as it is written."""
        await self._children.do("make_parents", QUICK_LIMIT_S, path=self.path(name))

    async def publish(self, name: str) -> None:
        """Rename it, synced."""
        path = self.path(name)
        await self._children.do("publish", QUICK_LIMIT_S, partial=path + PARTIAL, path=path)

    async def grow(self, name: str, size: int, disk_format: str, *, full: bool = False) -> None:
        """A file grows by itself."""

    async def taken(self, name: str, told: int) -> int:
        """The file system has told qemu-img."""
        return told

    async def length(self, name: str) -> int | None:
        """All of a file is the image."""
        return None

    async def arrived(self, name: str) -> int:
        """Return how long the partial file is."""
        return int(await self._children.do("size", QUICK_LIMIT_S, path=self.path(name) + PARTIAL))

    async def remove(self, names: list[str], trash: str | None) -> list[str]:
        """Remove files and folders, or move them to the trash."""
        for name in names:
            check_name(self._uuid, name)
        await self._children.do("remove", COPY_LIMIT_S, root=str(self._root), paths=names, trash=trash)
        return []

    async def purge(self, older_than_s: int) -> int:
        """Empty the trash of what is old."""
        root = str(self._root)
        return int(await self._children.do("purge", COPY_LIMIT_S, root=root, older_than_s=older_than_s))

    async def capacity(self) -> Capacity:
        """Ask the file system."""
        return Capacity(**await self._children.do("capacity", QUICK_LIMIT_S, root=str(self._root)))


class FileBackend(Backend):
    """Directories of one kind.

    `local_root` is what directories of local storages are below; `host_name` tells this host's files on
    shared storages from those of others.
    """

    def __init__(
        self,
        kind: StorageKind,
        children: Children,
        mounts: Callable[[], list[Mount]],
        host_name: Callable[[], str],
        *,
        local_root: Path = Path("/"),
        mount_base: Path = Path(MOUNT_BASE),
    ) -> None:
        self._kind = kind
        self._children = children
        self._mounts = mounts
        self._host_name = host_name
        self._local_root = local_root
        self._mount_base = mount_base

    @property
    def is_local(self) -> bool:
        """Only directories of the host's own disks are."""
        return self._kind is StorageKind.LOCAL

    def root_of(self, spec: StorageSpec) -> Path:
        """Return the directory of a storage on this host."""
        if spec.kind is StorageKind.NFS:
            return self._mount_base / f"prim-{spec.uuid}"
        if spec.kind is StorageKind.LOCAL:
            return self._local_root / spec.url.lstrip("/")
        return Path(spec.url)

    async def open(self, command: InitStorage, *, known: bool) -> tuple[FileImages, Capacity]:
        """Mount it where that is to be done; see to its marker."""
        spec = command.storage
        root = self.root_of(spec)
        if spec.kind is StorageKind.NFS:
            await self._mount(spec, root)
        elif spec.kind is StorageKind.SMP:
            check_shared(holder_of(self._mounts(), str(root)), str(root))
        try:
            capacity = await self._claim(command, root)
        except HardpointError:
            if spec.kind is StorageKind.NFS and not known:
                await self._unmount(root)
            raise
        return FileImages(spec.uuid, root, self._children), capacity

    async def close(self, spec: StorageSpec) -> None:
        """Unmount an export."""
        if spec.kind is StorageKind.NFS:
            await self._unmount(self.root_of(spec))

    async def probe(self, spec: StorageSpec) -> tuple[Capacity, None]:
        """Look at its marker and write a file."""
        root = self.root_of(spec)
        if spec.kind is StorageKind.NFS:
            found = mounted_at(self._mounts(), str(root))
            if found is None or not is_export(found, spec.url):
                raise refused(f"{spec.url} is not mounted at {root}", "it is mounted again by itself")
        writes = f"alive-{self._host_name()}"
        return Capacity(**await self._children.probe(str(root), spec.uuid, writes, PROBE_LIMIT_S)), None

    async def mend(self, spec: StorageSpec) -> None:
        """Mount an export again that is stale or gone."""
        if spec.kind is StorageKind.NFS:
            root = self.root_of(spec)
            await self._unmount(root)
            await self._mount(spec, root)

    async def _claim(self, command: InitStorage, root: Path) -> Capacity:
        spec = command.storage
        answer = await self._children.do(
            "claim",
            INIT_LIMIT_S,
            root=str(root),
            uuid=spec.uuid,
            first=command.first,
            others=command.others,
            make=spec.kind is StorageKind.LOCAL,
        )
        return Capacity(**answer)

    async def _mount(self, spec: StorageSpec, root: Path) -> None:
        argv = mount_argv(spec.url, str(root), spec.options)
        found = mounted_at(self._mounts(), str(root))
        if found is not None and is_export(found, spec.url):
            return
        if found is not None:
            raise refused(f"{root} is occupied by {found.source} ({found.kind})", "unmount that")
        await self._children.run(["mkdir", "-p", "-m", "755", str(root)], UNMOUNT_LIMIT_S)
        (await self._children.run(argv, MOUNT_LIMIT_S)).check()

    async def _unmount(self, root: Path) -> None:
        while mounted_at(self._mounts(), str(root)) is not None:
            (await self._children.run(["umount", "-f", "-l", str(root)], UNMOUNT_LIMIT_S)).check()
        # Without -p: only an empty folder goes.
        await self._children.run(["rmdir", str(root)], UNMOUNT_LIMIT_S)
