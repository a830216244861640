from __future__ import annotations

import pytest

from tests.contract.catalogue import QUERIES, TYPES, Operation
from tests.contract.conftest import World
from tests.contract.moving import moving, still

LISTS_OF_OBJECTS = {"matchedPciDevices", "attachedInstanceOfferings", "matchedPciDeviceOfferingRef"}


ROWS_OF_OTHERS = {"sharedBlocks", "iscsiTargets", "iscsiLuns", "iscsiClusterRefs", "iscsiHostRefs"}
"""Lists that only whole inventories have: conditions on them go over the relation of the same name."""


def _fields(operation: Operation) -> list[str]:
    fields = TYPES[operation.reply["inventories"].removesuffix("[]")].keys()
    return sorted(fields - ROWS_OF_OTHERS)


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
def test_every_documented_field_can_be_asked_for_compared_and_sorted_by(
    world: World, operation: Operation
) -> None:
    path = operation.paths[0]
    for field in _fields(operation):
        assert world.admin.get(path, fields=field).status == 200, field
        assert world.admin.get(path, f"{field}=null").status == 200, field
        assert world.admin.get(path, sort=f"-{field}").status == 200, field


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
def test_a_resource_is_found_by_each_of_its_values(world: World, operation: Operation) -> None:
    (shown,) = world.admin.query(operation.paths[0], limit="1")
    for field, value in shown.items():
        if field in ROWS_OF_OTHERS or value == []:
            continue  # asked for by the relation, or nothing is among its members
        if isinstance(value, dict) or field in LISTS_OF_OBJECTS | moving(shown):
            condition = f"{field} not null"  # objects are compared with nothing else, and rooms move
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            condition = f"{field}.createDate={value[0]['createDate']}"  # rows of another resource
        elif isinstance(value, list):
            condition = f"{field}?={','.join(value)}"
        else:
            condition = f"{field}={value}"
        found = world.admin.query(operation.paths[0], condition)
        assert still([shown])[0] in still(found), field


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
def test_paging_shows_every_resource_once(world: World, operation: Operation) -> None:
    everything = world.admin.query(operation.paths[0], sort="+uuid")
    pages = [
        row
        for start in range(0, len(everything) + 2, 2)
        for row in world.admin.query(operation.paths[0], sort="+uuid", start=str(start), limit="2")
    ]
    assert still(pages) == still(everything)


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
def test_counting(world: World, operation: Operation) -> None:
    path = operation.paths[0]
    total = len(world.admin.query(path))
    assert world.admin.get(path, count="true").body == {"total": total}
    both = world.admin.get(path, replyWithCount="true", limit="1").body
    assert (len(both["inventories"]), both["total"]) == (1, total)
    assert world.admin.get(path, limit="0").body == {"inventories": []}


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("q=nmae=x", "nmae"),
        ("q=host.cluster.zone.nmae=x", "host"),
        ("q=uuid", "uuid"),
        ("q=uuid%20=%20x", "uuid = x"),
        ("q=", "''"),
        ("q==x", "=x"),
        ("fields=nmae", "nmae"),
        ("fields=uuid,zone.name", "zone.name"),
        ("sort=nmae", "nmae"),
        ("groupBy=nmae", "nmae"),
        ("limit=many", "limit"),
        ("limit=-1", "limit"),
        ("start=-1", "start"),
        ("start=1&start=2", "start"),
        ("count=maybe", "count"),
        ("q=createDate%3Eyesterday", "createDate"),
    ],
)
def test_a_query_that_is_not_understood_is_a_400_that_names_its_fault(
    world: World, operation: Operation, query: str, named: str
) -> None:
    answer = world.admin.call("GET", f"{operation.paths[0]}?{query}")
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert named in answer.error["details"]


def test_conditions_may_be_called_q_or_condition_and_are_anded(world: World) -> None:
    uuid, name = world.zone["uuid"], world.zone["name"]
    for query in (f"q=uuid={uuid}&condition=name={name}", f"condition=uuid={uuid}", f"q=uuid={uuid}"):
        assert [z["uuid"] for z in world.admin.call("GET", f"/zones?{query}").body["inventories"]] == [uuid]
    assert not world.admin.query("/zones", f"uuid={uuid}", "name=another")


def test_fields_may_be_repeated_joined_and_named_twice(world: World) -> None:
    uuid, name = world.zone["uuid"], world.zone["name"]
    for fields in ("fields=uuid,name", "fields=uuid&fields=name", "fields=uuid,name&fields=name"):
        answer = world.admin.call("GET", f"/zones?q=uuid={uuid}&{fields}")
        assert answer.raw.decode() == f'{{"inventories":[{{"uuid":"{uuid}","name":"{name}"}}]}}'


def test_a_plus_that_was_not_escaped_sorts_upwards(world: World) -> None:
    rows = [
        [z["name"] for z in world.admin.call("GET", f"/zones?sort={sort}").body["inventories"]]
        for sort in ("+name", "%2Bname", "name", "-name")
    ]
    assert rows[0] == rows[1] == rows[2] == sorted(rows[0])
    assert rows[3] == sorted(rows[0], reverse=True)


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        ("/hosts", "zone.name=zone"),
        ("/hosts", "cluster.zone.name=zone"),
        ("/clusters", "host.managementIp=127.0.0.1"),
        ("/zones", "cluster.host.managementIp=127.0.0.1"),
        ("/zones", "host.pciDevice.vendorId=8086"),
        ("/pci-device/pci-devices", "host.zone.name=zone"),
        ("/usb-device/usb-devices", "host.cluster.name=cluster"),
        ("/hosts", "usbDevice.idVendor=0624"),
        ("/storage-devices/iscsi/servers", "iscsiTargets.iscsiLuns.vendor=SIMULATE"),
        ("/storage-devices/iscsi/servers", "iscsiClusterRefs.cluster.name=simulators"),
        ("/storage-devices/iscsi/luns", "iscsiTarget.iscsiServer.chapUserName=hosts"),
        ("/clusters", "iscsiServerRef.iscsiServer.state=Enabled"),
    ],
)
def test_conditions_reach_over_relations(world: World, path: str, condition: str) -> None:
    assert world.admin.query(path, condition)
    assert not world.admin.query(path, condition.partition("=")[0] + "=no such value")


@pytest.mark.parametrize(
    "value",
    ["' OR 1=1 --", '"; DROP TABLE zone; --', "x' UNION SELECT password FROM host --", "%", "_", "\\"],
)
def test_values_are_never_part_of_a_statement(world: World, value: str) -> None:
    assert world.admin.query("/zones", f"name={value}") == []
    assert world.admin.get("/zones", f"{value}=1").status == 400
    assert world.admin.get("/zones", sort=value).status == 400
    assert world.admin.get("/zones", fields=value).status == 400
    assert world.admin.query("/zones", f"uuid={world.zone['uuid']}")


@pytest.mark.parametrize("field", ["password", "sshHostKey", "agentPort", "inventoryHash"])
def test_what_is_private_is_neither_shown_nor_found(world: World, field: str) -> None:
    assert field not in world.admin.query("/hosts", limit="1")[0]
    assert world.admin.get("/hosts", f"{field}!=null").status == 400
    assert world.admin.get("/hosts", fields=field).status == 400
    assert world.admin.get("/clusters", f"host.{field}!=null").status == 400
