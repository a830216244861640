"""Commands and replies of the KVM agent about PCI functions for VMs; `mn` imports this module as well."""

from __future__ import annotations

from agentkit.wire import Command, Wire
from kvmagent.protocol_vms import VmPciDevice, VmReport


class PciReason(Wire):
    """Why a function cannot go to a VM, and what would help; `code` names the kind of reason."""

    code: str
    text: str
    remedy: str


class PciPlan(Wire):
    """What has to be done for one function to go to a VM, in words, or why it cannot.

    `group` are the functions that only go together.
    """

    address: str
    steps: list[str]
    reasons: list[PciReason]
    group: list[str]


class PlanPciReply(Wire):
    """A plan for each function of the host, or for those that were asked about."""

    plans: list[PciPlan]


class PlanPci(Command[PlanPciReply], tag="planPci"):
    """Say what it takes to give functions to a VM; nothing is done.

    `addresses` are planned as one claim, None: each function of the host by itself. `without_reset` lets
    functions go that cannot be reset.
    """

    vm_uuid: str | None
    addresses: list[str] | None = None
    without_reset: bool = False


class AttachVmPci(Command[VmReport], tag="attachVmPci"):
    """Give a running VM functions of the host, all or none; those that it has already stay as they are."""

    uuid: str
    devices: list[VmPciDevice]


class DetachVmPci(Command[VmReport], tag="detachVmPci"):
    """Take functions from a VM and give them back to the host's drivers; one that it has not is given back.

    Fails (SYS.1001) when the VM does not let go of one within `patience_s`.
    """

    uuid: str
    device_uuids: list[str]
    patience_s: float


class BindPciReply(Wire):
    """The driver that the function has now."""

    driver: str | None


class BindPci(Command[BindPciReply], tag="bindPci"):
    """Have a function on vfio-pci from each boot on, or let the host have it again."""

    device: VmPciDevice
    vfio: bool


class SetVirtualFunctionsReply(Wire):
    """How many virtual functions there are now."""

    number: int


class SetVirtualFunctions(Command[SetVirtualFunctionsReply], tag="setVirtualFunctions"):
    """Have so many virtual functions of a physical one, now and from each boot on."""

    device: VmPciDevice
    number: int
