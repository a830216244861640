"""The drivers of a simulated host's PCI functions: they change as they are told to, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from kvmagent.passthrough.plan import Function, Machine, Step
from kvmagent.protocol import Inventory


class SimulatedDrivers:
    """What the functions of one host have, where that is not what was recorded."""

    def __init__(self) -> None:
        self._drivers: dict[str, str | None] = {}

    async def load(self) -> None:
        """Have vfio-pci."""

    def exists(self, address: str) -> bool:
        """Say that there is such a function."""
        return True

    def change(self, step: Step) -> None:
        """Give a function another driver."""
        self._drivers[step.address] = step.after

    def set_virtual_functions(self, address: str, number: int) -> None:
        """Have none all the same: what is recorded does not change."""

    def read(self, inventory: Inventory, holders: Mapping[str, str]) -> Machine:
        """Return what the planner has to know; every function can be reset."""
        functions = {
            function.address: Function(
                address=function.address,
                class_code=function.class_code,
                driver=self._drivers.get(function.address, function.driver),
                group=function.iommu_group,
                boot_critical=function.boot_critical,
                holder=holders.get(function.address),
            )
            for function in inventory.pci
        }
        return Machine(any(function.group for function in functions.values()), functions)
