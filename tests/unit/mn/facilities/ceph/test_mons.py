"""What is said when no monitor's host can be joined."""

from __future__ import annotations

from agentkit.errors import HardpointError
from mn.facilities.ceph.mons import none_joined


def test_each_host_is_named_with_its_reason_and_the_first_ones_next_step() -> None:
    first = HardpointError("SYS.1006", "Operation failed", "no ceph", remedy="install it")
    second = HardpointError("HOST.1003", "Connection error", "no route", remedy="see the network")
    error = none_joined({"mon-a": first, "mon-b": second})
    assert (error.code, error.remedy) == ("SYS.1006", "install it")
    assert error.details == "mon-a: no ceph; mon-b: no route"
