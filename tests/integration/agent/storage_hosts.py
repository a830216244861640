"""Hosts' storages without the agents around them, on real folders, with doors over real TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentkit.runner import ProcessRunner, Runner
from agentkit.tls import ServerCredentials
from kvmagent.door import Door
from kvmagent.machine.mounts import parse_mountinfo
from kvmagent.protocol_storage import (
    CreateDisk,
    DiskReply,
    InitStorage,
    StorageEvent,
    StorageKind,
    StorageSpec,
)
from kvmagent.storage.children import Children
from kvmagent.storage.disks import Disks
from kvmagent.storage.files import FileBackend
from kvmagent.storage.keeper import StorageKeeper
from kvmagent.storage.offers import Offers
from mn.fleet.ca import CertificateAuthority

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
