from __future__ import annotations

from ipaddress import ip_network

import pytest

from mn.rest.addresses import refusal


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.1", "172.16.0.1", "8.8.8.8", "100.64.0.1", "2001:4860::1", "fd12::1"]
)
def test_private_and_public_addresses_are_called(address: str) -> None:
    assert refusal(address, [], from_loopback=False) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:169.254.1.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
@pytest.mark.parametrize("from_loopback", [True, False])
def test_link_local_multicast_and_reserved_addresses_are_never_called(
    address: str, from_loopback: bool
) -> None:
    assert refusal(address, [], from_loopback=from_loopback)
    assert refusal(address, [ip_network("0.0.0.0/0"), ip_network("::/0")], from_loopback=from_loopback)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_loopback_is_called_for_loopback_only(address: str) -> None:
    assert refusal(address, [], from_loopback=True) is None
    assert refusal(address, [ip_network("127.0.0.0/8")], from_loopback=False)


def test_the_networks_of_the_settings_bound_what_is_called() -> None:
    networks = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    assert refusal("10.1.2.3", networks, from_loopback=False) is None
    assert refusal("fd00::7", networks, from_loopback=False) is None
    assert "web_hook_networks" in str(refusal("10.2.0.1", networks, from_loopback=True))


def test_what_is_no_address_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="example"):
        refusal("example.org", [], from_loopback=False)
