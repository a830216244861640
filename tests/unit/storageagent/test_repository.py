from __future__ import annotations

import errno
import hashlib
import itertools
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import HardpointError
from storageagent.store.chunks import CHUNK_BYTES
from storageagent.store.repository import MARKER, Repository
from storageagent.store.writer import Source
from tests.unit.storageagent.stores import (
    UUID_A,
    UUID_B,
    chunk_files,
    content,
    described,
    get,
    leftovers,
    noise,
    put,
    qcow2,
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "store")


def test_what_is_put_in_comes_out_with_its_checksum_and_sizes(repository: Repository) -> None:
    data = content(1, 0, 2, tail=1234)
    stored = put(repository, data)
    assert get(repository) == data
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert (stored.size_bytes, stored.virtual_bytes) == (len(data), len(data))
    assert repository.verify(UUID_A) == []
    assert leftovers(repository.folder) == []


def test_a_qcow2_image_tells_the_size_of_its_disk(repository: Repository) -> None:
    data = qcow2(20 * 1024**3) + noise(4, 3 * 65536)
    assert put(repository, data, described(format="qcow2")).virtual_bytes == 20 * 1024**3


def test_zeros_take_no_room_and_equal_chunks_are_kept_once(repository: Repository) -> None:
    put(repository, content(1, 0, 1, 0, 0))
    assert len(chunk_files(repository.folder)) == 1
    put(repository, content(1, 2), described(UUID_B))
    assert len(chunk_files(repository.folder)) == 2


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 3 * CHUNK_BYTES + 17),
    cuts=st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=4),
    span=st.tuples(st.integers(0, 3 * CHUNK_BYTES), st.integers(0, 3 * CHUNK_BYTES)),
)
def test_any_range_of_any_image_written_in_any_pieces_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, size: int, cuts: list[int], span: tuple[int, int]
) -> None:
    repository = Repository(tmp_path_factory.mktemp("ranges") / "store")
    data = noise(size, size)
    writer = repository.writer(Source(described()))
    writer.open()
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    for begin, end in itertools.pairwise(edges):
        writer.write(data[begin:end])
    writer.finish()
    start, end = sorted(min(edge, size) for edge in span)
    assert b"".join(repository.read(UUID_A, start, end)) == data[start:end]
    repository.close()


def test_a_store_is_found_again_with_its_images(tmp_path: Path) -> None:
    first = Repository(tmp_path / "store")
    stored = put(first, content(1, 2), described(description="kept", platform="Linux"))
    first.close()
    again = Repository(tmp_path / "store", create=False)
    assert again.images() == ([stored], [])


def test_two_processes_never_work_on_one_store(repository: Repository) -> None:
    with pytest.raises(HardpointError, match="another agent works on it"):
        Repository(repository.folder)


def test_a_folder_with_other_things_or_of_another_version_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("important")
    with pytest.raises(HardpointError, match=r"not empty: it has thesis\.tex"):
        Repository(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / MARKER).write_text('{"version": 2}')
    with pytest.raises(HardpointError, match="not of this version"):
        Repository(tmp_path / "later")
    with pytest.raises(HardpointError, match="no absolute path"):
        Repository(Path("relative"))
    (tmp_path / "mounted").mkdir()
    with pytest.raises(HardpointError, match="see whether its file system is mounted"):
        Repository(tmp_path / "mounted", create=False)
    assert list((tmp_path / "mounted").iterdir()) == []


def test_an_import_goes_on_where_it_was_left_and_has_the_checksum_of_the_whole(
    repository: Repository,
) -> None:
    data = content(1, 2, 3, tail=99)
    writer = repository.writer(Source(described()))
    writer.open()
    writer.write(data[: 2 * CHUNK_BYTES + 10])
    writer.flush()
    repository.release(writer)
    again = repository.writer(Source(described()))
    again.open()
    assert again.offset == 2 * CHUNK_BYTES
    again.write(data[again.offset :])
    assert again.finish().sha256 == hashlib.sha256(data).hexdigest()


def test_what_was_begun_from_another_description_is_not_gone_on_with(repository: Repository) -> None:
    writer = repository.writer(Source(described()))
    writer.open()
    writer.write(content(1, 2))
    writer.flush()
    repository.release(writer)
    other = repository.writer(Source(described(description="another")))
    other.open()
    assert other.offset == 0


def test_a_begun_import_whose_chunk_has_gone_goes_on_before_it(repository: Repository) -> None:
    writer = repository.writer(Source(described()))
    writer.open()
    writer.write(content(1, 2, 3))
    writer.flush()
    repository.release(writer)
    gone = hashlib.sha256(content(2)).digest()
    repository.chunks.path(gone).unlink()
    again = repository.writer(Source(described()))
    again.open()
    assert again.offset == CHUNK_BYTES


def test_an_upload_of_another_size_or_checksum_makes_no_image(repository: Repository) -> None:
    for wanted in ({"size": 5}, {"sha256": "0" * 64}):
        writer = repository.writer(Source(described()))
        writer.open()
        writer.write(content(1)[writer.offset :])
        with pytest.raises(HardpointError, match="what has arrived are"):
            writer.finish(**wanted)  # type: ignore[arg-type]
        repository.release(writer)
    assert not repository.manifests.has(UUID_A)


def test_a_wrong_format_is_seen_with_the_first_chunk(repository: Repository) -> None:
    writer = repository.writer(Source(described(format="qcow2")))
    writer.open()
    with pytest.raises(HardpointError, match="it is not qcow2"):
        writer.write(content(1))


def test_a_damaged_chunk_is_found_and_never_handed_out(repository: Repository) -> None:
    put(repository, content(1, 2))
    digest = hashlib.sha256(content(2)).digest()
    path = repository.chunks.path(digest)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert repository.verify(UUID_A) == [digest.hex()]
    with pytest.raises(HardpointError, match=digest.hex()):
        get(repository)
    path.unlink()
    assert repository.verify(UUID_A) == [digest.hex()]


def test_garbage_is_collected_and_what_images_share_stays(repository: Repository) -> None:
    kept = content(1, 2)
    put(repository, kept)
    put(repository, content(2, 3, 4), described(UUID_B))
    repository.drop(UUID_B)
    reply = repository.collect()
    assert (reply.removed_chunks, reply.kept_chunks) == (2, 2)
    assert reply.freed_bytes >= 2 * CHUNK_BYTES
    assert get(repository) == kept
    assert repository.collect().removed_chunks == 0


def test_what_a_begun_import_has_is_no_garbage_until_it_is_old(repository: Repository) -> None:
    writer = repository.writer(Source(described()))
    writer.open()
    writer.write(content(1, 2))
    writer.flush()
    repository.release(writer)
    assert repository.collect().removed_chunks == 0
    os.utime(repository.folder / "imports" / UUID_A, (0, 0))
    assert repository.collect().removed_chunks == 2


def test_a_large_store_is_swept_in_parts(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storageagent.store.collect.LIVE_AT_ONCE", 2)
    data = content(*range(1, 8))
    put(repository, data)
    put(repository, content(*range(20, 26)), described(UUID_B))
    repository.drop(UUID_B)
    reply = repository.collect()
    assert (reply.removed_chunks, reply.kept_chunks) == (6, 7)
    assert get(repository) == data


def test_a_manifest_that_cannot_be_read_ends_the_collection_before_anything_is_removed(
    repository: Repository,
) -> None:
    put(repository, content(1))
    put(repository, content(2), described(UUID_B))
    repository.drop(UUID_B)
    path = repository.manifests.path(UUID_A)
    whole = path.read_bytes()
    damages = [whole[:-3], b"", whole[:-32] + bytes(31) + b"\1", whole.replace(b"chunkBytes", b"chunkbytes")]
    for damage in damages:
        path.write_bytes(damage)
        before = chunk_files(repository.folder)
        with pytest.raises((HardpointError, ValueError)):
            repository.collect()
        assert chunk_files(repository.folder) == before
    path.write_bytes(whole)
    assert repository.collect().removed_chunks == 1


def test_an_import_at_the_same_time_loses_nothing_to_a_collection(tmp_path: Path) -> None:
    """The collection stops at its first step; then an image begins and ends that shares what is garbage."""
    stopped, go_on = threading.Event(), threading.Event()

    def boundary(name: str) -> None:
        if name == "marked":
            stopped.set()
            assert go_on.wait(60)

    repository = Repository(tmp_path / "store", boundary)
    put(repository, content(1, 2, 3))
    repository.drop(UUID_A)
    found: list[int] = []
    collecting = threading.Thread(target=lambda: found.append(repository.collect().removed_chunks))
    collecting.start()
    assert stopped.wait(60)
    put(repository, content(2, 5), described(UUID_B))
    go_on.set()
    collecting.join(60)
    assert found == [2]
    assert get(repository, UUID_B) == content(2, 5)


def test_a_full_disk_is_named_and_what_was_there_stays_whole(tmp_path: Path) -> None:
    full = threading.Event()

    def boundary(name: str) -> None:
        if name == "staging" and full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    repository = Repository(tmp_path / "store", boundary)
    put(repository, content(1, 2))
    full.set()
    with pytest.raises(HardpointError) as raised, repository.filling():
        put(repository, content(2, 3), described(UUID_B))
    assert raised.value.code == "BS.1003"
    assert str(repository.folder) in raised.value.details
    full.clear()
    repository.drop(UUID_B)
    repository.collect()
    assert get(repository) == content(1, 2)
    assert leftovers(repository.folder) == []
    put(repository, content(2, 3), described(UUID_B))
    assert get(repository, UUID_B) == content(2, 3)
