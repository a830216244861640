"""A volume that is being moved when somebody is killed is afterwards on one host, whole, and nowhere else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.integration.storage.conftest import MB, TIMEOUT_S, Place
from tests.integration.storage.test_local import purge, run, snapshot

SIZE = 192 * MB
PARTIAL = ".partial"


def fill(path: Path) -> None:
    """Write what cannot be compressed into a disk image."""
    raw = path.with_name("random.raw")
    with raw.open("wb") as file:
        for _ in range(SIZE // MB):
            file.write(os.urandom(MB))
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path))
    raw.unlink()


def content(path: Path) -> str:
    """Return the digest of what a VM would see."""
    raw = path.with_name("seen.raw")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(raw))
    with raw.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    raw.unlink()
    return digest


def partial_files(place: Place, host: int) -> list[Path]:
    return [file for file in place.files(host) if file.name.endswith(PARTIAL)]


def begin_move(place: Place, volume: dict[str, Any]) -> str:
    """Submit the job and return its location once bytes have arrived at the target."""
    path = f"/primary-storage/local-storage/volumes/{volume['uuid']}/actions"
    body = {"localStorageMigrateVolume": {"destHostUuid": place.hosts[1]}}
    location = place.admin.call("PUT", path, body).location

    def is_under_way() -> bool:
        return bool(partial_files(place, 1)) or place.admin.call("GET", location).status != 202

    wait_until(is_under_way, "the copy to begin", TIMEOUT_S)
    return location


@pytest.fixture
def volume(place: Place) -> dict[str, Any]:
    made = place.volume(SIZE)
    fill(place.file(0, made["installPath"]))
    snapshot(place, made, "s")
    return place.show(made)


def check(place: Place, volume: dict[str, Any], expected: str, status: int) -> None:
    """The volume is where it was, or where it was to go, and all of it."""
    now = place.show(volume)
    assert now["status"] == "Ready"
    there, elsewhere = (1, 0) if status == 200 else (0, 1)
    assert content(place.file(there, now["installPath"])) == expected
    assert place.files(elsewhere) == []
    assert len(place.files(there)) == 2
    (ref,) = place.admin.query(
        "/primary-storage/local-storage/resource-refs", f"resourceUuid={volume['uuid']}"
    )
    assert ref["hostUuid"] == place.hosts[there]


def test_the_management_node_is_killed_while_a_volume_moves(place: Place, volume: dict[str, Any]) -> None:
    expected = content(place.file(0, volume["installPath"]))
    location = begin_move(place, volume)
    place.node.kill()
    place.node.start()
    place.admin.url = place.node.url
    answer = place.admin.wait("/api-jobs/" + location.rpartition("/")[2])
    assert answer.status == 200, answer
    check(place, volume, expected, answer.status)
    purge(place, volume)


@pytest.mark.parametrize("killed", [0, 1], ids=["source", "target"])
def test_an_agent_is_killed_while_a_volume_moves(place: Place, volume: dict[str, Any], killed: int) -> None:
    expected = content(place.file(0, volume["installPath"]))
    before = [place.available(0), place.available(1)]
    location = begin_move(place, volume)
    place.kill_agent(killed)
    answer = place.admin.wait(location)
    place.wait_for_host(killed, "Connected")
    check(place, volume, expected, answer.status)
    if answer.status != 200:
        assert [place.available(0), place.available(1)] == before
    purge(place, volume)


def test_a_move_that_cannot_end_leaves_the_volume_where_it_was(place: Place, volume: dict[str, Any]) -> None:
    """Somebody has put a file where the folders of volumes are to be."""
    expected = content(place.file(0, volume["installPath"]))
    before = [place.available(0), place.available(1)]
    folders = place.file(1, "/zstack_ps/dataVolumes")
    aside = folders.with_suffix(".aside")
    if folders.exists():
        folders.rename(aside)
    folders.write_text("somebody's")
    path = f"/primary-storage/local-storage/volumes/{volume['uuid']}/actions"
    answer = place.act(path, "localStorageMigrateVolume", destHostUuid=place.hosts[1])
    assert answer.status == 503
    assert folders.read_text() == "somebody's"
    folders.unlink()
    if aside.exists():
        aside.rename(folders)
    check(place, volume, expected, answer.status)
    assert [place.available(0), place.available(1)] == before
    purge(place, volume)
