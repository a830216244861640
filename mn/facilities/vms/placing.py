"""Which host a VM goes to: a pure choice among what the rows say of the hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_VMS = "LeastVmPreferredHostAllocatorStrategy"
REASONS_SHOWN = 5
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host: what is free of it when the reserved part is left alone, and why it cannot take VMs at all."""

    uuid: str
    name: str
    free_cpus: int
    free_memory: int
    vms: int
    obstacle: str | None


@dataclass(frozen=True, slots=True)
class Need:
    """What a VM takes of a host; `memory` is divided by the over-provisioning ratio."""

    cpus: int
    memory: int
    strategy: str


def choose(candidates: Sequence[Candidate], need: Need) -> Candidate | None:
    """Return the host that suits best, None when there is none.

    The default strategy takes the one with the most free memory, the other the one with the fewest VMs; of
    equals the one with the most free CPUs.
    """
    fitting = [candidate for candidate in candidates if reason_against(candidate, need) is None]
    if need.strategy == LEAST_VMS:
        return min(fitting, key=lambda c: (c.vms, -c.free_memory, c.uuid), default=None)
    return min(fitting, key=lambda c: (-c.free_memory, -c.free_cpus, c.uuid), default=None)


def reason_against(candidate: Candidate, need: Need) -> str | None:
    """Say why a host cannot take a VM, None when it can."""
    if candidate.obstacle is not None:
        return candidate.obstacle
    if candidate.free_cpus < need.cpus:
        return f"{max(candidate.free_cpus, 0)} of {need.cpus} CPUs are free"
    if candidate.free_memory < need.memory:
        return f"{max(candidate.free_memory, 0)} of {need.memory} bytes of memory are free"
    return None


def explain(candidates: Sequence[Candidate], need: Need) -> str:
    """Say of each host, or of the first few, why it cannot take a VM."""
    if not candidates:
        return "there is no such host"
    told = [f"{c.name}: {reason_against(c, need)}" for c in candidates[:REASONS_SHOWN]]
    more = len(candidates) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def size_of(text: str) -> int:
    """Return the number of bytes that `1073741824`, `1G` or `1GB` says."""
    digits = text.upper().removesuffix("B").rstrip("KMGT")
    return int(digits) * _UNITS[text.upper().removesuffix("B")[len(digits) :]]
