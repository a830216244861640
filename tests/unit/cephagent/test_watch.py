"""How often a cluster is looked at."""

from __future__ import annotations

from cephagent.context import pause_s


def test_a_cluster_that_is_slow_is_looked_at_less_often() -> None:
    assert pause_s(10.0, 1.1) == 10.0
    assert pause_s(10.0, 20.0) == 60.0
