"""Whether functions of a machine can go to a VM, and what has to be done for it: pure (ADR 14).

A plan says which functions change their driver. Doing its steps in their order, then the undoing ones in
theirs, leaves the machine as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

VFIO = "vfio-pci"
STUBS = frozenset({VFIO, "pci-stub"})
"""Drivers that the kernel lets stand beside a function that a VM has."""
_BRIDGE, _PCI_BRIDGE = "06", "0604"
_PORT_DRIVERS = frozenset({None, "pcieport", "shpchp", *STUBS})


@dataclass(frozen=True, slots=True)
class Function:
    """What matters of a PCI function.

    `bus` is the bridge that it is behind, empty on a root bus. `holder` is the VM that has it. `resets` says
    that it can be reset by itself. `boot_critical` is what the host would lose with it.
    """

    address: str
    class_code: str
    driver: str | None
    group: str | None
    bus: str = ""
    resets: bool = True
    boot_critical: str | None = None
    holder: str | None = None
    virtual_functions: int = 0

    @property
    def is_bridge(self) -> bool:
        """Say whether it is a bridge of any kind."""
        return self.class_code.startswith(_BRIDGE)


@dataclass(frozen=True, slots=True)
class Machine:
    """The PCI functions of a machine, by address, and whether its IOMMU is at work."""

    iommu: bool
    functions: Mapping[str, Function]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a function cannot go to a VM, and what would help."""

    code: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Step:
    """A function goes from a driver (None: from none) to another."""

    address: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, or why it cannot; `group` are the functions that only go together."""

    steps: tuple[Step, ...] = ()
    reasons: tuple[Reason, ...] = ()
    group: tuple[str, ...] = ()
    undo: tuple[Step, ...] = field(default=())


def plan(
    machine: Machine, addresses: Sequence[str], vm_uuid: str | None, *, without_reset: bool = False
) -> Plan:
    """Plan how a VM (None: one that is not there yet) gets these functions, all of them or none.

    `without_reset`: the administrator takes it that a function keeps what one VM has left in it.
    """
    wanted = dict.fromkeys(addresses)
    reasons: list[Reason] = []
    if not machine.iommu:
        remedy = "enable it (UpdateHostIommuState) and in the firmware, then reboot the host"
        reasons.append(Reason("iommu", "the IOMMU of the host is not active", remedy))
    group: set[str] = set()
    for address in wanted:
        function = machine.functions.get(address)
        if function is None:
            text = f"no PCI function is at {address}"
            reasons.append(Reason("gone", text, "plug it in again, or detach it from its VM"))
            continue
        group |= {peer.address for peer in _endpoints(machine, function)} | {address}
        reasons += _reasons(machine, function, wanted, vm_uuid, without_reset=without_reset)
    together = tuple(sorted(group))
    if reasons:
        return Plan(reasons=tuple(dict.fromkeys(reasons)), group=together)
    steps = tuple(
        Step(address, driver, VFIO)
        for address in wanted
        if (driver := machine.functions[address].driver) != VFIO
    )
    return Plan(steps, (), together, undone(steps))


def undone(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return what takes steps back, the last one first."""
    return tuple(Step(step.address, step.after, step.before) for step in reversed(steps))


def after(machine: Machine, steps: Sequence[Step]) -> Machine:
    """Return a machine as it is when steps have been done."""
    functions = dict(machine.functions)
    for step in steps:
        functions[step.address] = replace(functions[step.address], driver=step.after)
    return Machine(machine.iommu, functions)


def viable(machine: Machine, address: str) -> bool:
    """Say whether the kernel gives a function's group to a VM: nothing of it has a driver of the host's."""
    function = machine.functions[address]
    return function.driver == VFIO and all(
        peer.driver in STUBS or peer.driver is None or (peer.is_bridge and peer.driver in _PORT_DRIVERS)
        for peer in _members(machine, function)
    )


def _members(machine: Machine, function: Function) -> list[Function]:
    if function.group is None:
        return [function]
    return [other for other in machine.functions.values() if other.group == function.group]


def _endpoints(machine: Machine, function: Function) -> list[Function]:
    return [peer for peer in _members(machine, function) if not peer.is_bridge]


def _reasons(
    machine: Machine,
    function: Function,
    wanted: Collection[str],
    vm_uuid: str | None,
    *,
    without_reset: bool,
) -> list[Reason]:
    at = function.address
    found = []
    if function.is_bridge:
        text = f"{at} is a bridge, and what is behind it would go with it"
        found.append(Reason("bridge", text, "choose a device behind it"))
    if function.boot_critical is not None:
        text = f"the host lives on {at}: {function.boot_critical}"
        found.append(Reason("boot-critical", text, "move that elsewhere first, or choose another device"))
    if function.group is None and machine.iommu:
        text = f"{at} is in no IOMMU group"
        found.append(Reason("no-group", text, "enable the IOMMU for it in the firmware"))
    if function.holder not in (None, vm_uuid):
        text = f"VM {function.holder} has {at}"
        found.append(Reason("claimed", text, "detach it from that VM first"))
    if function.virtual_functions:
        text = f"{at} has {function.virtual_functions} virtual functions, which would be lost"
        found.append(Reason("virtual-functions", text, "attach one of those, or remove them first"))
    found += _reasons_of_group(machine, function, wanted, vm_uuid)
    if not (without_reset or function.is_bridge or _resets(machine, function, wanted)):
        text = f"{at} cannot be reset, so the next VM would find what this one leaves in it"
        remedy = "choose another device, or set the global setting pciDevice attach.withoutReset to true"
        found.append(Reason("no-reset", text, remedy))
    return found


def _reasons_of_group(
    machine: Machine, function: Function, wanted: Collection[str], vm_uuid: str | None
) -> list[Reason]:
    found = []
    for peer in _members(machine, function):
        if peer.address == function.address or peer.address in wanted:
            continue
        shared = f"{function.address} shares {function.group} with"
        if peer.is_bridge:
            if peer.class_code.startswith(_PCI_BRIDGE) and peer.driver in _PORT_DRIVERS:
                continue
            text = f"{shared} the bridge {peer.address}, which the host needs"
            remedy = "use a slot behind a port of its own, or enable ACS in the firmware"
            found.append(Reason("bridge-in-group", text, remedy))
        elif peer.holder not in (None, vm_uuid):
            text = f"{shared} {peer.address}, which VM {peer.holder} has"
            found.append(Reason("group-in-use", text, "detach that from its VM first"))
        elif peer.holder is not None:
            continue
        elif peer.boot_critical is not None:
            text = f"{shared} {peer.address}, which the host lives on: {peer.boot_critical}"
            found.append(Reason("group-in-use", text, "use another slot, or enable ACS in the firmware"))
        else:
            who = f", which driver {peer.driver} has" if peer.driver else ""
            text = f"{shared} {peer.address}{who}: they only go together"
            found.append(Reason("group-shared", text, "attach it with wholeGroup set to true"))
    return found


def _resets(machine: Machine, function: Function, wanted: Collection[str]) -> bool:
    if function.resets:
        return True
    # A bus is reset with all that is on it: that does when all of it goes to the VM.
    if not function.bus:
        return False
    beside = [other for other in machine.functions.values() if other.bus == function.bus]
    held = {other.address for other in beside if other.holder is not None and other.holder == function.holder}
    return all(other.address in wanted or other.address in held for other in beside)
