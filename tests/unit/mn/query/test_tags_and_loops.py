from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from agentkit.errors import HardpointError
from mn import facilities
from mn.db.schema import metadata, new_uuid
from mn.db.tags import SYSTEM, USER, tag_table
from mn.facilities.clusters import CLUSTER
from mn.facilities.hosts.tables import HOST
from mn.facilities.pci.tables import PCI_DEVICE
from mn.facilities.zones import ZONE
from mn.query.parse import parse_query
from mn.query.plan import run_query
from mn.query.resource import Resource, known_resources

DATES = {"create_date": 0, "last_op_date": 0}
IN_SCOPE = {
    "Zone": {"cluster": "Cluster", "host": "Host"},
    "Cluster": {"zone": "Zone", "host": "Host"},
    "Host": {"zone": "Zone", "cluster": "Cluster", "pciDevice": "PciDevice", "usbDevice": "UsbDevice"},
    "PciDevice": {"host": "Host"},
    "UsbDevice": {"host": "Host"},
}
"""Relations of expanded-queries.json between the resources that there are."""


@pytest.fixture
def tagged(connection: Connection) -> Connection:
    """Zones z1 to z3: z1 has the user tag `rack 1` twice over in two spellings, z2 a system tag, z3 none."""
    facilities.load()
    metadata.create_all(connection)
    for name in ("z1", "z2", "z3"):
        row = {"uuid": name, "name": name, "state": "Enabled", "type": "zstack", **DATES}
        connection.execute(insert(ZONE.table), row)
        row = {**row, "uuid": f"c{name[1]}", "zone_uuid": name, "hypervisor_type": "KVM"}
        connection.execute(insert(CLUSTER.table), row)
    tags = (("z1", USER, "rack 1"), ("z1", USER, "Rack 2"), ("z2", SYSTEM, "rack 1"), ("c3", USER, "gpu"))
    for uuid, kind, tag in tags:
        row = {"uuid": new_uuid(), "resource_uuid": uuid, "resource_type": "ZoneVO", "tag": tag, "type": kind}
        connection.execute(insert(tag_table), {**row, "inherent": False, **DATES})
    return connection


def find(connection: Connection, resource: Resource, *conditions: str) -> list[str]:
    rows: list[dict[str, Any]] = json.loads(run_query(connection, resource, parse_query({"q": conditions})))[
        "inventories"
    ]
    return [row["uuid"] for row in rows]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("__userTag__=rack 1", ["z1"]),
        ("__userTag__=RACK 1", []),
        ("__systemTag__=rack 1", ["z2"]),
        ("__userTag__~=RACK _", ["z1"]),
        ("__userTag__?=rack 9,Rack 2", ["z1"]),
        ("__userTag__!=rack 1", ["z2", "z3"]),
        ("__userTag__!=rack 9", ["z1", "z2", "z3"]),
        ("__userTag__!~=rack%", ["z2", "z3"]),
        ("__userTag__!?=rack 9,Rack 2", ["z2", "z3"]),
        ("__userTag__=null", ["z2", "z3"]),
        ("__userTag__!=null", ["z1"]),
        ("__systemTag__ is null", ["z1", "z3"]),
        ("__userTag__>rack", ["z1"]),
        ("cluster.__userTag__=gpu", ["z3"]),
        ("cluster.__userTag__!=gpu", ["z1", "z2"]),
        ("cluster.__userTag__=null", ["z1", "z2"]),
        ("__userTag__=\0", []),
    ],
)
def test_a_condition_on_tags_asks_whether_some_tag_meets_it_and_a_negative_one_whether_none_does(
    tagged: Connection, condition: str, found: list[str]
) -> None:
    assert find(tagged, ZONE, condition) == found


def test_conditions_on_tags_and_fields_are_all_met(tagged: Connection) -> None:
    assert find(tagged, ZONE, "__userTag__=rack 1", "__userTag__=Rack 2", "name=z1") == ["z1"]
    assert find(tagged, CLUSTER, "zone.__systemTag__=rack 1", "zone.__userTag__=null") == ["c2"]


@pytest.mark.parametrize("name", ["__systemTag__", "__userTag__"])
@pytest.mark.parametrize("parameter", ["fields", "sort", "groupBy"])
def test_tags_are_no_fields_and_the_refusal_says_where_they_go(
    tagged: Connection, parameter: str, name: str
) -> None:
    with pytest.raises(HardpointError) as caught:
        run_query(tagged, ZONE, parse_query({parameter: [name]}))
    assert (caught.value.code, caught.value.details) == (
        "SYS.1007",
        f"{parameter}: Zone has no field '{name}'",
    )
    assert f"q={name}=<tag>" in caught.value.remedy


@pytest.mark.parametrize(
    ("resource", "condition", "loop", "short"),
    [
        (HOST, "cluster.host.name=x", "host.cluster.host comes back to Host", "name=x"),
        (HOST, "cluster.host.name~=a.b%", "host.cluster.host comes back to Host", "name~=a.b%"),
        (HOST, "zone.cluster.zone.name=x", "host.zone.cluster.zone comes back to Zone", "zone.name=x"),
        (ZONE, "host.cluster.zone.host.state=x", "zone.host.cluster.zone comes back to Zone", "host.state=x"),
        (
            PCI_DEVICE,
            "host.pciDevice.vendorId=10de",
            "pciDevice.host.pciDevice comes back to PciDevice",
            "vendorId=10de",
        ),
        (HOST, "cluster.host.__userTag__=x", "host.cluster.host comes back to Host", "__userTag__=x"),
        (HOST, "cluster.host.name is null", "host.cluster.host comes back to Host", "name is null"),
        (HOST, "zone.host.zone.host.name=x", "host.zone.host comes back to Host", "name=x"),
    ],
)
def test_a_path_that_comes_back_is_refused_with_the_shorter_one(
    tagged: Connection, resource: Resource, condition: str, loop: str, short: str
) -> None:
    with pytest.raises(HardpointError) as caught:
        find(tagged, resource, condition)
    assert caught.value.details == f"condition '{condition}': {loop}"
    assert caught.value.remedy == f"write {short}"


@pytest.mark.parametrize("condition", ["zone.cluster.name=c", "cluster.zone.name=z", "zone.cluster.uuid=x"])
def test_a_path_that_does_not_come_back_is_followed(tagged: Connection, condition: str) -> None:
    assert find(tagged, HOST, condition) == []


@pytest.mark.parametrize("name", IN_SCOPE)
def test_relations_have_the_names_that_clients_know(name: str) -> None:
    facilities.load()
    relations = known_resources()[name].relations
    assert IN_SCOPE[name].items() <= {n: r.target().name for n, r in relations.items()}.items()


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (["name=x"] * 101, "101 conditions"),
        (["uuid?=" + "x," * 1000], "has 1001 values"),
        (["zone=x"], "Host has no field 'zone'"),
    ],
)
def test_limits_and_relations_without_a_field_are_refused(
    tagged: Connection, conditions: list[str], words: str
) -> None:
    with pytest.raises(HardpointError) as caught:
        find(tagged, HOST, *conditions)
    assert words in caught.value.details
    assert caught.value.remedy
