"""What tests of all tiers need: a port that nobody uses, and waiting for something with no guessed sleep."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def growing_pauses() -> Iterator[float]:
    """Yield how long to wait between two looks: short at first, later so that asking costs little."""
    pause_s = 0.02
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.2, 0.25)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Return when `condition` holds; fails the test when it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    pauses = growing_pauses()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(next(pauses))


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Have a file system of so many bytes at a folder. Skips the test where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(folder)]
    if subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
