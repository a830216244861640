"""Commands, replies and events of the KVM agent about virtual machines; `mn` imports this module as well.

A host knows of a VM only while it runs: what it is made of comes with the command that starts it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

from agentkit.wire import Command, Wire
from kvmagent.protocol import Evidence
from kvmagent.protocol_ceph import RbdDisk


class DiskFormat(StrEnum):
    """How a disk's bytes are kept."""

    QCOW2 = "qcow2"
    RAW = "raw"


class DiskCache(StrEnum):
    """Whose cache a disk's writes go through."""

    NONE = "none"
    WRITETHROUGH = "writethrough"
    WRITEBACK = "writeback"


class VmDisk(Wire):
    """A disk: the file or block device at `path`.

    `device_id` is its place: 0 is booted from. The first 20 characters of `volume_uuid` are its serial number
    inside the VM. `local`: it is on a local storage, so below the agent's `local_storage_root`.
    `storage_uuid` and `name` say which image it is, where that has to be activated first. With `rbd` it is
    the RBD image `pool/image` of a Ceph storage that the host has.
    """

    volume_uuid: str
    path: str
    format: DiskFormat
    device_id: int
    cache: DiskCache = DiskCache.NONE
    local: bool = False
    storage_uuid: str | None = None
    name: str | None = None
    rbd: RbdDisk | None = None


class VmNic(Wire):
    """A network interface on a bridge of the host; `name` is the host's end of it, 15 characters at most."""

    nic_uuid: str
    bridge: str
    mac: str
    name: str


class VmPciDevice(Wire):
    """A PCI function for a VM, known by its evidence of identity; `address` is where it was last.

    `without_reset` takes it that the function keeps what one VM has left in it.
    """

    device_uuid: str
    address: str
    identity: list[Evidence]
    without_reset: bool = False


class VmUsbDevice(Wire):
    """A USB device for a VM, known by its evidence of identity, wherever it is plugged in."""

    device_uuid: str
    identity: list[Evidence]


class VmDomain(Wire):
    """All that a VM is made of. `console_password` of at most 8 characters protects its screen (VNC)."""

    uuid: str
    name: str
    cpus: int
    memory_bytes: int
    disks: list[VmDisk]
    nics: list[VmNic]
    console_password: str
    pci: list[VmPciDevice] = msgspec.field(default_factory=list)
    usb: list[VmUsbDevice] = msgspec.field(default_factory=list)
    usb_redirect: bool = False


class VmState(StrEnum):
    """How a VM that is on a host is, as the API names it."""

    RUNNING = "Running"
    PAUSED = "Paused"


class VmSeen(Wire):
    """A VM that libvirt has.

    `console_port` is None when its screen cannot be reached, `disks` are the volumes attached to it,
    `devices` the PCI and USB devices of the host. `usb_redirect` says that it takes the USB devices of who is
    at its SPICE screen, which is at `spice_port`.
    """

    uuid: str
    state: VmState
    cpus: int
    memory_bytes: int
    console_address: str | None
    console_port: int | None
    disks: list[str]
    devices: list[str] = msgspec.field(default_factory=list)
    usb_redirect: bool = False
    spice_port: int | None = None


class VmReport(Wire):
    """A VM as it is now, None when it does not run on this host."""

    vm: VmSeen | None


class StartVm(Command[VmReport], tag="startVm"):
    """Start a VM; one that runs already is left as it is."""

    domain: VmDomain


class StopVmReply(Wire):
    """The VM does not run here; `forced` says that it did not end by itself."""

    forced: bool


class StopVm(Command[StopVmReply], tag="stopVm"):
    """Press a VM's power button, and take its power when it has not ended `patience_s` later; 0: at once."""

    uuid: str
    patience_s: float


class GetVm(Command[VmReport], tag="getVm"):
    """Read one VM."""

    uuid: str


class ListVmsReply(Wire):
    """All VMs of this fleet that the host has, their `devices` with those that they get when they come."""

    vms: list[VmSeen]


class ListVms(Command[ListVmsReply], tag="listVms"):
    """Read all VMs."""


class AttachVmDisk(Command[VmReport], tag="attachVmDisk"):
    """Give a running VM another disk; one that it has already is left as it is."""

    uuid: str
    disk: VmDisk


class DetachVmDisk(Command[VmReport], tag="detachVmDisk"):
    """Take a disk from a running VM, done when the VM has let go of it; one that it has not is gone already.

    Fails (SYS.1001) when the VM does not let go of it within `patience_s`.
    """

    uuid: str
    volume_uuid: str
    patience_s: float


class AdmitVmReply(Wire):
    """Where a VM may come in, below the host's address; `console_address` is where its screen will be."""

    port: int
    path: str
    console_address: str


class AdmitVm(Command[AdmitVmReply], tag="admitVm"):
    """Let another agent that shows `token` bring a running VM here, until it is dismissed."""

    admission_uuid: str
    token: str
    disks: list[VmDisk] = msgspec.field(default_factory=list)


class DismissVmReply(Wire):
    """Nobody can come in by that any more."""


class DismissVm(Command[DismissVmReply], tag="dismissVm"):
    """End an admission, and what still comes by it; done also when there is none."""

    admission_uuid: str


class MigrateVm(Command[VmReport], tag="migrateVm"):
    """Move a running VM to the host that admits it at `url`, done when it does not run here any more.

    Its disks stay where they are: both hosts have to have them. The VM goes on here when it cannot be moved
    (SYS.1006). `auto_converge` slows a VM down that changes its memory faster than it is copied;
    `downtime_ms` is for how long it may stand still at the end.
    """

    takes_long: ClassVar[bool] = True
    uuid: str
    url: str
    token: str
    console_address: str
    disks: list[VmDisk] = msgspec.field(default_factory=list)
    auto_converge: bool = False
    downtime_ms: int | None = None


class AbortVmMigrationReply(Wire):
    """The VM is not being moved."""


class AbortVmMigration(Command[AbortVmMigrationReply], tag="abortVmMigration"):
    """Keep a VM that is being moved; done also when it is not."""

    uuid: str


class VmEvent(Wire):
    """Data of a `vm` event: something happened to a VM, and how it is now is to be asked.

    None: libvirt was away, and it may be any VM.
    """

    uuid: str | None
