"""The folder that a management node has for itself: its lock, and the end of who runs in it."""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from agentkit.errors import HardpointError
from agentkit.locks import content_if_taken, take
from mn.fleet.processes import agent_homes, stop_agent, stop_process

LOCK = "mn.lock"
AGENTS_DIR = "agents"
SIMULATOR_DIR = "simulator"
STOPPED_AT_ONCE = 8
"""Agents; each has its own time to end before it is killed."""


class AlreadyRunningError(HardpointError):
    """The state folder is in use."""


def take_lock(state: Path) -> IO[str]:
    """Lock a folder for as long as the file is open. Raises AlreadyRunningError, OSError."""
    file = (state / LOCK).open("a+")
    if not take(file):
        file.seek(0)
        holder = _parsed(file.read())
        file.close()
        raise AlreadyRunningError(
            "SYS.1000",
            "Internal error",
            f"a management node (pid {holder.get('pid', 'unknown')}) runs on the state folder {state}",
            remedy=f"use it at {holder.get('url', 'its port')}, or `hardpoint down --state {state}`",
        )
    write_lock(file, {"pid": os.getpid()})
    return file


def write_lock(file: IO[str], content: dict[str, object]) -> None:
    """Say in the lock who has it: `pid`, and `url` once it serves."""
    file.seek(0)
    file.truncate()
    file.write(json.dumps(content))
    file.flush()


def _parsed(text: str) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict):
            return content
    return {}


def stop(state: Path) -> dict[str, bool | int]:
    """End the management node of a folder, its local agents and its simulator; return what of it ran.

    Raises HardpointError (SYS.1007) when there is no such folder.
    """
    if not state.is_dir():
        raise HardpointError(
            "SYS.1007", "Invalid argument", f"there is no state folder {state}", remedy="give the one of `up`"
        )
    stopped = stop_process(lambda: _holder(state))
    with ThreadPoolExecutor(STOPPED_AT_ONCE) as pool:
        agents = sum(pool.map(stop_agent, agent_homes(state / AGENTS_DIR)))
    return {"mn": stopped, "agents": agents, "simulator": stop_agent(state / SIMULATOR_DIR)}


def _holder(state: Path) -> int | None:
    content = content_if_taken(state / LOCK)
    pid = _parsed(content.decode()).get("pid") if content is not None else None
    return pid if isinstance(pid, int) else None
