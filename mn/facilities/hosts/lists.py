"""Host queries and the lists of what hosts can be."""

from __future__ import annotations

from mn.facilities.hosts.tables import HOST
from mn.rest.operation import Get, Query, Reply
from mn.rest.services import Call

ALLOCATOR_STRATEGIES = [
    "DefaultHostAllocatorStrategy",
    "LeastVmPreferredHostAllocatorStrategy",
    "StoppedVmAwareLeastVmPreferredHostAllocatorStrategy",
]
HYPERVISOR_TYPES = ["KVM", "Simulator"]


class QueryHost(Query, path=("/hosts", "/hosts/{uuid}"), reply=HOST):
    """Query hosts (manual 4.3.1)."""


class GetHypervisorTypes(Get, path="/hosts/hypervisor-types"):
    """List the hypervisor types (manual 4.3.7)."""

    async def answer(self, call: Call) -> Reply:
        """Return the list."""
        return {"hypervisorTypes": HYPERVISOR_TYPES}


class GetHostAllocatorStrategies(Get, path="/hosts/allocators/strategies"):
    """List the strategies that choose a host for a VM (manual 4.3.6); under the table's key and the
    example's.
    """

    async def answer(self, call: Call) -> Reply:
        """Return the list."""
        return {"strategies": ALLOCATOR_STRATEGIES, "hostAllocatorStrategies": ALLOCATOR_STRATEGIES}
