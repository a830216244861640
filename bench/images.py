"""Images and volumes on their way: imported, exported, moved, beside plain copies of the same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.common import Table, load_note, scratch
from tests.node import Rest, run_node

SIZE_MB = 512
SYSTEM_MB = 96
MB = 1024 * 1024
HEADS = ("what", "seconds", "MB/s", "x floor")
HOSTS = ("127.0.7.1", "127.0.7.2")
STORES = ("127.0.7.3",)
CHANGED = 0.12
"""Part of the files that an upgrade replaces."""


def table(megabytes: int = SIZE_MB) -> Table:
    """Import an image, export it, move a volume made of it; store a second one that differs by an upgrade."""
    before = os.getloadavg()[0]
    result = Table(f"images and volumes of {megabytes} MB", HEADS)
    with scratch() as directory, contextlib.contextmanager(run_node)(directory / "state") as node:
        disk = directory / "disk.raw"
        make_disk(disk, megabytes)
        place = _Place(node.rest().logged_in(), directory)
        _import(result, place, disk, megabytes)
        _move(result, place, node.state, megabytes)
        result.notes = [*_deduplication(place, directory), *_NOTES, load_note(before)]
    return result


_NOTES = [
    "floor: the same bytes written by one program and synced",
    "the image store hashes, compresses and syncs; a moved volume is hashed at both ends and sent by TLS",
    "a quarter of the image is zeros, a half text-like, a quarter noise",
]


class _Place:
    """A cluster with two hosts on this machine, a local storage and an image store."""

    def __init__(self, admin: Rest, directory: Path) -> None:
        self.admin = admin
        login = {"username": "root", "password": "unused"}
        self.zone = admin.create("/zones", name="zone")["uuid"]
        cluster = admin.create("/clusters", name="c", zoneUuid=self.zone, hypervisorType="KVM")["uuid"]
        self.hosts = [
            admin.create("/hosts/kvm", name=at, managementIp=at, clusterUuid=cluster, **login)["uuid"]
            for at in HOSTS
        ]
        self.storage = admin.create(
            "/primary-storage/local-storage", name="p", url="/bench_ps", zoneUuid=self.zone
        )["uuid"]
        _well(admin.run("POST", f"/clusters/{cluster}/primary-storage/{self.storage}", {}))
        self.folder = directory / "store"
        store = {"hostname": STORES[0], "url": str(self.folder)}
        self.store = admin.create("/backup-storage/image-store", name="s", **store, **login)["uuid"]
        _well(admin.run("POST", f"/zones/{self.zone}/backup-storage/{self.store}", None))

    def add_image(self, disk: Path) -> dict[str, Any]:
        """Have a file of the store's server imported."""
        wanted = {
            "name": disk.name,
            "url": f"file://{disk}",
            "format": "raw",
            "mediaType": "DataVolumeTemplate",
        }
        return self.admin.create("/images", backupStorageUuids=[self.store], **wanted)


def _import(result: Table, place: _Place, disk: Path, megabytes: int) -> None:
    copy = disk.with_suffix(".copy")
    floor = timed(lambda: _synced(["cp", "--sparse=auto", str(disk), str(copy)], copy))
    convert = timed(lambda: _synced(["qemu-img", "convert", "-O", "qcow2", str(disk), str(copy)], copy))
    took = timed(lambda: place.add_image(disk))
    row(result, "floor: cp and sync", floor, megabytes, floor)
    row(result, "floor: qemu-img convert to qcow2 and sync", convert, megabytes, floor)
    row(result, "AddImage from a file", took, megabytes, floor)
    (image,) = place.admin.query("/images", f"name={disk.name}")
    body = {"exportImageFromBackupStorage": {"imageUuid": image["uuid"]}}
    url = _well(place.admin.run("PUT", f"/backup-storage/{place.store}/actions", body))["imageUrl"]
    took = timed(lambda: _download(url, copy))
    row(result, "export, by HTTPS to a file and sync", took, megabytes, floor)
    copy.unlink()


def _move(result: Table, place: _Place, state: Path, megabytes: int) -> None:
    tag = f"localStorage::hostUuid::{place.hosts[0]}"
    volume = place.admin.create(
        "/volumes/data",
        name="v",
        diskSize=megabytes * MB,
        primaryStorageUuid=place.storage,
        systemTags=[tag],
    )
    file = state / "storage" / place.hosts[0] / volume["installPath"].lstrip("/")
    raw = state.parent / "disk.raw"
    _run(["qemu-img", "convert", "-n", "-O", "qcow2", str(raw), str(file)])
    copy = state.parent / "volume.copy"
    floor = timed(lambda: _synced(["cp", str(file), str(copy)], copy))
    path = f"/primary-storage/local-storage/volumes/{volume['uuid']}/actions"
    body = {"localStorageMigrateVolume": {"destHostUuid": place.hosts[1]}}
    took = timed(lambda: _well(place.admin.run("PUT", path, body)))
    row(result, "floor: cp of a volume's file and sync", floor, megabytes, floor)
    row(result, "LocalStorageMigrateVolume to another host", took, megabytes, floor)
    copy.unlink()


def _deduplication(place: _Place, directory: Path) -> list[str]:
    """Store two file systems that differ by an upgrade; say how much of the second was new, beside restic."""
    disks = _two_systems(directory)
    before = _bytes_below(place.folder)
    place.add_image(disks[0])
    first = _bytes_below(place.folder) - before
    place.add_image(disks[1])
    grown = _bytes_below(place.folder) - before - first
    size = disks[1].stat().st_size
    notes = [f"deduplication: the second of two file systems of {size / MB:.0f} MB took {_part(grown, size)}"]
    if shutil.which("restic") is None:
        return [
            *notes,
            "deduplication: restic is not installed, so nothing beside it (apt-get install restic)",
        ]
    repository = directory / "restic"
    environment = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(directory / "cache")}
    grew = []
    _run(["restic", "-q", "-r", str(repository), "init"], environment)
    for disk in disks:
        was = _bytes_below(repository)
        _run(["restic", "-q", "-r", str(repository), "backup", str(disk)], environment)
        grew.append(_bytes_below(repository) - was)
    ours, theirs = first / size, grew[0] / size
    notes.append(
        f"beside it restic took {_part(grew[1], size)}; of the first one {theirs:.0%}, Hardpoint {ours:.0%}"
    )
    return notes


def _two_systems(directory: Path) -> list[Path]:
    """Make two ext4 images of programs of this machine; in the second one an upgrade has replaced files."""
    tree = directory / "tree"
    tree.mkdir()
    library = Path(os.__file__).parent
    for file in sorted(
        [*library.glob("*.py"), *(library / "lib-dynload").glob("*.so"), Path(sys.executable)]
    ):
        shutil.copy(file, tree)
    disks = [directory / "old.raw", directory / "new.raw"]
    for number, disk in enumerate(disks):
        if number:
            _upgrade(tree)
        with disk.open("wb") as file:
            file.truncate(SYSTEM_MB * MB)
        _run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(disk)])
    return disks


def _upgrade(tree: Path) -> None:
    chance = random.Random(7)
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink() and chance.random() < CHANGED:
            content = path.read_bytes()
            path.unlink()
            at = chance.randrange(len(content) + 1)
            path.write_bytes(content[:at] + chance.randbytes(97) + content[at:])


def make_disk(path: Path, megabytes: int) -> None:
    """Write a disk of zeros, text-like and noise."""
    chance = random.Random(5)
    words = [chance.randbytes(6).hex().encode() for _ in range(4096)]
    with path.open("wb") as file:
        for number in range(megabytes):
            match number % 4:
                case 0:
                    file.seek(MB, os.SEEK_CUR)
                case 1:
                    file.write(chance.randbytes(MB))
                case _:
                    file.write(b" ".join(chance.choices(words, k=MB // 12))[:MB].ljust(MB))
        file.truncate(megabytes * MB)
        os.fsync(file.fileno())


def _download(url: str, to: Path) -> None:
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(url, context=context) as answer, to.open("wb") as file:
        shutil.copyfileobj(answer, file, MB)
        os.fsync(file.fileno())


def _synced(argv: list[str], file: Path) -> None:
    _run(argv)
    _run(["sync", str(file)])


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a work takes."""
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def _run(argv: list[str], environment: dict[str, str] | None = None) -> None:
    subprocess.run(argv, check=True, capture_output=True, env=environment)


def _well(answer: Any) -> Any:
    if answer.status != 200:
        raise RuntimeError(f"the node refused: {answer}")
    return answer.body


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _part(grown: int, size: int) -> str:
    return f"{grown / MB:.1f} MB, {grown / size:.1%}"


def row(result: Table, what: str, seconds: float, megabytes: int, floor: float) -> None:
    """Add a line to a table."""
    result.rows.append([what, f"{seconds:.2f}", f"{megabytes / seconds:.0f}", f"{seconds / floor:.2f}"])
