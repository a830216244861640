"""How many files a daemon may have open: each connection is one."""

from __future__ import annotations

import resource

from agentkit.errors import HardpointError

SPARE_FILES = 256
"""Files that a daemon has open beside one for each host."""


def raise_open_files() -> int:
    """Raise this process's limit to the most that the system allows and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def check_open_files(hosts: int, limit: int) -> None:
    """Raise HardpointError (SYS.1000) when `limit` is too low for a connection to each of so many hosts."""
    needed = hosts + SPARE_FILES
    if limit >= needed:
        return
    raise HardpointError(
        "SYS.1000",
        "Internal error",
        f"{hosts} hosts take {needed} open files, but this process may have {limit} (its hard limit)",
        remedy="raise the hard limit: LimitNOFILE= of the systemd unit, or `ulimit -Hn` of a root shell",
    )
