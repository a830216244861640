"""Serving as a process: settings, the folder's lock, signals, word to the service manager."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from agentkit import logs, notify
from agentkit.errors import HardpointError
from mn import app
from mn.jobs.job import Boundary
from mn.settings import Settings
from mn.state_folder import take_lock, write_lock


def serve(
    state: Path,
    boundary: Boundary,
    *,
    listen_address: str | None,
    port: int | None,
    local_agents: bool | None,
) -> int:
    """Serve a state folder until SIGTERM or SIGINT; what is None is as in its settings. Returns 0.

    Raises HardpointError for a folder or settings that cannot be used, AlreadyRunningError.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = Settings.load(
            state,
            listen_address=listen_address,
            port=port,
            local_agents=local_agents,
        )
        lock = take_lock(state)
    except OSError as error:
        raise HardpointError(
            "SYS.1000",
            "Internal error",
            f"the state folder {state} cannot be used: {error.strerror}",
            remedy="run as the user that owns it, or name another folder",
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise HardpointError(
            "SYS.1007", "Invalid argument", f"settings of {state}: {faults}", remedy="correct mn.toml"
        ) from error
    logs.setup("mn", settings.log_level)
    with lock:
        asyncio.run(_serve_until_stopped(settings, lock, boundary))
    return 0


async def _serve_until_stopped(settings: Settings, lock: IO[str], boundary: Boundary) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    node = await app.start(settings, boundary)
    write_lock(lock, {"pid": os.getpid(), "url": node.url})
    notifier = notify.Notifier()
    notifier.ready()
    await stopped.wait()
    notifier.stopping()
    await app.stop(node)
