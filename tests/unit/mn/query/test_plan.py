from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from agentkit.errors import HardpointError
from mn import facilities
from mn.db.schema import metadata
from mn.facilities.block_devices import BLOCK_DEVICE
from mn.facilities.clusters import CLUSTER
from mn.facilities.hosts.tables import HOST, host_table
from mn.facilities.zones import ZONE
from mn.query.parse import parse_query
from mn.query.plan import load_one, run_query
from mn.query.resource import Resource

MOMENT = 1483674676  # Jan 6, 2017 3:51:16 AM
Find = Callable[..., list[str]]
INJECTIONS = [
    "' OR '1'='1",
    '" OR 1=1 --',
    "x'; DROP TABLE host; --",
    "x') UNION SELECT password FROM host --",
    "%' ESCAPE '\\",
    "\\",
    "?",
    ":name",
    "%(name)s",
    "{0}",
    "char(120)",
]


@pytest.fixture
def filled(connection: Connection) -> Connection:
    """Two zones; cluster a in the first with hosts h1 and h2, cluster b in the second with h3."""
    facilities.load()
    metadata.create_all(connection)
    dates = {"create_date": MOMENT, "last_op_date": MOMENT}
    for name in ("z1", "z2"):
        row = {"uuid": name, "name": name, "state": "Enabled", "type": "zstack", **dates}
        connection.execute(insert(ZONE.table), row)
    for name, zone in (("a", "z1"), ("b", "z2"), ("empty", "z1")):
        row = {"uuid": name, "name": name, "state": "Enabled", "type": "zstack", **dates}
        connection.execute(insert(CLUSTER.table), {**row, "zone_uuid": zone, "hypervisor_type": "KVM"})
    for name, cluster, zone, cpus in (("h1", "a", "z1", 8), ("h2", "a", "z1", None), ("h3", "b", "z2", 80)):
        row = {"uuid": name, "name": name, "cluster_uuid": cluster, "zone_uuid": zone, "cpu_num": cpus}
        row |= {"management_ip": f"192.0.2.{name[1]}", "hypervisor_type": "KVM", "state": "Enabled", **dates}
        row |= {"status": "Connected", "username": "root", "password": "sealed", "ssh_port": 22}
        connection.execute(insert(HOST.table), row)
    return connection


@pytest.fixture
def find(filled: Connection) -> Find:
    """Return the uuids that a query with these conditions finds."""

    def run(resource: Resource, *conditions: str, **options: str) -> list[str]:
        query = parse_query({"q": conditions, **{k: [v] for k, v in options.items()}})
        rows: list[dict[str, Any]] = json.loads(run_query(filled, resource, query))["inventories"]
        return [row["uuid"] for row in rows]

    return run


def refused(connection: Connection, resource: Resource, **options: str) -> HardpointError:
    with pytest.raises(HardpointError) as caught:
        run_query(connection, resource, parse_query({name: [value] for name, value in options.items()}))
    assert caught.value.code == "SYS.1007"
    return caught.value


@pytest.mark.parametrize(
    ("resource", "condition", "found"),
    [
        (HOST, "zone.name=z1", ["h1", "h2"]),
        (HOST, "cluster.name=b", ["h3"]),
        (HOST, "cluster.zone.name=z2", ["h3"]),
        (HOST, "zone.cluster.name=empty", ["h1", "h2"]),
        (HOST, "cluster.name!=a", ["h3"]),
        (HOST, "cluster.description=null", ["h1", "h2", "h3"]),
        (CLUSTER, "host.name?=h1,h3", ["a", "b"]),
        (CLUSTER, "host.name!=h1", ["a", "b"]),
        (CLUSTER, "host.cpuNum=null", ["a"]),
        (CLUSTER, "host.uuid!=null", ["a", "b"]),
        (CLUSTER, "zone.name=z1", ["a", "empty"]),
        (ZONE, "host.managementIp~=192.0.2._", ["z1", "z2"]),
        (ZONE, "cluster.host.cpuNum>8", ["z2"]),
        (ZONE, "cluster.name=nowhere", []),
    ],
)
def test_conditions_follow_relations_between_zones_clusters_and_hosts(
    find: Find, resource: Resource, condition: str, found: list[str]
) -> None:
    assert find(resource, condition) == found


def test_two_conditions_on_one_relation_may_be_met_by_two_rows(find: Find) -> None:
    assert find(CLUSTER, "host.name=h1", "host.name=h2") == ["a"]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("h_", "h1", True),
        ("H%", "h1", True),
        ("%", "", True),
        ("_", "", False),
        ("a%b", "a\nx\nb", True),
        ("a.c", "abc", False),
        ("a.c", "a.c", True),
        ("[ab]", "a", False),
        ("(a|b)+", "(a|b)+", True),
        ("a*", "aaa", False),
        ("^a$", "^a$", True),
        ("\\d", "5", False),
        ("\\%", "\\anything", True),
        ("größe%", "GRÖSSE", False),
        ("grö_e", "GRÖßE", True),
        ("ЖУК", "жук", True),
        ("σίσυφος", "ΣΊΣΥΦΟΣ", True),
        ("__", "\U0001f5a5x", True),
        ("%a" * 100 + "b", "a" * 255, False),
        ("%a" * 100 + "%", "a" * 255, True),
        ("%ab%ab", "abab", True),
        ("%ab%b", "ab", False),
        ("a%a", "a", False),
    ],
)
def test_like_takes_percent_and_underscore_and_nothing_else(
    filled: Connection, find: Find, pattern: str, name: str, matches: bool
) -> None:
    filled.execute(host_table.update().where(host_table.c.uuid == "h1").values(name=name))
    assert find(HOST, f"name~={pattern}", "uuid=h1") == (["h1"] if matches else [])
    assert find(HOST, f"name!~={pattern}", "uuid=h1") == ([] if matches else ["h1"])


@pytest.mark.parametrize(
    "date",
    ["2017-01-06 03:51:16", "2017-01-06T03:51:16", "Jan 6, 2017 3:51:16 AM", "Jan 06, 2017 03:51:16 AM"],
)
def test_dates_are_compared_as_moments_however_they_are_written(find: Find, date: str) -> None:
    assert find(ZONE, f"createDate={date}") == ["z1", "z2"]
    assert find(ZONE, f"createDate>{date}") == []
    assert find(ZONE, "createDate>2017-01-06", "createDate<2017-01-07") == ["z1", "z2"]
    assert find(ZONE, "createDate~=Jan 6, 2017%") == ["z1", "z2"]


def test_numbers_beyond_the_database_are_compared_all_the_same(find: Find) -> None:
    huge = "9" * 19
    assert find(HOST, f"cpuNum<{huge}") == ["h1", "h3"]
    assert find(HOST, f"cpuNum>-{huge}") == ["h1", "h3"]
    assert find(HOST, "cpuNum=8.0") == ["h1"]
    assert find(HOST, start=huge[:-1]) == []
    assert find(HOST, limit=huge[:-1]) == ["h1", "h2", "h3"]


@pytest.mark.parametrize("value", INJECTIONS)
def test_a_value_is_only_ever_a_value(filled: Connection, find: Find, value: str) -> None:
    for operator in ("=", "!=", "?=", "!?=", "~=", "!~=", ">", "<"):
        expected = {"!=": 3, "!?=": 3, "!~=": 3}
        found = find(HOST, f"name{operator}{value}")
        if operator not in (">", "<"):
            assert len(found) == expected.get(operator, 0), operator
        find(ZONE, f"host.name{operator}{value}")
    filled.execute(host_table.update().where(host_table.c.uuid == "h2").values(name=value))
    assert find(HOST, f"name={value}") == ["h2"]
    assert json.loads(load_one(filled, HOST, "h2") or "")["name"] == value
    assert len(filled.execute(select(host_table)).all()) == 3


@pytest.mark.parametrize("value", [value for value in INJECTIONS if value])
def test_a_name_is_only_ever_looked_up(filled: Connection, value: str) -> None:
    refused(filled, HOST, sort=value)
    refused(filled, HOST, groupBy=value)
    if value.replace(",", "").strip():
        refused(filled, HOST, fields=value)
    refused(filled, HOST, q=f"{value}=1")


@pytest.mark.parametrize(
    ("options", "details", "hint"),
    [
        ({"q": "nmae=x"}, "condition 'nmae=x': Host has no field 'nmae'", "did you mean 'name'? "),
        ({"q": "Name=x"}, "condition 'Name=x': Host has no field 'Name'", "did you mean 'name'? "),
        ({"q": "clstr.a=x"}, "condition 'clstr.a=x': Host has no relation 'clstr'", "did you mean 'cluster'"),
        ({"q": "zone.nam=x"}, "condition 'zone.nam=x': Zone has no field 'nam'", "did you mean 'name'? "),
        ({"q": "qqqq=x"}, "condition 'qqqq=x': Host has no field 'qqqq'", "fields: uuid, name, "),
        ({"q": "name.a=x"}, "condition 'name.a=x': Host has no relation 'name'", "relations: zone, cluster"),
        ({"fields": "name,statee"}, "fields: Host has no field 'statee'", "did you mean 'state'? "),
        ({"fields": "zone.name"}, "fields: Host has no field 'zone.name'", ""),
        ({"sort": "-stat"}, "sort: Host has no field 'stat'", "did you mean 'state'? "),
        ({"groupBy": "typ"}, "groupBy: Host has no field 'typ'", ""),
        ({"q": "password=x"}, "condition 'password=x': Host has no field 'password'", ""),
    ],
)  # fmt: skip
def test_an_unknown_name_is_refused_with_the_closest_one(
    filled: Connection, options: dict[str, str], details: str, hint: str
) -> None:
    error = refused(filled, HOST, **options)
    assert error.details == details
    assert error.remedy.startswith(hint)
    assert "password" not in error.remedy


@pytest.mark.parametrize(
    ("resource", "condition", "remedy"),
    [
        (HOST, "cpuNum=many", "give a whole number"),
        (HOST, "cpuNum=1.5", "give a whole number"),
        (HOST, "cpuNum=", "give a whole number"),
        (HOST, "cpuNum?=1,,2", "give a whole number"),
        (HOST, "cpuNum=٣", "give a whole number"),
        (BLOCK_DEVICE, "rotational=yes", "give true or false"),
        (HOST, "createDate>yesterday", "give a date such as 2017-01-06 03:51:16 (UTC)"),
        (HOST, "createDate=2017-02-30", "give a date such as 2017-01-06 03:51:16 (UTC)"),
        (BLOCK_DEVICE, "mounts=[]", "compare it with null only"),
        (BLOCK_DEVICE, "mounts~=%", "compare it with null only"),
    ],
)
def test_a_value_that_the_field_cannot_have_is_refused(
    filled: Connection, resource: Resource, condition: str, remedy: str
) -> None:
    error = refused(filled, resource, q=condition)
    assert error.details.startswith(f"condition '{condition}': ")
    assert error.remedy == remedy


@pytest.mark.parametrize("operator", ["=", "!=", ">", "<", ">=", "<=", "?=", "!?="])
def test_truth_values_take_every_operator(find: Find, operator: str) -> None:
    assert find(BLOCK_DEVICE, f"rotational{operator}true") == []


def test_one_resource_is_loaded_as_a_query_shows_it(filled: Connection) -> None:
    one = json.loads(load_one(filled, HOST, "h1") or "")
    (listed,) = json.loads(run_query(filled, HOST, parse_query({"q": ["uuid=h1"]})))["inventories"]
    assert one == listed
    assert one["createDate"] == "Jan 6, 2017 3:51:16 AM"
    assert not {"password", "description", "agentPort"} & set(one)
    assert load_one(filled, HOST, "nothing") is None
