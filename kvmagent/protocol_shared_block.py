"""What the KVM agent and `mn` say of shared-block storages: volume groups on LUNs (manual 4.4.19).

A storage of this kind is an LVM volume group that several hosts have at once. lvmlockd and sanlock see to it
that a logical volume is active on one host alone, unless both take it as shared. A host holds a lease on the
group under a number of its own, its host id; while the lease lives nobody else has what it has.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from agentkit.wire import Wire

_PREFIXES = (
    "/dev/disk/by-id/",
    "dm-uuid-mpath-",
    "mpath-",
    "wwn-",
    "scsi-",
    "nvme-",
    "0x",
    "naa.",
    "eui.",
    "nvme.",
)


def bare_wwid(wwid: str) -> str:
    """Return what all spellings of a WWID have in common: `wwn-0x6001405...` and `36001405...` are one."""
    bare = wwid.strip()
    for prefix in _PREFIXES:
        bare = bare.removeprefix(prefix)
    return bare[1:] if len(bare) in (17, 33) and bare[0] in "23" else bare


class GroupState(StrEnum):
    """How a volume group is on a host: each state but `Held` is the name of a cause."""

    HELD = "Held"
    JOINING = "Joining"
    NOT_JOINED = "NotJoined"
    RENEWAL_LATE = "RenewalLate"
    LEASE_LOST = "LeaseLost"
    DEVICE_MISSING = "DeviceMissing"
    FOREIGN_LOCK = "ForeignLock"
    DAEMON_DOWN = "DaemonDown"


class SharedBlockGroup(Wire):
    """A volume group as a host is to have it; its name is the storage's uuid, `disks` are its LUNs by WWID.

    `io_timeout_s` is sanlock's, which all times of leases are multiples of. `thin`: volumes get room in
    steps of `step_bytes` as they are written to; else all of it at once. `fence_lost`: when the lease is
    lost the power of the VMs that have disks on it is taken, before the watchdog takes the host's.
    """

    disks: list[str]
    host_id: int
    io_timeout_s: int = 10
    watchdog: bool = True
    thin: bool = False
    step_bytes: int = 1024**3
    fence_lost: bool = True


class GroupStanding(Wire):
    """How a volume group is on a host, and why."""

    state: GroupState
    reason: str | None = None


class LunCapacity(Wire):
    """Bytes of a LUN, and those of it that no logical volume has."""

    wwid: str
    total: int
    available: int


class SharedDisk(Wire):
    """A disk as a host sees it; `reason` says why it cannot become part of a volume group, None: it can.

    `wipeable`: it can when it is wiped; what is on it is left over from a storage of this fleet.
    """

    wwid: str
    path: str
    size: int
    type: str
    vendor: str | None = None
    model: str | None = None
    wwn: str | None = None
    serial: str | None = None
    hctl: str | None = None
    transport: str | None = None
    reason: str | None = None
    wipeable: bool = False


class RecoveryStep(StrEnum):
    """What is done, in this order, to have a volume group again."""

    START_DAEMONS = "StartDaemons"
    FENCE_VMS = "FenceVms"
    DROP_LOCKS = "DropLocks"
    JOIN = "Join"
    ADOPT_LOCKS = "AdoptLocks"


class RecoveryReply(Wire):
    """What has to be done, or was done, and how the group is then; `fenced` are VMs whose power was taken."""

    steps: list[RecoveryStep]
    standing: GroupStanding
    fenced: list[str] = msgspec.field(default_factory=list)
