"""Steps from the interfaces that there are to the bridges that are wanted."""

import pytest

from agentkit.errors import HardpointError
from kvmagent.network.plan import Link, plan, undo_of, vlan_name
from kvmagent.network.steps import AddBridge, AddVlan, Enslave, Move, Release, Remove, Route
from kvmagent.protocol_network import INTERFACE_NAME_LENGTH, Bridge

DEFAULT = Route(destination="default", gateway="192.0.2.1", metric=None, table=254, family=2)
FLAT = Bridge(name="br_eth0", interface="eth0")
TAGGED = Bridge(name="br_eth0_7", interface="eth0", vlan=7)


def link(name: str, **more) -> Link:
    plain = {"kind": None, "mac": "52:54:00:00:00:01", "mtu": 1500, "master": None, "parent": None}
    return Link(**{"name": name, **plain, "vlan": None, "addresses": [], "routes": [], **more})


def links(*found: Link) -> dict[str, Link]:
    return {one.name: one for one in found}


MANAGED = link("eth0", addresses=["192.0.2.11/24"], routes=[DEFAULT])


def test_addresses_and_routes_go_to_the_bridge_once_the_interface_is_on_it():
    steps = [change.do for change in plan(links(MANAGED), [FLAT], [])]
    assert steps == [
        AddBridge(name="br_eth0", mac=MANAGED.mac, mtu=1500),
        Enslave(name="eth0", bridge="br_eth0"),
        Move(source="eth0", target="br_eth0", addresses=("192.0.2.11/24",), routes=(DEFAULT,)),
    ]


def test_the_way_back_is_the_way_there_reversed():
    steps = [change.do for change in undo_of(plan(links(MANAGED), [FLAT], []))]
    assert steps == [
        Move(source="br_eth0", target="eth0", addresses=("192.0.2.11/24",), routes=(DEFAULT,)),
        Release(name="eth0"),
        Remove(name="br_eth0"),
    ]


def test_a_vlans_bridge_leaves_the_interfaces_addresses_alone():
    steps = [change.do for change in plan(links(MANAGED), [TAGGED], [])]
    assert steps == [
        AddVlan(name="eth0.7", interface="eth0", vlan=7),
        AddBridge(name="br_eth0_7", mac=MANAGED.mac, mtu=1500),
        Enslave(name="eth0.7", bridge="br_eth0_7"),
    ]


def test_what_is_there_already_is_left_alone():
    there = links(link("eth0", master="br_eth0"), link("br_eth0", kind="bridge", addresses=["192.0.2.11/24"]))
    assert plan(there, [FLAT], [FLAT]) == []


def test_an_unwanted_bridge_of_ours_gives_back_what_it_was_given():
    there = links(
        link("eth0", master="br_eth0"),
        link("br_eth0", kind="bridge", addresses=["192.0.2.11/24"], routes=[DEFAULT]),
        link("eth0.7", kind="vlan", parent="eth0", vlan=7, master="br_eth0_7"),
        link("br_eth0_7", kind="bridge"),
    )
    steps = [change.do for change in plan(there, [], [FLAT, TAGGED])]
    assert steps == [
        Release(name="eth0"),
        Move(source="br_eth0", target="eth0", addresses=("192.0.2.11/24",), routes=(DEFAULT,)),
        Remove(name="br_eth0"),
        Release(name="eth0.7"),
        Remove(name="br_eth0_7"),
        Remove(name="eth0.7"),
    ]


def test_a_bridge_of_somebody_else_stays():
    there = links(link("eth0"), link("virbr0", kind="bridge", addresses=["192.168.122.1/24"]))
    assert [change.do.name for change in plan(there, [FLAT], []) if not isinstance(change.do, Move)] == [
        "br_eth0",
        "eth0",
    ]


@pytest.mark.parametrize(
    ("found", "wanted", "owned", "reason"),
    [
        ([link("eth1")], [FLAT], [], "there is no interface eth0"),
        ([link("eth0", master="bond0")], [FLAT], [], "belongs to bond0"),
        ([link("eth0"), link("br_eth0", kind="dummy")], [FLAT], [], "is no bridge"),
        ([link("eth0"), link("eth0.7", kind="dummy")], [TAGGED], [], "is something else"),
        (
            [
                link("eth0", master="br_eth0"),
                link("br_eth0", kind="bridge"),
                link("vnic1.0", master="br_eth0"),
            ],
            [],
            [FLAT],
            "in use by vnic1.0",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_reason(found, wanted, owned, reason):
    with pytest.raises(HardpointError) as refused:
        plan(links(*found), wanted, owned)
    assert reason in refused.value.details
    assert (wanted or owned)[0].name in refused.value.details


def test_names_of_vlans_on_long_interfaces_fit_and_differ():
    names = {vlan_name(Bridge(name="b", interface=f"enp129s0f{n}np0", vlan=4094)) for n in range(4)}
    assert len(names) == 4
    assert max(map(len, names)) <= INTERFACE_NAME_LENGTH
