"""Files for what scripts print: private, limited in size, number and what they leave of the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mn.fleet.outputs import Kept, OutputFile, OutputLimits, OutputStore

ROOMY = OutputLimits(file_bytes=1 << 20, total_bytes=1 << 21, jobs=10, free_bytes=0)
Make = Callable[..., OutputStore]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[OutputStore] = []

    def make(limits: OutputLimits = ROOMY, directory: Path = tmp_path / "outputs") -> OutputStore:
        made.append(OutputStore(directory, limits))
        return made[-1]

    yield make
    for store in made:
        store.close()


def begin(store: OutputStore, job: str) -> OutputFile:
    return store.file(job, "host", "stdout", lambda: None)


async def keep(store: OutputStore, job: str, data: bytes) -> Kept:
    file = begin(store, job)
    file.feed(data)
    return await file.finish()


async def test_a_stream_is_kept_whole_in_a_private_file(make: Make, tmp_path: Path) -> None:
    store = make()
    file = begin(store, "job")
    pieces = [os.urandom(1000) for _ in range(50)]
    for piece in pieces:
        file.feed(piece)
        await asyncio.sleep(0)  # so that some pieces come while others are written
    assert await file.finish() == Kept(50_000)
    path = await store.find("job", "host", "stdout")
    assert path == tmp_path / "outputs" / "job" / "host.stdout"
    assert path.read_bytes() == b"".join(pieces)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


async def test_a_stream_that_was_not_kept_is_not_found(make: Make) -> None:
    assert await make().find("job", "host", "stdout") is None


@pytest.mark.parametrize("name", ["..", "a/b", "", "a.b", "A", "x" * 65])
async def test_names_that_could_lead_elsewhere_are_refused(make: Make, name: str) -> None:
    with pytest.raises(ValueError, match="stdout"):
        begin(make(), name)


async def test_a_file_ends_at_its_limit_and_keeps_the_beginning(make: Make) -> None:
    store = make(OutputLimits(file_bytes=10, total_bytes=100, jobs=10, free_bytes=0))
    file = begin(store, "job")
    for _ in range(4):
        file.feed(b"four")
        await store.jobs()  # after what was written so far
    assert await file.finish() == Kept(10)
    path = await store.find("job", "host", "stdout")
    assert path
    assert path.read_bytes() == b"fourfourfo"


async def test_the_oldest_jobs_make_room_for_a_new_one(make: Make) -> None:
    store = make(OutputLimits(file_bytes=100, total_bytes=25, jobs=10, free_bytes=0))
    for job in ("one", "two", "three"):
        assert await keep(store, job, b"x" * 10) == Kept(10)
    assert await store.jobs() == ["two", "three"]
    assert await store.find("one", "host", "stdout") is None


async def test_no_more_jobs_than_allowed_have_files(make: Make) -> None:
    store = make(OutputLimits(file_bytes=100, total_bytes=1000, jobs=2, free_bytes=0))
    for job in ("one", "two", "three"):
        await keep(store, job, b"x")
    assert await store.jobs() == ["two", "three"]


async def test_what_is_being_written_makes_no_room(make: Make) -> None:
    store = make(OutputLimits(file_bytes=100, total_bytes=15, jobs=10, free_bytes=0))
    first, second = begin(store, "first"), begin(store, "second")
    first.feed(b"x" * 10)
    await store.jobs()
    second.feed(b"y" * 10)
    assert (await second.finish()).error == "shell_files_bytes (15) would be exceeded"
    assert await first.finish() == Kept(10)


async def test_files_of_an_earlier_process_count_and_are_removed(make: Make) -> None:
    await keep(make(), "old", b"x" * 20)
    store = make(OutputLimits(file_bytes=100, total_bytes=25, jobs=10, free_bytes=0))
    assert await store.jobs() == ["old"]
    assert await keep(store, "new", b"x" * 10) == Kept(10)
    assert await store.jobs() == ["new"]


async def test_removing_spares_what_is_being_written(make: Make) -> None:
    store = make()
    await keep(store, "done", b"x")
    file = begin(store, "busy")
    file.feed(b"x")
    await store.jobs()
    await store.remove(["done", "busy"])
    assert await store.jobs() == ["busy"]
    assert await file.finish() == Kept(1)


async def test_an_abandoned_file_is_closed(make: Make) -> None:
    store = make()
    file = begin(store, "job")
    file.feed(b"x")
    await store.jobs()
    file.abandon()
    await store.remove(["job"])
    assert file.descriptor is None
    assert await store.jobs() == []


async def test_the_free_space_that_is_to_be_left_is_left(make: Make) -> None:
    store = make(OutputLimits(file_bytes=100, total_bytes=100, jobs=10, free_bytes=1 << 60))
    kept = await keep(store, "job", b"x")
    assert kept.error.startswith("No space left on device: less than shell_files_free_bytes")
    assert await store.find("job", "host", "stdout") is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


async def test_a_full_disk_is_said_and_the_space_given_back(make: Make, small_disk: Path) -> None:
    store = make(ROOMY, small_disk / "outputs")
    file = begin(store, "job")
    for _ in range(40):
        file.feed(b"x" * 10_000)
        await store.jobs()  # after what was written so far
    assert await file.finish() == Kept(0, os.strerror(errno.ENOSPC))
    assert file.pending == 0
    usage = os.statvfs(small_disk)
    assert usage.f_blocks - usage.f_bfree < 4
    assert await keep(store, "next", b"x" * 1000) == Kept(1000)
