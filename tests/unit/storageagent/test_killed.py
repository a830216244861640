"""A process is killed at every step of importing, dropping and collecting; whatever was promised is there."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from storageagent.store.repository import Repository
from tests.unit.storageagent.stores import (
    UUID_A,
    UUID_B,
    chunk_files,
    content,
    described,
    get,
    leftovers,
    put,
)

A, B, C = content(1, 2, 0, 3, tail=70), content(2, 3, 4), content(1, 5)
UUID_C = "c" * 32


def work(folder: Path, die_at: int) -> None:
    """Bring in two images, delete one, collect garbage while a third comes in; die at a step."""
    steps, lock = [0], threading.Lock()

    def boundary(_name: str) -> None:
        with lock:
            steps[0] += 1
            if steps[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    repository = Repository(folder, boundary)
    put(repository, A)
    put(repository, B, described(UUID_B))
    (folder.parent / "a-is-wanted").unlink(missing_ok=True)
    repository.drop(UUID_A)
    third = threading.Thread(target=put, args=(repository, C, described(UUID_C)))
    third.start()
    repository.collect()
    third.join()


def died(folder: Path, die_at: int) -> bool:
    """Do the work in a process of its own; return whether it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work(folder, die_at)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def check(folder: Path, *, a_is_wanted: bool) -> None:
    repository = Repository(folder)
    wanted = {UUID_A: A, UUID_B: B, UUID_C: C}
    images, faults = repository.images()
    assert faults == []
    for stored in images:
        assert get(repository, stored.image.uuid) == wanted[stored.image.uuid]
    repository.collect()
    for stored in images:
        assert get(repository, stored.image.uuid) == wanted[stored.image.uuid]
    for uuid in (UUID_B, UUID_C):
        if not repository.manifests.has(uuid):
            put(repository, wanted[uuid], described(uuid))
    if not a_is_wanted:
        repository.drop(UUID_A)
    repository.collect()
    assert get(repository, UUID_B) == B
    assert get(repository, UUID_C) == C
    if not repository.manifests.has(UUID_A):
        repository.drop(UUID_A)  # what is begun and not gone on with
        repository.collect()
        assert len(chunk_files(folder)) == 5
    assert leftovers(folder) == []
    repository.close()


def test_a_store_whose_process_is_killed_at_any_step_has_all_it_promised(tmp_path: Path) -> None:
    die_at = 1
    while True:
        place = tmp_path / str(die_at)
        place.mkdir()
        (place / "a-is-wanted").touch()
        killed = died(place / "store", die_at)
        check(place / "store", a_is_wanted=(place / "a-is-wanted").exists())
        if not killed:
            break
        die_at += 1
    assert die_at > 20, "the steps of all three images and of the collection"
