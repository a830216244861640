"""What a cluster's report says of a storage."""

from __future__ import annotations

import pytest

from agentkit.errors import HardpointError
from cephagent.protocol import ClusterReport, MonReport, PoolReport
from mn.facilities.ceph.clusters import capacity_of, check_mon, check_one_cluster, mon_at


def report(*mons: tuple[str, int], addresses: tuple[str, ...] = ()) -> ClusterReport:
    found = [MonReport(name=f"m{i}", address=a, port=p, in_quorum=True) for i, (a, p) in enumerate(mons)]
    pools = [
        PoolReport(name="root", replicated_size=3, used_bytes=10, available_bytes=100),
        PoolReport(name="data", replicated_size=2, used_bytes=5, available_bytes=150),
    ]
    return ClusterReport(
        fsid="f",
        health="HEALTH_OK",
        mons=found,
        pools=pools,
        addresses=list(addresses),
        total_bytes=1,
        available_bytes=1,
        reason=None,
        hash="",
    )


def test_a_monitor_is_known_by_its_hosts_address_however_it_is_written() -> None:
    found = mon_at(report(("192.0.2.1", 6789), ("2001:db8::2", 6789)), "2001:0db8:0::2", 6789)
    assert found is not None
    assert found.name == "m1"


def test_a_host_that_has_a_name_is_known_by_what_its_agent_sees() -> None:
    seen = report(("192.0.2.1", 6789), ("192.0.2.2", 6789), addresses=("192.0.2.2", "fe80::1"))
    assert check_mon(seen, "mon.example.org", 6789).name == "m1"


def test_of_two_monitors_on_a_host_the_port_decides() -> None:
    seen = report(("192.0.2.1", 6789), ("192.0.2.1", 7000))
    assert check_mon(seen, "192.0.2.1", 7000).name == "m1"
    assert check_mon(seen, "192.0.2.1", 1).name == "m0"


def test_a_host_without_a_monitor_is_refused() -> None:
    with pytest.raises(HardpointError, match=r"has no monitor .* m0 at 192\.0\.2\.1"):
        check_mon(report(("192.0.2.1", 6789)), "192.0.2.9", 6789)


def test_monitors_of_two_clusters_are_no_storage() -> None:
    assert check_one_cluster([("a", "1"), ("b", "1")]) == "1"
    with pytest.raises(HardpointError, match="the monitor on b is of the Ceph cluster 2"):
        check_one_cluster([("a", "1"), ("b", "2")])
    with pytest.raises(HardpointError, match="the others are of 3"):
        check_one_cluster([("a", "1")], "3")


def test_free_space_that_pools_share_is_counted_once() -> None:
    assert capacity_of(report(), ["root", "data", "data"]) == (165, 150)
    assert capacity_of(report(), ["absent"]) == (0, 0)
