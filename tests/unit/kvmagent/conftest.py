"""Machines to read: recorded ones, and ones that a test makes up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvmagent.record import unpack

MACHINES = Path(__file__).parents[2] / "machines"
Recorded = Callable[[str], Path]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Give the directory of a recorded machine by its archive's name; unpacked once."""
    known: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in known:
            known[name] = tmp_path_factory.mktemp(name)
            unpack(MACHINES / f"{name}.tar.xz", known[name])
        return known[name]

    return get


class MadeMachine:
    """A file tree to fill with a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str | bytes = "") -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, path: str, target: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)

    def pci(self, path: str, ids: str, class_code: str, **attributes: str | bytes) -> str:
        """Add a PCI function; `path` is below /sys/devices, `ids` is vendor:device:subvendor:subdevice."""
        address = path.rpartition("/")[2]
        names = ("vendor", "device", "subsystem_vendor", "subsystem_device")
        for name, value in zip(names, ids.split(":"), strict=False):
            self.write(f"/sys/devices/{path}/{name}", f"0x{value}\n")
        self.write(f"/sys/devices/{path}/class", f"0x{class_code}\n")
        for name, content in attributes.items():
            self.write(f"/sys/devices/{path}/{name}", content)
        self.link(f"/sys/bus/pci/devices/{address}", f"../../../devices/{path}")
        return address

    def usb(self, path: str, **attributes: str) -> None:
        """Add a USB device; `path` is below /sys/devices."""
        for name, content in attributes.items():
            self.write(f"/sys/devices/{path}/{name}", f"{content}\n")
        self.link(f"/sys/bus/usb/devices/{path.rpartition('/')[2]}", f"../../../devices/{path}")

    def disk(self, path: str, size_bytes: int, **attributes: str | bytes) -> None:
        """Add a block device; `path` is below /sys/devices; `a__b` names the attribute a/b."""
        self.write(f"/sys/devices/{path}/size", f"{size_bytes // 512}\n")
        for name, content in attributes.items():
            self.write(f"/sys/devices/{path}/{name.replace('__', '/')}", content)
        self.link(f"/sys/class/block/{path.rpartition('/')[2]}", f"../../devices/{path}")


@pytest.fixture
def machine(tmp_path: Path) -> MadeMachine:
    """Give an empty machine."""
    root = tmp_path / "machine"
    (root / "sys").mkdir(parents=True)
    (root / "proc").mkdir()
    return MadeMachine(root)
