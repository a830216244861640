"""L2 networks on real kernels: bridges and VLANs come with a network, carry frames, and go with it."""

from __future__ import annotations

import pytest

from tests.lab.calls import made, run
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab

INTERFACES = "ls /sys/class/net"
VLAN = 7


@pytest.fixture(scope="module")
def guests(lab: Lab, fleet: Fleet) -> list[Guest]:
    return [lab.machine(name) for name in fleet.hosts]


def test_a_vlan_and_the_managed_interface_become_bridges_and_leave_nothing(
    fleet: Fleet, guests: list[Guest]
) -> None:
    admin, cluster = fleet.admin, fleet.cluster
    (row,) = admin.query(f"/clusters/{cluster}")
    before = [guest.run(INTERFACES).split() for guest in guests]
    flat = {"name": "flat", "zoneUuid": row["zoneUuid"], "physicalInterface": "eth0"}
    tagged = {"name": "tagged", "zoneUuid": row["zoneUuid"], "physicalInterface": "eth1", "vlan": VLAN}
    networks = [
        admin.create("/l2-networks/no-vlan", **flat)["uuid"],
        admin.create("/l2-networks/vlan", **tagged)["uuid"],
    ]
    for network in networks:
        made(run(admin, "POST", f"/l2-networks/{network}/clusters/{cluster}", {}))
    for number, guest in enumerate(guests, 1):
        assert {"br_eth0", f"br_eth1_{VLAN}"} <= set(guest.run(INTERFACES).split())
        assert guest.address in guest.run("ip -o -4 address show br_eth0"), "the managed address has moved"
        guest.run(f"ip address add 198.51.100.{number}/24 dev br_eth1_{VLAN}")
    guests[0].run("ping -c 1 -W 20 198.51.100.2")
    assert f"vlan protocol 802.1Q id {VLAN}" in guests[0].run(f"ip -d link show eth1.{VLAN}")
    for network in networks:
        path = f"/l2-networks/{network}/clusters/{cluster}"
        assert run(admin, "DELETE", path, None).status == 200
        assert run(admin, "DELETE", f"/l2-networks/{network}", None).status == 200
    assert [guest.run(INTERFACES).split() for guest in guests] == before
    for guest in guests:
        assert guest.address in guest.run("ip -o -4 address show eth0")
    fleet.wait_until_connected(60)
