"""What is kept of PCI functions over restarts of the agent and of the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from agentkit.files import write_durably
from agentkit.wire import Wire
from kvmagent.protocol import Evidence, PciFunction

JOURNAL_FILE = "passthrough.json"


class Device(Wire):
    """A PCI function that was told of: where it was, and what shows that it is still the same."""

    device_uuid: str
    address: str
    identity: list[Evidence]


class Claim(Wire):
    """A VM has a function, or is about to; `driver` is what the host had on it, None for none."""

    vm_uuid: str
    device: Device
    driver: str | None


class Virtual(Wire):
    """A physical function is to have so many virtual ones from each boot on."""

    device: Device
    number: int


class Kept(Wire):
    """All that is kept; functions in `bound` are vfio-pci's also while no VM has them."""

    claims: list[Claim] = msgspec.field(default_factory=list)
    bound: list[Claim] = msgspec.field(default_factory=list)
    virtual: list[Virtual] = msgspec.field(default_factory=list)


def load(state_dir: Path) -> Kept:
    """Return what is kept. Raises HardpointError when the file cannot be understood: drivers depend on it."""
    path = state_dir / JOURNAL_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.DecodeError) as error:
        details = f"what VMs have of the host's PCI functions cannot be read from {path}: {error}"
        remedy = "stop the VMs with PCI devices, move the file away and start the agent again"
        raise HardpointError("SYS.1000", "Internal error", details, remedy=remedy) from error


def save(state_dir: Path, kept: Kept) -> None:
    """Write what is kept; on disk when this returns."""
    write_durably(state_dir / JOURNAL_FILE, msgspec.json.encode(kept))


def find(functions: Sequence[PciFunction], device: Device) -> PciFunction | None:
    """Return the function that is a device now, None when it is not there.

    The strongest evidence that both have decides; one at the same address is asked first.
    """
    ordered = sorted(functions, key=lambda function: function.address != device.address)
    return next((function for function in ordered if same(function.identity, device.identity)), None)


def same(shown: Sequence[Evidence], kept: Sequence[Evidence]) -> bool:
    """Say whether two lists of evidence are of one device."""
    for kind in dict.fromkeys(item.kind for item in kept):
        mine = {item.value for item in kept if item.kind == kind}
        other = {item.value for item in shown if item.kind == kind}
        if mine and other:
            return bool(mine & other)
    return not kept
