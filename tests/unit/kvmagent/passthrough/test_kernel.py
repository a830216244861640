"""What is written to sysfs for a change of drivers. The kernel is a double; the lab has a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ScriptedRunner
from kvmagent.passthrough.kernel import Kernel, NoKernel
from kvmagent.passthrough.plan import VFIO, Step

NIC = "0000:01:00.0"
DEVICE = f"/sys/bus/pci/devices/{NIC}"


class Double(Kernel):
    """A kernel below a folder, whose own driver for the function is e1000e; `stuck`: nothing is bound."""

    def __init__(self, root: Path, *, stuck: bool = False) -> None:
        super().__init__(root, ScriptedRunner({}))
        self.root, self.stuck = root, stuck
        self.written: list[tuple[str, str]] = []
        self.override = ""
        (root / DEVICE.lstrip("/")).mkdir(parents=True)
        self._link("e1000e")

    def _link(self, driver: str | None) -> None:
        link = self.root / DEVICE.lstrip("/") / "driver"
        link.unlink(missing_ok=True)
        if driver is not None:
            link.symlink_to(f"../../drivers/{driver}")

    def _write(self, path: str, text: str) -> None:
        self.written.append((path.removeprefix("/sys/bus/pci/"), text))
        if path.endswith("driver_override"):
            self.override = text.strip()
        elif path.endswith("unbind"):
            self._link(None)
        elif path.endswith("drivers_probe") and not self.stuck:
            self._link(self.override or "e1000e")


def test_a_function_goes_to_vfio_and_back(tmp_path: Path) -> None:
    kernel = Double(tmp_path)
    kernel.change(Step(NIC, "e1000e", VFIO))
    assert kernel.driver(NIC) == VFIO
    assert kernel.written == [
        (f"devices/{NIC}/driver_override", VFIO),
        (f"devices/{NIC}/driver/unbind", NIC),
        ("drivers_probe", NIC),
    ]
    kernel.change(Step(NIC, VFIO, "e1000e"))
    assert (kernel.driver(NIC), kernel.override) == ("e1000e", "")


def test_one_that_is_where_it_shall_be_is_let_be_and_one_without_a_driver_stays_so(tmp_path: Path) -> None:
    kernel = Double(tmp_path)
    kernel.change(Step(NIC, None, "e1000e"))
    assert kernel.written == [(f"devices/{NIC}/driver_override", "\n")]
    kernel.change(Step(NIC, "e1000e", VFIO))
    kernel.change(Step(NIC, VFIO, None))
    assert kernel.driver(NIC) is None


def test_what_the_kernel_did_not_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(HardpointError, match=f"{NIC} did not get driver vfio-pci: .* left it with no driver"):
        Double(tmp_path, stuck=True).change(Step(NIC, "e1000e", VFIO))


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(HardpointError, match=f"{NIC} did not get driver vfio-pci: No such file"):
        Kernel(tmp_path, ScriptedRunner({})).change(Step(NIC, None, VFIO))
    with pytest.raises(HardpointError, match="was not given 2 virtual functions: No such file"):
        Kernel(tmp_path, ScriptedRunner({})).set_virtual_functions(NIC, 2)


async def test_a_kernel_without_vfio_is_named(tmp_path: Path) -> None:
    with pytest.raises(HardpointError, match="has no driver vfio-pci"):
        await Kernel(tmp_path, ScriptedRunner({})).load()


async def test_a_recorded_machine_changes_nothing() -> None:
    kernel = NoKernel()
    for refused in (
        lambda: kernel.change(Step(NIC, None, VFIO)),
        lambda: kernel.set_virtual_functions(NIC, 1),
    ):
        with pytest.raises(HardpointError, match="it is a recorded one"):
            refused()
    with pytest.raises(HardpointError, match="it is a recorded one"):
        await kernel.load()
