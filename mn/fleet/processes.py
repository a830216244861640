"""Processes of this machine that have a folder: who runs, and their end.

`mn stop` needs no more than this: nothing that is slow to load is imported here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from agentkit.locks import content_if_taken

STOP_TIMEOUT_S = 25.0
AGENT_CONFIGURATION = "agent.toml"


def stop_agent(home: Path) -> bool:
    """Stop the agent whose state folder is `home`; return whether there was one. Blocks until it is gone.

    One that has not got as far as to lock the folder is stopped too: a killed management node has started it.
    """
    running = stop_process(lambda: lock_holder(home))
    return stop_begun(home / AGENT_CONFIGURATION, home) or running


def stop_begun(*arguments: Path) -> bool:
    """Stop the daemons that were started with one of some paths; return whether there was one."""
    stopped = False
    for pid in begun(*arguments):
        stopped |= stop_process(lambda pid=pid: pid if pid in begun(*arguments) else None)  # type: ignore[misc]
    return stopped


def begun(*arguments: Path) -> set[int]:
    """Return this user's daemons that were started with one of some paths, ready or not."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            argv = (process / "cmdline").read_bytes().split(b"\0")
            if process.stat().st_uid == os.getuid() and _is_daemon(argv, arguments):
                found.add(int(process.name))
    return found


def _is_daemon(argv: list[bytes], arguments: tuple[Path, ...]) -> bool:
    options = set(itertools.pairwise(argv))
    return b"serve" in argv and any(
        (option, os.fsencode(argument)) in options
        for argument in arguments
        for option in (b"--config", b"--state")
    )


def stop_process(holder: Callable[[], int | None]) -> bool:
    """End the process that holds a lock, with force when it takes too long; return whether there was one.

    `holder` says which process that is, None when none. Returns when the process is gone.
    """
    pid = holder()
    if pid is None:
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(handle), contextlib.suppress(ProcessLookupError):
        if holder() != pid:
            return True
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], STOP_TIMEOUT_S)[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [])
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return True


def agent_homes(directory: Path) -> Iterator[Path]:
    """Yield the state folders of the local agents."""
    if directory.is_dir():
        yield from (path for path in sorted(directory.iterdir()) if path.is_dir())


def lock_holder(home: Path) -> int | None:
    """Return the pid of the agent that holds the folder's lock, None when none does."""
    content = content_if_taken(home / "agent.lock")
    try:
        return int(content or b"0") or None
    except ValueError:
        return None


def running_port(home: Path) -> int | None:
    """Return the port of the agent that runs in a folder, None when none does or it is not ready."""
    pid = lock_holder(home)
    if pid is None:
        return None
    try:
        ready = json.loads((home / "ready.json").read_bytes())
        return int(ready["port"]) if ready["pid"] == pid else None
    except (FileNotFoundError, ValueError, KeyError):
        return None
