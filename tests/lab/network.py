"""The lab's network: a namespace of its own with two bridges, to which each guest is joined by two taps."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from tests.lab.places import run

NAMESPACES = Path("/run/netns")
PREFIX = "hplab-"
BRIDGES = (0, 1)
TIMEOUT_S = 20.0

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def address(bridge: int, number: int) -> str:
    """Return the address of guest `number` on a bridge; number 1 is where the tests and the node are."""
    return f"10.99.{bridge}.{number}"


def tap(guest: str, bridge: int) -> str:
    """Return the name of the interface that joins a guest to a bridge."""
    return f"{guest}.{bridge}"


class Network:
    """A network namespace. Labs side by side have one each, so all use the same addresses."""

    def __init__(self, token: str) -> None:
        self.name = f"{PREFIX}{token}"

    @property
    def path(self) -> Path:
        """The namespace as a file."""
        return NAMESPACES / self.name

    def create(self) -> None:
        """Make the namespace and its bridges; there is no way out of it."""
        run(["ip", "netns", "add", self.name], TIMEOUT_S)
        commands = ["link set lo up"]
        for bridge in BRIDGES:
            commands += [
                f"link add br{bridge} type bridge",
                f"address add {address(bridge, 1)}/24 dev br{bridge}",
                f"link set br{bridge} up",
            ]
        self._batch(commands)

    def join(self, guest: str) -> None:
        """Make the taps of a guest; they stay until the namespace goes."""
        commands = []
        for bridge in BRIDGES:
            if not self._has(tap(guest, bridge)):
                commands.append(f"tuntap add {tap(guest, bridge)} mode tap")
                commands.append(f"link set {tap(guest, bridge)} master br{bridge} up")
        self._batch(commands)

    def remove(self) -> None:
        """Remove the namespace and all in it."""
        if self.path.exists():
            run(["ip", "netns", "delete", self.name], TIMEOUT_S)

    def inside(self, argv: list[str]) -> list[str]:
        """Return the argv that runs a command inside, wherever the caller is."""
        return ["nsenter", f"--net={self.path}", *argv]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread inside, with the sockets that it makes and the processes that it starts."""
        with Path("/proc/thread-self/ns/net").open() as before, self.path.open() as inside:
            _set_namespace(inside.fileno())
            try:
                yield
            finally:
                _set_namespace(before.fileno())

    def _batch(self, commands: list[str]) -> None:
        text = "".join(f"{command}\n" for command in commands)
        run(["ip", "-n", self.name, "-batch", "-"], TIMEOUT_S, text=text)

    def _has(self, interface: str) -> bool:
        listed = run(["ip", "-n", self.name, "-o", "link"], TIMEOUT_S)
        return any(line.split(": ")[1] == interface for line in listed.splitlines())


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
