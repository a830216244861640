"""Ceph storages as a backend: a cluster that this host is a client of, known by a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.files import write_durably
from agentkit.rbd import Rbd
from agentkit.runner import Runner
from kvmagent.ceph.client import configuration, fsid_of, keyring, keyring_keys, with_key
from kvmagent.ceph.images import RbdImages
from kvmagent.protocol_ceph import CephCluster
from kvmagent.protocol_storage import Capacity, InitStorage, StorageSpec
from kvmagent.storage.backend import Backend
from kvmagent.storage.children import refused

log = logging.getLogger(__name__)

LOOK_EVERY_S = 9.0
"""The programs take a tenth of a second of a processor each time."""

Forget = Callable[[str], Awaitable[None]]
"""Has VMs no longer use the key of a storage."""


async def forget_nothing(_storage_uuid: str) -> None:
    """Stand for a host without VMs."""


class _Joined:
    """A cluster that this host is a client of."""

    def __init__(self, cluster: CephCluster, rbd: Rbd, images: RbdImages, capacity: Capacity) -> None:
        self.cluster = cluster
        self.rbd = rbd
        self.images = images
        self.capacity = capacity
        self.looked_at = time.monotonic()


class CephBackend(Backend):
    """The clusters of this host; their keys are kept below `directory`, for root only."""

    is_local = False

    def __init__(self, runner: Runner, directory: Path) -> None:
        self._runner = runner
        self._directory = directory
        self._joined: dict[str, _Joined] = {}
        self.forget: Forget = forget_nothing

    async def key(self, storage_uuid: str, user: str) -> str:
        """Return the key of a client. Raises HardpointError (SYS.1006) when this host has none."""
        found = (await asyncio.to_thread(_keys, self._directory / storage_uuid)).get(user)
        if found is None:
            raise refused(
                f"this host has no key of the storage {storage_uuid} as its client {user}",
                "reconnect the storage",
            )
        return found

    async def open(self, command: InitStorage, *, known: bool) -> tuple[RbdImages, Capacity]:
        """Keep what reaches the cluster, and look whether it does."""
        spec, cluster = command.storage, _wanted(command.storage)
        folder = self._directory / spec.uuid
        new = not await asyncio.to_thread(folder.exists)
        user = await asyncio.to_thread(_write, folder, cluster, command.key)
        rbd = Rbd(self._runner, str(folder / "ceph.conf"), user)
        try:
            await self.key(spec.uuid, user)
            await self._check_cluster(spec, cluster, rbd)
            images = RbdImages(spec.uuid, cluster, rbd)
            capacity = await images.capacity()
        except HardpointError:
            if new:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        self._joined[spec.uuid] = _Joined(cluster, rbd, images, capacity)
        return images, capacity

    async def _check_cluster(self, spec: StorageSpec, cluster: CephCluster, rbd: Rbd) -> None:
        found = fsid_of((await rbd.ceph("fsid")).stdout)
        if found != cluster.fsid:
            where = ", ".join(mon.where for mon in cluster.mons)
            raise refused(
                f"the storage {spec.uuid} is the Ceph cluster {cluster.fsid}, at {where} is {found}",
                "see where its monitors are now, then update them",
            )
        for pool in cluster.pools:
            await _look(rbd, pool)

    async def close(self, spec: StorageSpec) -> None:
        """Forget the key; a libvirt that is away has it in memory only."""
        try:
            await self.forget(spec.uuid)
        except HardpointError as error:
            log.warning("libvirt not told", extra={"storage": spec.uuid, "reason": error.details})
        self._joined.pop(spec.uuid, None)
        await asyncio.to_thread(shutil.rmtree, self._directory / spec.uuid, ignore_errors=True)

    async def probe(self, spec: StorageSpec) -> tuple[Capacity, None]:
        """Read an object of the cluster. The capacity is as it was: the agents beside monitors tell of it."""
        joined = self._joined.get(spec.uuid)
        if joined is None:
            raise refused(f"the storage {spec.uuid} is not initialised on this host", "reconnect the storage")
        now = time.monotonic()
        if now - joined.looked_at > LOOK_EVERY_S:
            joined.looked_at = 0.0
            await _look(joined.rbd, joined.cluster.root_pool)
            joined.looked_at = now
        return joined.capacity, None

    async def mend(self, spec: StorageSpec) -> None:
        """A cluster comes back by itself."""


async def _look(rbd: Rbd, pool: str) -> None:
    """Read the pool's list of namespaces: one small object."""
    await rbd.rbd("namespace", "ls", pool, "--format", "json")


def _keys(folder: Path) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError):
        return keyring_keys((folder / "keyring").read_text())
    return {}


def _write(folder: Path, cluster: CephCluster, key: str | None) -> str:
    """Write what reaches the cluster; return the client that this host is: without a key, the one it was."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(folder / "ceph.conf", configuration(cluster, str(folder / "keyring")).encode())
    known = _keys(folder)
    if key is None:
        return next(iter(known), cluster.user)
    write_durably(folder / "keyring", keyring(with_key(known, cluster.user, key)).encode())
    return cluster.user


def _wanted(spec: StorageSpec) -> CephCluster:
    if spec.ceph is None:
        raise refused(f"it is not said what the Ceph storage {spec.uuid} is", "report it")
    return spec.ceph
