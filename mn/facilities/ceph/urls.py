"""The URLs of monitors, `user:password@host[:sshPort][/?monPort=N]`, as pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from agentkit.errors import Blame, HardpointError
from mn.rest.types import HostAddress

SSH_PORT, MON_PORT = 22, 6789
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]/?]+)(?::(\d{1,5}))?\Z")
_AFTER = re.compile(r"/?(?:\?(.*))?\Z", re.DOTALL)


@dataclass(frozen=True)
class MonUrl:
    """A monitor's host, how to log in to it, and the monitor's port."""

    hostname: str
    username: str
    password: str
    ssh_port: int = SSH_PORT
    mon_port: int = MON_PORT

    def __repr__(self) -> str:
        return f"MonUrl({self.username}:*****@{self.hostname}:{self.ssh_port}, {self.mon_port})"


def parse_mon_url(text: str) -> MonUrl:
    """Return what a URL says. Raises HardpointError (SYS.1007); the password is in no error.

    The last `@` ends the password, which may have any characters. Without a login it is root, by a key.
    """
    login, at, rest = text.rpartition("@")
    username, _, password = login.partition(":")
    host_end = min((found for found in (rest.find("/"), rest.find("?")) if found >= 0), default=len(rest))
    host, after = _HOST.match(rest[:host_end]), _AFTER.match(rest[host_end:])
    if host is None or after is None or (at and not username):
        raise _bad(rest, "it is not of the form user:password@host[:sshPort][/?monPort=6789]")
    try:
        hostname = HostAddress.parse(host[1]).text
    except ValueError:
        raise _bad(rest, f"'{host[1]}' is neither an address nor a host name") from None
    options = parse_qs(after[1] or "", keep_blank_values=True)
    if options.keys() - {"monPort"}:
        raise _bad(rest, f"it has the unknown option {min(options.keys() - {'monPort'})}")
    mon_port = _port(rest, "monPort", options.get("monPort", [str(MON_PORT)])[-1])
    ssh_port = _port(rest, "SSH port", host[2] or str(SSH_PORT))
    return MonUrl(hostname, username or "root", password, ssh_port, mon_port)


def parse_mon_urls(texts: list[str]) -> list[MonUrl]:
    """Return the monitors of some URLs; their hosts must be different ones."""
    urls = [parse_mon_url(text) for text in texts]
    names = [url.hostname for url in urls]
    for name in names:
        if names.count(name) > 1:
            raise _bad(name, "it is named twice")
    return urls


def _port(rest: str, what: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise _bad(rest, f"its {what} is '{text}', not 1 to 65535")
    return int(text)


def _bad(rest: str, reason: str) -> HardpointError:
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"parameter 'monUrls' has a monitor '{rest}': {reason}",
        remedy="give root:password@192.0.2.1/?monPort=6789, an IPv6 address in brackets",
        blame=Blame.CALLER,
    )
