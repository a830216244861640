"""Which kind of host belongs into which cluster."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from agentkit.errors import Blame, HardpointError
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import find


def fitting_cluster(connection: Connection, uuid: str, hypervisor_type: str) -> Row[Any]:
    """Return the cluster that a host of that type is to join.

    Raises HardpointError: SYS.1003 when there is none, SYS.1006 when it is for other hosts.
    """
    cluster = find(connection, CLUSTER, uuid)
    if cluster.hypervisor_type == hypervisor_type:
        return cluster
    raise HardpointError(
        "SYS.1006",
        "Operation failed",
        f"hypervisor mismatch: cluster {cluster.name} ({cluster.uuid}) is for {cluster.hypervisor_type}, "
        f"a {hypervisor_type} host cannot be added to it",
        remedy=f"choose a cluster whose hypervisorType is {hypervisor_type}",
        blame=Blame.CALLER,
    )
