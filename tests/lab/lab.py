"""A lab: the images, a network, guests that are started when they are wanted."""

from __future__ import annotations

import contextlib
import os
import types
from typing import Self

from tests.lab import image, runs
from tests.lab.guest import Guest
from tests.lab.machine import ROLES, Start
from tests.lab.places import LabError
from tests.lab.repository import Repository


class Lab:
    """A lab that is up until it is closed; a context manager. Needs root."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces, which needs root: sudo make lab")
        self._stack = contextlib.ExitStack()
        runs.clean()
        self.images = image.ensure()
        self._stack.enter_context(self.images.in_use())
        self.run = runs.begin()
        self._stack.callback(self.run.remove)
        self._guests: dict[str, Guest] = {}
        (self.run.folder / "images").write_text(self.images.key)
        self._repository: Repository | None = None
        self.network = self.run.network
        try:
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
        for guest in self._guests.values():
            with contextlib.suppress(LabError):
                guest.power_off()
        self._stack.close()

    def machine(self, name: str) -> Guest:
        """Return a guest whether it runs or not."""
        if name not in ROLES:
            raise LabError(f"there is no guest {name}; there are {', '.join(ROLES)}")
        if name not in self._guests:
            self._guests[name] = Guest(ROLES[name], self.images, self.run)
        return self._guests[name]

    def guest(self, name: str, start: Start | None = None) -> Guest:
        """Return a guest that one can log in to; boots it when it does not run."""
        guest = self.machine(name)
        if not guest.running:
            guest.start(start)
            guest.wait()
        return guest

    def boot(self, *names: str, start: Start | None = None) -> list[Guest]:
        """Boot several guests at once; returns when one can log in to all."""
        guests = [self.machine(name) for name in names]
        for guest in guests:
            if not guest.running:
                guest.start(start)
        for guest in guests:
            guest.wait()
        return guests

    @property
    def repository(self) -> Repository:
        """The package repository that the guests' apt is pointed to; begins to serve when first asked for."""
        if self._repository is None:
            self._repository = Repository(self.images, self.run.folder / "repository")
            self._repository.start(self.network)
            self._stack.callback(self._repository.close)
        return self._repository
