"""Commands, replies and events of the KVM agent about iSCSI; `mn` imports this module as well.

A host keeps a ledger of the servers (portals) that it needs. It discovers their targets, keeps a session to
each, and logs out of what no server needs any more. Targets that a portal announces under other addresses are
not of the server: a second portal is a second server, and multipath puts both together.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from agentkit.errors import ErrorBody
from agentkit.wire import Command, Wire


class Chap(Wire):
    """What one side says of itself. The secret is in no argv, log or reply."""

    user: str
    secret: str


class IscsiServer(Wire):
    """A portal that is needed: `address` is an IP address or a name. `mutual` is what targets say of
    themselves.
    """

    uuid: str
    address: str
    port: int
    chap: Chap | None = None
    mutual: Chap | None = None


class SessionState(StrEnum):
    """How the session to a target is."""

    LOGGED_IN = "LoggedIn"
    FAILED = "Failed"
    MISSING = "Missing"


class IscsiSession(Wire):
    """The session to a target through a portal; `reason` says why it is not there."""

    iqn: str
    address: str
    port: int
    state: SessionState
    reason: str | None = None


class IscsiLun(Wire):
    """A LUN as one session shows it on this host.

    `path` is its name in /dev/disk/by-path, `type` mpath when a multipath map is over it, which has the name
    `multipath` below /dev/mapper, else disk. `state` is the kernel's: `running` when it takes commands.
    """

    iqn: str
    lun: int
    wwid: str
    wwn: str
    vendor: str
    model: str
    serial: str
    unit_serial: str | None
    hctl: str
    type: str
    path: str
    size: int
    state: str
    multipath: str | None = None


class IscsiServerReport(Wire):
    """What a host has of a server; `error` says why its targets could not be asked for or logged in to."""

    server_uuid: str
    sessions: list[IscsiSession] = msgspec.field(default_factory=list)
    luns: list[IscsiLun] = msgspec.field(default_factory=list)
    error: ErrorBody | None = None


class IscsiReport(Wire):
    """What a host has of all its servers; `orphans` are sessions of ours that no server needs any more."""

    servers: list[IscsiServerReport]
    orphans: list[IscsiSession] = msgspec.field(default_factory=list)


class IscsiEvent(Wire):
    """Data of an `iscsi` event: a session, a path or a LUN has come, gone or changed."""

    report: IscsiReport


class LoginIscsi(Command[IscsiServerReport], tag="loginIscsi"):
    """Need a server: discover its targets, log in, find its LUNs anew. Done already, it is looked at again.

    Fails (ISCSI.1001) when a target does not let the host in or cannot be reached, (ISCSI.1002) when two LUNs
    report one WWID; what was not needed before is logged out again then.
    """

    server: IscsiServer


class ChangeIscsiReply(Wire):
    """It is noted."""


class ChangeIscsi(Command[ChangeIscsiReply], tag="changeIscsi"):
    """Use another name and secret from the next login on; sessions stay. Not needed here: nothing."""

    server: IscsiServer


class LogoutIscsiReply(Wire):
    """The server is no longer needed; sessions that others need as well have stayed."""


class LogoutIscsi(Command[LogoutIscsiReply], tag="logoutIscsi"):
    """Need a server no longer: its disks are flushed and removed, its sessions ended, their records deleted.

    Fails (SYS.1006) while something uses a disk, which is named; nothing has been changed then.
    """

    server_uuid: str


class SyncIscsi(Command[IscsiReport], tag="syncIscsi"):
    """Need these servers and no others. What cannot be logged in to is tried again, and says so."""

    servers: list[IscsiServer]


def clashes_of(luns: list[IscsiLun]) -> list[tuple[IscsiLun, IscsiLun]]:
    """Return pairs of LUNs that report one WWID and are not paths to one LUN.

    They are when a target has two numbers for it, or when the unit's own serial number differs. Sizes say
    nothing: not all paths learn at once that a unit has grown.
    """
    first: dict[str, IscsiLun] = {}
    found = []
    for lun in luns:
        other = first.setdefault(lun.wwid, lun)
        same_target = other.iqn == lun.iqn and other.lun != lun.lun
        if same_target or other.unit_serial != lun.unit_serial:
            found.append((other, lun))
    return found


def shown(lun: IscsiLun) -> str:
    """Return how a LUN is named to people."""
    return f"LUN {lun.lun} of {lun.iqn} ({lun.vendor} {lun.model}, serial {lun.unit_serial or lun.serial})"
