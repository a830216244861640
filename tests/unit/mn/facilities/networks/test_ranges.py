"""Arithmetic of address ranges, and names of bridges."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import HardpointError
from kvmagent.protocol_network import INTERFACE_NAME_LENGTH
from mn.facilities.networks.bridges import bridge_name
from mn.facilities.networks.ranges import checked, first_free, of_network, overlaps

MASK = "255.255.255.0"


def test_a_range_knows_its_network() -> None:
    found = checked("10.0.0.5", "10.0.0.9", MASK, "10.0.0.1")
    assert (found.cidr, found.netmask) == ("10.0.0.0/24", MASK)


@pytest.mark.parametrize(
    ("start", "end", "mask", "gateway", "named"),
    [
        ("10.0.0.9", "10.0.0.5", MASK, "10.0.0.1", "comes after"),
        ("10.0.0.5", "10.0.1.5", MASK, "10.0.0.1", "endIp 10.0.1.5"),
        ("10.0.0.5", "10.0.0.9", MASK, "10.0.1.1", "gateway 10.0.1.1"),
        ("10.0.0.5", "10.0.0.9", MASK, "10.0.0.7", "in the range"),
        ("10.0.0.0", "10.0.0.9", MASK, "10.0.0.11", "no machine can have"),
        ("10.0.0.5", "10.0.0.255", MASK, "10.0.0.1", "no machine can have"),
        ("10.0.0.5", "10.0.0.9", "255.0.255.0", "10.0.0.1", "netmask"),
        ("10.0.0", "10.0.0.9", MASK, "10.0.0.1", "startIp"),
        ("::1", "::2", MASK, "::3", "startIp"),
    ],
)
def test_what_is_no_range_is_refused_by_name(
    start: str, end: str, mask: str, gateway: str, named: str
) -> None:
    with pytest.raises(HardpointError) as refused:
        checked(start, end, mask, gateway)
    assert refused.value.code == "SYS.1007"
    assert named in refused.value.details


def test_a_networks_range_is_all_but_its_gateway() -> None:
    found = of_network("192.0.2.0/28", None)
    assert (found.gateway, found.start, found.end) == ("192.0.2.1", "192.0.2.2", "192.0.2.14")
    last = of_network("192.0.2.0/28", "192.0.2.14")
    assert (last.start, last.end) == ("192.0.2.1", "192.0.2.13")


@pytest.mark.parametrize("cidr", ["192.0.2.0/30", "192.0.2.0/33", "network"])
def test_what_is_no_network_is_refused(cidr: str) -> None:
    with pytest.raises(HardpointError) as refused:
        of_network(cidr, None)
    assert cidr in refused.value.details


def test_ranges_that_share_one_address_overlap() -> None:
    one = checked("10.0.0.5", "10.0.0.9", MASK, "10.0.0.1")
    assert overlaps(one, "10.0.0.9", "10.0.0.20")
    assert overlaps(one, "10.0.0.1", "10.0.0.5")
    assert not overlaps(one, "10.0.0.10", "10.0.0.20")


@given(st.sets(st.integers(0, 15)))
def test_the_lowest_address_that_is_not_used_is_given(used: set[int]) -> None:
    base = int(ipaddress.IPv4Address("10.0.0.16"))
    taken = [str(ipaddress.IPv4Address(base + n)) for n in used]
    found = first_free("10.0.0.16", "10.0.0.31", taken)
    free = [n for n in range(16) if n not in used]
    assert found == (str(ipaddress.IPv4Address(base + free[0])) if free else None)


def test_bridges_are_named_by_interface_and_vlan() -> None:
    assert bridge_name("eth0", None) == "br_eth0"
    assert bridge_name("eth0", 7) == "br_eth0_7"


@given(st.text("abcdef0123456789", min_size=1, max_size=15), st.none() | st.integers(1, 4094))
def test_every_bridges_name_fits(interface: str, vlan: int | None) -> None:
    name = bridge_name(interface, vlan)
    assert len(name) <= INTERFACE_NAME_LENGTH
    assert name != bridge_name(interface + "x", vlan)
