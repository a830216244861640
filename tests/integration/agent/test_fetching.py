"""Transfers of disk images between two agents' doors over real TLS, and between storages of one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ProcessRunner
from kvmagent.protocol_storage import (
    CopyFile,
    CreateDisk,
    FetchFile,
    GetTransferProgress,
    OfferFile,
    RemoveFiles,
    StorageSpec,
)
from kvmagent.storage.backend import PARTIAL
from mn.fleet.ca import CertificateAuthority
from tests.helpers import small_disk
from tests.integration.agent.storage_hosts import (
    LIMIT_S,
    MB,
    Host,
    MakeHost,
    ca,
    empty,
    host,
    local,
    make_host,
    running,
    until,
    write,
)

__all__ = ["ca", "host", "make_host"]


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
