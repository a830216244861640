"""No condition on a field that people filter by makes SQLite go over a whole table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Select, text
from sqlalchemy.dialects import sqlite

from mn import facilities
from mn.db.migrations import upgrade
from mn.db.sqlite import SqliteDatabase
from mn.facilities.clusters import CLUSTER
from mn.facilities.hosts.tables import HOST
from mn.facilities.pci.tables import PCI_DEVICE
from mn.facilities.zones import ZONE
from mn.query.parse import Query, parse_condition, parse_query
from mn.query.plan import plan_count, plan_numbers, plan_rows
from mn.query.resource import Field, Resource, known_resources

facilities.load()
RESOURCES = [r for r in known_resources().values() if r.table.metadata is HOST.table.metadata]
NOT_FILTERED_BY = {
    "description",
    "lastOpDate",
    "type",  # of accounts, zones, clusters and tags: (nearly) all have the same
    "username",
    "sshPort",
    "inherent",
    "numaNode",
    "bootCritical",
    "busNum",
    "devNum",
    "usbVersion",
    "parent",
    "vendor",
    "rotational",
    "readOnly",
    "removable",
    "value",
    "sessionDigest",
    "relatedUuids",
    "durationMs",
    "heartBeat",
    "joinDate",
    "jobData",
    "jobResult",
    "managementNodeUuid",
    "defaultValue",
    "hostName",
    "details",
    "sortKey",
    "allocatorStrategy",
    "mountPath",
    "isShareable",
    "volumeType",
    "primaryStorageInstallPath",
    "url",
    "md5Sum",
    "system",
    "exportUrl",
    "exportMd5Sum",
    "installPath",
    "cpuSpeed",
    "platform",
    "gateway",
    "deviceId",
    "netmask",
    "dnsDomain",
    "metaData",
    "evidence",
    "remedy",
    "reason",
}
NOT_FILTERED_BY_ALONE = {
    # A line of the audit log is written with every job, so only what tells few lines from many has an index.
    "Audit": {"accountUuid", "clientAddress", "operation", "status", "errorCode"}
}
VALUES = {"Timestamp": "2017-01-06", "boolean": "true", "Long": "5", "String": "x"}


def indexed(resource: Resource) -> list[Field]:
    left_out = NOT_FILTERED_BY | NOT_FILTERED_BY_ALONE.get(resource.name, set())
    return [f for f in resource.fields.values() if f.name not in left_out and f.api_type != "Object"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    db = SqliteDatabase(tmp_path_factory.mktemp("indexes") / "db")
    db.prepare(upgrade)
    with db._write_engine.connect() as connection:
        yield connection
    db.close()


def explained(connection: Connection, statement: Select[tuple[object, ...]]) -> list[str]:
    """Return the steps of SQLite's plan."""
    compiled = statement.compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True, "render_postcompile": True}
    )
    rows = connection.execute(text("EXPLAIN QUERY PLAN " + str(compiled).replace(":", "\\:")))
    return [row.detail for row in rows]


def scans(connection: Connection, resource: Resource, query: Query) -> list[str]:
    """Return the steps that go over a table, in the list and in the count; subqueries are no tables."""
    steps = explained(connection, plan_rows(resource, query, sqlite.dialect())) + explained(
        connection, plan_count(resource, query)
    )
    return [
        step
        for step in steps
        if step.startswith("SCAN") and "SCAN (subquery" not in step and "anon_" not in step
    ]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.name)
@pytest.mark.parametrize("operator", ["=", "?=", ">", "<=", "=null"])
def test_conditions_on_fields_use_their_indexes(
    database: Connection, resource: Resource, operator: str
) -> None:
    for field in indexed(resource):
        if operator == "=null" and not field.column.nullable:
            continue
        value = "" if operator == "=null" else VALUES[field.api_type]
        query = Query(conditions=(parse_condition(f"{field.name}{operator}{value}"),))
        assert scans(database, resource, query) == [], field.name


@pytest.mark.parametrize(
    ("resource", "condition"),
    [
        (HOST, "cluster.name=x"),
        (HOST, "cluster.zone.name=x"),
        (HOST, "zone.name?=x,y"),
        (HOST, "pciDevice.vendorId=10de"),
        (CLUSTER, "host.managementIp=x"),
        (ZONE, "cluster.host.name=x"),
        (ZONE, "host.pciDevice.vendorId=10de"),
        (PCI_DEVICE, "host.cluster.zone.name=x"),
        (HOST, "__userTag__=x"),
        (HOST, "__systemTag__?=x,y"),
        (HOST, "cluster.__userTag__=x"),
        (PCI_DEVICE, "host.zone.__systemTag__=x"),
    ],
)
def test_conditions_on_related_resources_and_tags_use_indexes_all_the_way(
    database: Connection, resource: Resource, condition: str
) -> None:
    assert scans(database, resource, parse_query({"q": [condition]})) == []


def test_equal_values_come_in_their_order_without_sorting(database: Connection) -> None:
    query = parse_query({"q": ["status=Connected"], "limit": ["100"]})
    assert not any("TEMP B-TREE" in step for step in explained(database, plan_numbers(HOST, query)))


@pytest.mark.parametrize("direction", ["+", "-"])
def test_sorting_by_an_indexed_field_needs_no_sorting(database: Connection, direction: str) -> None:
    for field in ("name", "state", "managementIp", "createDate", "availableMemoryCapacity"):
        query = parse_query({"sort": [direction + field], "limit": ["100"]})
        steps = explained(database, plan_numbers(HOST, query))
        assert not any("TEMP B-TREE" in step for step in steps), (field, steps)
