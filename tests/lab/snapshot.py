"""Guests as they were when they had just booted, kept in the cache: restored in seconds instead of booted."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import kept, machine
from tests.lab.guest import Guest
from tests.lab.image import ImageSet, key_of, meaning
from tests.lab.machine import Start
from tests.lab.places import LabError, cache, run, say

LOCK_TIMEOUT_S = 1800.0  # another lab may be booting its guests
MIGRATION_TIMEOUT_S = 120.0
RESTORED_TIMEOUT_S = 60.0
COPY_TIMEOUT_S = 60.0
HERE = Path(__file__).parent
PREPARED_BY = ("storage.py", "prepare.py")  # what these do to the guests before is part of the key


@dataclass(frozen=True)
class Kind:
    """A folder of the cache with snapshots of one kind, and how many of them stay."""

    folder: str
    kept: int


BOOTED = Kind("snapshots", 8)
DEPLOYED = Kind("deployed", 1)
"""Of guests that have agents: good for one run of tests, which deploys them once."""


class Snapshot:
    """A snapshot of guests that belong together, all of the same moment."""

    def __init__(self, guests: Sequence[Guest], images: ImageSet, of: Kind = BOOTED, more: str = "") -> None:
        self._guests = guests
        self._kept = of.kept
        self._parent = cache() / of.folder
        self._parent.mkdir(exist_ok=True)
        self._folder = self._parent / self._key(images, more)

    def _key(self, images: ImageSet, more: str) -> str:
        """A state fits the very QEMU and the very command line that it is of."""
        parts = [images.key, more, run(["qemu-system-x86_64", "--version"], COPY_TIMEOUT_S)]
        for guest in self._guests:
            parts += machine.command_line(guest.role, images, Path("/"), Start())
        return key_of([*(part.encode() for part in parts), *(meaning(HERE / name) for name in PREPARED_BY)])

    @property
    def exists(self) -> bool:
        """Whether it has been taken."""
        return self._folder.exists()

    def drop(self) -> None:
        """Remove it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Be the only one, of all processes, that takes a snapshot."""
        return kept.only_one(self._parent, LOCK_TIMEOUT_S)

    @property
    def beside(self) -> Path:
        """The folder that was saved with it; do not change it."""
        return self._folder / "beside"

    def save(self, beside: Path | None = None) -> None:
        """Take the snapshot of guests that run, and let them go on; for who has the `turn`.

        `beside` is a folder whose content belongs to it.
        """
        with kept.made(self._folder) as partial:
            if beside is not None:
                shutil.copytree(beside, partial / self.beside.name)
            for guest in self._guests:
                guest.run("sync")
                guest.close_ssh()  # connections of which the other end goes on do not survive
            for guest in self._guests:
                guest.pause()
            for guest in self._guests:
                self._save_one(guest, partial)
            for guest in self._guests:
                guest.resume()
        kept.remove_old(self._parent, self._kept)

    def _save_one(self, guest: Guest, partial: Path) -> None:
        target = shlex.quote(str(partial / f"{guest.name}.state"))
        guest.qmp.command("migrate-set-parameters", max_bandwidth=4_000_000_000)
        guest.qmp.command("migrate", uri=f"exec:cat >{target}")
        _poll(guest, lambda: guest.qmp.command("query-migrate"), "completed")
        for disk in guest.disks():
            run(["cp", "--sparse=always", disk, partial / f"{guest.name}-{disk.name}"], COPY_TIMEOUT_S)

    def restore(self) -> None:
        """Bring the guests back; those that run are powered off. Raises LabError when one does not answer."""
        for guest in self._guests:
            guest.power_off()
        with kept.in_use(self._folder):
            for guest in self._guests:
                self._restore_one(guest)
            for guest in self._guests:
                _poll(guest, lambda one=guest: one.qmp.command("query-status"), "paused")  # type: ignore[misc]
        for guest in self._guests:
            guest.resume()
        for guest in self._guests:
            guest.wait(RESTORED_TIMEOUT_S)
            guest.run(f"date -s @{time.time():.3f}")  # it has slept since the snapshot

    def _restore_one(self, guest: Guest) -> None:
        guest.folder.mkdir(exist_ok=True)
        for disk in guest.disks():
            run(["cp", "--sparse=always", self._folder / f"{guest.name}-{disk.name}", disk], COPY_TIMEOUT_S)
        guest.start(Start(incoming=True), keep_disks=True)
        state = shlex.quote(str(self._folder / f"{guest.name}.state"))
        guest.qmp.command("migrate-incoming", uri=f"exec:cat {state}")


def _poll(guest: Guest, ask: Callable[[], dict[str, str]], wanted: str) -> None:
    deadline = time.monotonic() + MIGRATION_TIMEOUT_S
    while (answer := ask())["status"] != wanted:
        if answer["status"] in ("failed", "cancelled", "internal-error") or time.monotonic() > deadline:
            raise LabError(f"the state of {guest.name} is not transferred: {answer}\n{guest.last_words()}")
        time.sleep(0.02)


def restore_or_boot(snapshot: Snapshot, boot: Callable[[], Path | None]) -> None:
    """Bring guests up the quick way; a snapshot that does not work is dropped and taken anew.

    Of labs that begin together one boots, the others restore what it has saved. What `boot` returns is
    saved with the guests.
    """
    if _restored(snapshot):
        return
    with snapshot.turn():
        if not _restored(snapshot):
            snapshot.save(boot())


def _restored(snapshot: Snapshot) -> bool:
    if not snapshot.exists:
        return False
    try:
        snapshot.restore()
    except (LabError, OSError) as error:
        say(f"a snapshot cannot be restored and is taken anew: {error}")
        snapshot.drop()
        return False
    return True
