from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmagent.iscsi.portals import SessionKey, Target, by_path_name, parse_discovery, portal_text, through

IQN = "iqn.2026-01.org.example:san"
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def test_what_discovery_prints_is_read_whatever_else_it_says() -> None:
    text = (
        f"10.0.0.1:3260,1 {IQN}\n"
        "iscsiadm: a warning\n"
        f"[2001:DB8::1]:3261,2 {IQN}\n"
        f"10.0.0.1:3260,1 {IQN}\n"
        f"0.0.0.0:3260,-1 {IQN}.other\n"
    )
    found = [(target.address, target.port, target.group) for target in parse_discovery(text)]
    assert found == [("10.0.0.1", 3260, 1), ("2001:db8::1", 3261, 2), ("0.0.0.0", 3260, -1)]


@given(ADDRESSES, st.integers(1, 65535), st.integers(1, 65535))
def test_a_portal_is_read_as_it_is_written(address: ipaddress.IPv4Address, port: int, group: int) -> None:
    (target,) = parse_discovery(f"{portal_text(str(address), port)},{group} {IQN}\n")
    assert target == Target(iqn=IQN, address=str(address), port=port, group=group)


@given(st.text(max_size=200))
def test_nothing_that_is_printed_is_an_error(text: str) -> None:
    parse_discovery(text)


def test_only_what_a_portal_announces_for_itself_is_of_it() -> None:
    text = f"10.0.0.1:3260,1 {IQN}\n10.0.1.1:3260,1 {IQN}\n10.0.0.1:3261,1 {IQN}\n"
    targets = parse_discovery(text)
    assert through(targets, ["10.0.0.1"], 3260) == targets[:1]
    assert through(targets, ["::1"], 3260) == []
    assert through(parse_discovery(f"[fd00::1]:3260,1 {IQN}"), ["FD00:0::1"], 3260) != []


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_by_path_names_are_those_of_udev(address: str) -> None:
    assert by_path_name(SessionKey(IQN, address, 3260), 4) == f"ip-{address}:3260-iscsi-{IQN}-lun-4"
