"""Node records of open-iscsi: where they are and what is written into them.

Names and secrets are put into the file itself, mode 600: arguments of a command can be read by every user.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from agentkit.errors import HardpointError
from kvmagent.iscsi.portals import SessionKey, plain_address
from kvmagent.protocol_iscsi import Chap, IscsiServer

DATABASES = ("etc/iscsi", "var/lib/iscsi")
"""Where distributions have it: Debian's, all others'."""
_FOLDER = re.compile(r"(?P<address>.+),(?P<port>\d+),-?\d+")
_MODE = 0o600

ALWAYS = {
    "node.startup": "manual",
    "node.conn[0].startup": "manual",
    # A path that is lost is told to multipath soon; it keeps what is written until there is one again.
    "node.session.timeo.replacement_timeout": "10",
    "node.conn[0].timeo.noop_out_interval": "5",
    "node.conn[0].timeo.noop_out_timeout": "5",
    # How long a login tries: three times, each ten seconds.
    "node.session.initial_login_retry_max": "3",
    "node.conn[0].timeo.login_timeout": "10",
}
"""The agent logs in at boot, no other: it knows what is needed. Times are in seconds."""


def settings_of(server: IscsiServer) -> dict[str, str | None]:
    """Return what a server's records say; None: the line goes."""
    auth = "node.session.auth."
    wanted: dict[str, str | None] = {**ALWAYS, f"{auth}authmethod": "CHAP" if server.chap else "None"}
    for chap, suffix in ((server.chap, ""), (server.mutual, "_in")):
        wanted[f"{auth}username{suffix}"] = chap.user if chap else None
        wanted[f"{auth}password{suffix}"] = chap.secret if chap else None
    return wanted


def rewrite(text: str, wanted: Mapping[str, str | None]) -> str:
    """Return a record with these settings; those that it lacks are put before its end."""
    left = dict(wanted)
    lines = []
    for line in text.splitlines():
        name = line.partition(" = ")[0].strip()
        if name in wanted:
            value = left.pop(name, None)
            if value is not None:
                lines.append(f"{name} = {value}")
        else:
            lines.append(line)
    added = [f"{name} = {value}" for name, value in left.items() if value is not None]
    end = next((at for at, line in enumerate(lines) if line.startswith("# END")), len(lines))
    return "\n".join([*lines[:end], *added, *lines[end:]]) + "\n"


def check_chap(chap: Chap) -> None:
    """Raise HardpointError (SYS.1006) for what a record cannot hold: it has a line for each."""
    for what, text in (("name", chap.user), ("secret", chap.secret)):
        if text != text.strip() or not text.isprintable():
            details = f"the CHAP {what} has spaces at an end or characters that are not printable"
            remedy = "give the target another one, and UpdateIscsiServer as well"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)


class NodeRecords:
    """The records of the machine below `root`. All of it blocks, shortly."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keys(self) -> set[SessionKey]:
        """Return what there are records of."""
        return {key for key, _ in self._found()}

    def configure(self, key: SessionKey, server: IscsiServer) -> None:
        """Write a server's settings into the records of a session.

        Raises HardpointError (SYS.1006) when there is none.
        """
        for chap in (server.chap, server.mutual):
            if chap is not None:
                check_chap(chap)
        files = [file for known, folder in self._found() if known == key for file in _files(folder)]
        if not files:
            details = f"open-iscsi has made no node record of {key}"
            raise HardpointError(
                "SYS.1006", "Operation failed", details, remedy="see iscsiadm -m node on the host"
            )
        for file in files:
            _replace(file, rewrite(file.read_text(errors="replace"), settings_of(server)))

    def _found(self) -> list[tuple[SessionKey, Path]]:
        found = []
        for database in DATABASES:
            for folder in (self._root / database / "nodes").glob("*/*"):
                match = _FOLDER.fullmatch(folder.name)
                if match is not None:
                    address = plain_address(match["address"])
                    found.append((SessionKey(folder.parent.name, address, int(match["port"])), folder))
        return found


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else [folder]


def _replace(file: Path, text: str) -> None:
    """Replace a record; what is written meanwhile lies beside the database: each file in it is a record."""
    database = next(parent for parent in file.parents if parent.name == "nodes").parent
    new = database / ".hardpoint-record"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "w") as written:
        os.fchmod(descriptor, _MODE)
        written.write(text)
        written.flush()
        os.fsync(descriptor)
    new.replace(file)
