"""More that the `san` guest can do: serve further LUNs, serve again after a reboot.

Not in storage.py: what is there is part of what the lab's snapshots are kept under.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.lab.guest import Guest
from tests.lab.storage import SERVE_TIMEOUT_S, TARGET

LUNS = f"/iscsi/{TARGET}/tpg1/luns"


def targetcli(san: Guest, *lines: str) -> None:
    """Have targetcli do something."""
    text = "\n".join(lines)
    san.run(f"targetcli >>/tmp/targetcli.log 2>&1 <<'END'\n{text}\nEND", SERVE_TIMEOUT_S)


def backstore(name: str, serial: str) -> str:
    """Return the command that makes a unit of a logical volume."""
    return f"/backstores/block create name={name} dev=/dev/luns/{name} wwn={serial}"


def add_luns(san: Guest, numbers: Iterable[int], size_mb: int = 32) -> None:
    """Serve more LUNs, with the numbers that are given."""
    lines = []
    for n in numbers:
        san.run(f"lvcreate -q -Wn -L{size_mb}M -n lun{n} luns")
        lines.append(backstore(f"lun{n}", f"{n + 1:08x}-1111-4222-8333-444444444444"))
        lines.append(f"{LUNS} create /backstores/block/lun{n} lun={n}")
    targetcli(san, *lines)


def remember(san: Guest) -> None:
    """Write down what is served, for `serve_again`."""
    san.run("targetcli saveconfig >/dev/null && sync", SERVE_TIMEOUT_S)


def serve_again(san: Guest) -> None:
    """Serve after a reboot what was served before."""
    san.run(
        "set -e; vgchange -q -ay luns >/dev/null; "
        "modprobe -a target_core_mod iscsi_target_mod target_core_iblock; targetcli restoreconfig >/dev/null",
        SERVE_TIMEOUT_S,
    )
