"""Drivers of PCI functions, changed by sysfs: what `plan` says is done here. All of it blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentkit.errors import Blame, HardpointError
from agentkit.runner import Runner
from kvmagent.machine.iommu import ACTIVE, iommu_status
from kvmagent.machine.locations import pci_chain
from kvmagent.machine.pci import FUNCTIONS, pci_paths
from kvmagent.machine.programs import find_program
from kvmagent.machine.tree import Tree
from kvmagent.passthrough.plan import VFIO, Function, Machine, Step
from kvmagent.protocol import Inventory

_BUS = "/sys/bus/pci"
_MODPROBE_TIMEOUT_S = 30.0


def read_machine(tree: Tree, inventory: Inventory, holders: Mapping[str, str]) -> Machine:
    """Return what the planner has to know; `holders` are the VMs that have functions, by address.

    A recorded machine does not tell what can be reset: there everything can.
    """
    paths = pci_paths(tree)
    functions = {}
    for function in inventory.pci:
        path = paths.get(function.address, "")
        above = pci_chain(path)[:-1]
        functions[function.address] = Function(
            address=function.address,
            class_code=function.class_code,
            driver=function.driver,
            group=function.iommu_group,
            bus=above[-1] if above else "",
            resets=not tree.live or tree.exists(f"{path}/reset"),
            boot_critical=function.boot_critical,
            holder=holders.get(function.address),
            virtual_functions=function.virtual_functions or 0,
        )
    return Machine(iommu_status(tree, inventory.facts.cpu_vendor) == ACTIVE, functions)


class Kernel:
    """The sysfs of the machine below `root`."""

    def __init__(self, root: Path, runner: Runner) -> None:
        self._root = root
        self._runner = runner

    async def load(self) -> None:
        """Have vfio-pci at hand. Raises HardpointError (SYS.1006) when the kernel has none."""
        tree = Tree(self._root)
        if tree.exists(f"{_BUS}/drivers/{VFIO}"):
            return
        program = find_program(tree, "modprobe")
        if program is not None:
            completed = await self._runner.run([program, VFIO], timeout_s=_MODPROBE_TIMEOUT_S)
            completed.check()
        if not Tree(self._root).exists(f"{_BUS}/drivers/{VFIO}"):
            details = f"the host's kernel has no driver {VFIO}"
            remedy = "install the kernel's extra modules, or a kernel that has it"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)

    def driver(self, address: str) -> str | None:
        """Return the driver that a function has, None for none or for no such function."""
        return Tree(self._root).link_name(f"{FUNCTIONS}/{address}/driver")

    def exists(self, address: str) -> bool:
        """Say whether there is such a function."""
        return Tree(self._root).exists(f"{FUNCTIONS}/{address}")

    def change(self, step: Step) -> None:
        """Give a function another driver, or none; it has it already: nothing.

        Raises HardpointError (SYS.1006) with what the kernel says.
        """
        at = f"{FUNCTIONS}/{step.address}"
        current = self.driver(step.address)
        try:
            self._write(f"{at}/driver_override", VFIO if step.after == VFIO else "\n")
            if current == step.after:
                return
            if current is not None:
                self._write(f"{at}/driver/unbind", step.address)
            if step.after is not None:
                self._write(f"{_BUS}/drivers_probe", step.address)
        except OSError as error:
            raise _failed(step, error.strerror or str(error)) from error
        found = self.driver(step.address)
        # The kernel chooses the host's driver; VFIO is chosen by us.
        if (found == VFIO) != (step.after == VFIO) or (found is None) != (step.after is None):
            raise _failed(step, f"the kernel has left it with {found or 'no driver'}")

    def set_virtual_functions(self, address: str, number: int) -> None:
        """Have so many virtual functions. Raises HardpointError (SYS.1006) with what the kernel says."""
        path = f"{FUNCTIONS}/{address}/sriov_numvfs"
        try:
            current = Tree(self._root).int(path)
            if current == number:
                return
            if current:  # the kernel goes from one number to another by none only
                self._write(path, "0")
            if number:
                self._write(path, str(number))
        except OSError as error:
            details = f"{address} was not given {number} virtual functions: {error.strerror}"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy=_REMEDY) from error

    def _write(self, path: str, text: str) -> None:
        where = Tree(self._root).resolve(path) or path
        with Path(f"{self._root}/{where.lstrip('/')}").open("w") as file:
            file.write(text)


_REMEDY = "see the kernel's log on the host (journalctl -k)"


def _failed(step: Step, reason: str) -> HardpointError:
    wanted = f"driver {step.after}" if step.after else "no driver"
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"PCI function {step.address} did not get {wanted}: {reason}",
        remedy=_REMEDY,
    )


class NoKernel:
    """The sysfs of a machine that is only recorded: nothing of it can be changed."""

    async def load(self) -> None:
        """Have no driver. Raises HardpointError (SYS.1014)."""
        raise _recorded()

    def exists(self, address: str) -> bool:
        """Say that there is no such function."""
        return False

    def change(self, step: Step) -> None:
        """Change nothing. Raises HardpointError (SYS.1014)."""
        raise _recorded()

    def set_virtual_functions(self, address: str, number: int) -> None:
        """Change nothing. Raises HardpointError (SYS.1014)."""
        raise _recorded()


def _recorded() -> HardpointError:
    details = "PCI functions of this machine cannot change their drivers: it is a recorded one"
    remedy = "use a host whose agent works on its own machine"
    return HardpointError("SYS.1014", "Not supported", details, remedy=remedy, blame=Blame.CALLER)
