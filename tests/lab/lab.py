"""A lab: the images, a network, guests that are brought up when they are wanted."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.lab import image, kept, prepare, runs
from tests.lab.guest import Guest
from tests.lab.machine import ROLES, Start
from tests.lab.network import address
from tests.lab.places import LabError, say
from tests.lab.repository import Repository
from tests.lab.snapshot import DEPLOYED, Snapshot, restore_or_boot
from tests.node import Node

FLEET = ("kvm1", "kvm2", "san")
GROUPS = (FLEET, *((name,) for name in ROLES if name not in FLEET))  # what one snapshot holds
NODE_ADDRESS = address(0, 1)


class Lab:
    """A lab that is up until it is closed; a context manager. Needs root."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces, which needs root: sudo make lab")
        self._stack = contextlib.ExitStack()
        self._guests: dict[str, Guest] = {}
        self._repository: Repository | None = None
        runs.clean()
        self.images = image.ensure()
        self._stack.enter_context(kept.in_use(self.images.folder))
        self.run = runs.begin()
        self._stack.callback(self.run.remove)
        self.network = self.run.network
        try:
            (self.run.folder / "images").write_text(self.images.key)
            self.network.create()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Power all guests off and remove what was made."""
        try:
            self.power_off()
        finally:
            self._stack.close()

    def power_off(self) -> None:
        """Cut the power of all guests; the next that is asked for is as new."""
        for guest in self._guests.values():
            with contextlib.suppress(LabError):
                guest.power_off()
        if self._repository is not None:
            self._repository.withdraw_all()

    def brought_up(self) -> list[Guest]:
        """Return the guests that have been asked for, running or not."""
        return list(self._guests.values())

    def machine(self, name: str) -> Guest:
        """Return a guest whether it runs or not."""
        if name not in ROLES:
            raise LabError(f"there is no guest {name}; there are {', '.join(ROLES)}")
        if name not in self._guests:
            self._guests[name] = Guest(ROLES[name], self.images, self.run)
        return self._guests[name]

    def guest(self, name: str, start: Start | None = None) -> Guest:
        """Return a guest that one can log in to.

        A guest that does not run is brought up as new, together with those that belong to it (kvm1, kvm2 and
        san): from a snapshot. With `start` it is booted alone, in that way.
        """
        guest = self.machine(name)
        if start is not None:
            self.boot(name, start=start)
        elif not guest.running:
            group = next(group for group in GROUPS if name in group)
            guests = [self.machine(name) for name in group]
            self._bring_up(guests, lambda: self._restore_or_boot(guests))
        return guest

    def boot(self, *names: str, start: Start | None = None, keep_disks: bool = False) -> list[Guest]:
        """Boot guests anew, at once; returns when one can log in to all."""
        guests = [self.machine(name) for name in names]
        for guest in guests:
            guest.power_off()
            guest.start(start, keep_disks=keep_disks)
        for guest in guests:
            guest.wait()
            prepare.plug_spares(guest)
        return guests

    def deployed(self, run_of_tests: str, deploy: Callable[[], Path], to: Path) -> None:
        """Bring kvm1, kvm2 and the san up as `deploy` leaves them, which is called once in a run of tests.

        What is in the folder that it returned is copied to `to`, which must not exist.
        """
        guests = [self.machine(name) for name in FLEET]
        snapshot = Snapshot(guests, self.images, DEPLOYED, run_of_tests)

        def deployed() -> Path:
            self._restore_or_boot(guests)
            return deploy()

        self._bring_up(guests, lambda: restore_or_boot(snapshot, deployed))
        shutil.copytree(snapshot.beside, to)

    def _bring_up(self, guests: list[Guest], how: Callable[[], None]) -> None:
        begin = time.monotonic()
        how()
        for guest in guests:
            prepare.plug_spares(guest)
        say(f"{time.monotonic() - begin:.1f} s: {', '.join(guest.name for guest in guests)} are up")

    def _restore_or_boot(self, guests: list[Guest]) -> None:
        def boot() -> None:
            for guest in guests:
                guest.power_off()
                guest.start()
            for guest in reversed(guests):  # the san first: the others boot on while it is set up
                guest.wait()
                prepare.before_snapshot([guest])

        restore_or_boot(Snapshot(guests, self.images), boot)

    def node(self, state: Path, environment: dict[str, str] | None = None) -> Node:
        """Return a management node; its caller starts and stops it while in the lab's network."""
        return Node(state, {"HARDPOINT_LISTEN_ADDRESS": NODE_ADDRESS, **(environment or {})})

    @property
    def repository(self) -> Repository:
        """The package repository that the guests' apt is pointed to; begins to serve when first asked for."""
        if self._repository is None:
            self._repository = Repository(self.images, self.run.folder / "repository")
            self._repository.start(self.network)
            self._stack.callback(self._repository.close)
        return self._repository
