"""Whether a host's SSH port answers: what is asked again and again, so without a login."""

from __future__ import annotations

import asyncio
import contextlib
import time

from agentkit.errors import HardpointError
from mn.fleet.deploy import Target
from mn.fleet.fleet import Fleet
from mn.fleet.ssh import SshTarget
from mn.fleet.survey import HostSurvey

PROBE_EVERY_S = 2.0


async def port_answers(target: SshTarget, timeout_s: float) -> bool:
    """Say whether something accepts connections on a host's SSH port."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(target.host, target.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def survey_patiently(
    fleet: Fleet, target: Target, patience_s: float, probe_s: float
) -> HostSurvey | None:
    """Return what `fleet.survey` does, waiting up to `patience_s` for a host that does not answer yet.

    Raises HardpointError as it does; what an open port does not cure is raised at once.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return await fleet.survey(target)
        except HardpointError as error:
            if error.code != "HOST.1003" or target.ssh is None or await port_answers(target.ssh, probe_s):
                raise
            if time.monotonic() > deadline:
                raise
        await _until_open(target.ssh, deadline, probe_s)


async def _until_open(target: SshTarget, deadline: float, probe_s: float) -> None:
    """Return when the port is open or the time is over."""
    while time.monotonic() < deadline:
        await asyncio.sleep(min(PROBE_EVERY_S, max(deadline - time.monotonic(), 0)))
        if await port_answers(target, probe_s):
            return
