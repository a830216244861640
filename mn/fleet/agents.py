"""The kinds of agents that a management node deploys and keeps links to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentkit.wire import Command
from cephagent import protocol as ceph
from kvmagent import protocol as kvm
from storageagent import protocol as storage


@dataclass(frozen=True)
class AgentKind:
    """A kind of agent. `name` is that of its package, process, ansible role and folders on a host.

    `take_inventory` makes the command whose reply has the `inventory`, which has a `hash`; `event` is the
    type of the data of its `device` events, which have the `inventory_hash`. The project's extra `name`
    lists what it depends on.
    """

    name: str
    port: int
    take_inventory: Callable[[], Command[Any]]
    event: type[Any]


KVM_AGENT = AgentKind("kvmagent", kvm.AGENT_PORT, kvm.TakeInventory, kvm.DeviceEvent)
STORAGE_AGENT = AgentKind("storageagent", storage.AGENT_PORT, storage.TakeInventory, storage.StoreEvent)
CEPH_AGENT = AgentKind("cephagent", ceph.AGENT_PORT, ceph.TakeInventory, ceph.ClusterEvent)
AGENTS = {kind.name: kind for kind in (KVM_AGENT, STORAGE_AGENT, CEPH_AGENT)}
