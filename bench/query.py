"""Filtered lists among a million hosts beside the plain SELECT, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from bench.common import Table, load_note, median, percentile, scratch
from mn import app, facilities
from mn.db.engine import Database
from mn.db.migrations import upgrade
from mn.db.open import open_database
from mn.facilities.hosts.tables import HOST
from mn.query.parse import parse_query
from mn.query.plan import run_query
from tests import postgres

ROWS = 1_000_000
HOSTS_OF_A_CLUSTER = 100
CLUSTERS_OF_A_ZONE = 10
TAGGED_EVERY = 1_000
HEADS = ("100 hosts by", "database", "Hardpoint p50", "p95 ms", "plain p50", "p95 ms", "p95 ratio")
SHOWN = (
    *(
        "uuid",
        "name",
        "description",
        "zone_uuid",
        "cluster_uuid",
        "management_ip",
        "hypervisor_type",
        "state",
    ),
    *("status", "total_cpu_capacity", "available_cpu_capacity", "cpu_sockets", "total_memory_capacity"),
    *("available_memory_capacity", "cpu_num", "username", "ssh_port", "create_date", "last_op_date"),
)


@dataclass(frozen=True)
class Case:
    """A condition, and the WHERE that a person would write; both take one of `values`."""

    name: str
    condition: str
    where: str
    values: Callable[[int], str]


def _address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


CASES = (
    Case(
        "managementIp=",
        "managementIp={}",
        "management_ip = ?",
        _address,
    ),
    Case("status= (half of all)", "status={}", "status = ?", lambda n: ("Connected", "Disconnected")[n % 2]),
    Case("cpuNum> (1 in 200)", "cpuNum>{}", "cpu_num > CAST(? AS bigint)", lambda _n: "198"),
    Case(
        "cluster.zone.name=",
        "cluster.zone.name={}",
        "cluster_uuid IN (SELECT c.uuid FROM cluster c JOIN zone z ON z.uuid = c.zone_uuid WHERE z.name = ?)",
        lambda n: f"zone-{n // (HOSTS_OF_A_CLUSTER * CLUSTERS_OF_A_ZONE)}",
    ),
    Case(
        "__userTag__=",
        "__userTag__={}",
        "uuid IN (SELECT resource_uuid FROM tag WHERE type = 'User' AND tag = ?)",
        lambda n: f"rack-{n % 10}",
    ),
)


def table(rows: int = ROWS, rounds: int = 60) -> Table:
    """Measure every case on both databases in turn with its plain SELECT."""
    before = os.getloadavg()[0]
    facilities.load()
    result = Table(f"queries among {rows:,} hosts", HEADS)
    with scratch() as directory, ExitStack() as stack:
        file = directory / app.DATABASE
        result.rows += asyncio.run(_measure("SQLite", "", file, rows, rounds))
        if postgres.missing() is None:
            server = postgres.Server()
            stack.callback(server.remove)
            url = server.url(server.create())
            result.rows += asyncio.run(_measure("PostgreSQL", url, file, rows, rounds))
        else:
            result.notes.append(f"PostgreSQL was not measured: {postgres.missing()}")
    result.notes += [
        f"{rounds} lists each, in turn, another value each time",
        f"a zone has {HOSTS_OF_A_CLUSTER * CLUSTERS_OF_A_ZONE:,} hosts, a tag {rows // TAGGED_EVERY // 10:,}",
        "both from the value to JSON; plain: as a person would write it for sqlite3 or asyncpg with msgspec",
        load_note(before),
    ]
    return result


async def _measure(name: str, url: str, file: Path, rows: int, rounds: int) -> list[list[str]]:
    db = open_database(url, file)
    await asyncio.to_thread(db.prepare, upgrade)
    plain, finish = await (_fill_postgresql(url, rows) if url else _fill_sqlite(file, rows))
    draw = random.Random(1)
    lines = []
    try:
        for case in CASES:
            ours, theirs = await _compare(db, plain, case, rows, rounds, draw)
            lines.append(
                [
                    case.name,
                    name,
                    *(f"{value * 1000:.2f}" for value in (median(ours), percentile(ours, 95))),
                    *(f"{value * 1000:.2f}" for value in (median(theirs), percentile(theirs, 95))),
                    f"{percentile(ours, 95) / percentile(theirs, 95):.2f}",
                ]
            )
    finally:
        await finish()
        await asyncio.to_thread(db.close)
    return lines


Plain = Callable[[str, str], Awaitable[int]]
"""Runs a SELECT with one value and returns how many rows it got."""


async def _compare(
    db: Database, plain: Plain, case: Case, rows: int, rounds: int, draw: random.Random
) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    wanted = f"SELECT {', '.join(SHOWN)} FROM host WHERE"
    for number in range(-3, rounds):
        value = case.values(draw.randrange(rows))
        begin = time.perf_counter()
        query = parse_query({"q": [case.condition.format(value)], "limit": ["100"]})
        reply = await db.read(run_query, HOST, query)
        middle = time.perf_counter()
        got = await plain(f"{wanted} {case.where} ORDER BY seq LIMIT 100", value)
        end = time.perf_counter()
        assert reply.count('"managementIp"') == got, (case.name, value, got)
        if number >= 0:  # the first ones warm the caches up
            ours.append(middle - begin)
            theirs.append(end - middle)
    return ours, theirs


async def _fill_sqlite(file: Path, rows: int) -> tuple[Plain, Callable[[], Awaitable[None]]]:
    connection = sqlite3.connect(file, check_same_thread=False)
    connection.execute("PRAGMA mmap_size=268435456")
    with connection:
        for name, columns, found in _tables(rows):
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", found)

    def fetch(statement: str, value: str) -> int:
        found = connection.execute(statement, (value,)).fetchall()
        return len(msgspec.json.encode([dict(zip(SHOWN, row, strict=True)) for row in found]) and found)

    async def plain(statement: str, value: str) -> int:
        return await asyncio.to_thread(fetch, statement, value)

    async def finish() -> None:
        connection.close()

    return plain, finish


async def _fill_postgresql(url: str, rows: int) -> tuple[Plain, Callable[[], Awaitable[None]]]:
    connection = await asyncpg.connect(url, server_settings={"plan_cache_mode": "force_custom_plan"})
    for name, columns, found in _tables(rows):
        await connection.copy_records_to_table(name, records=found, columns=columns)
    await connection.execute("VACUUM ANALYZE")

    async def plain(statement: str, value: str) -> int:
        given = statement.replace("?", "$1").replace("CAST($1 AS bigint)", "$1")
        found = await connection.fetch(given, int(value) if value.isdigit() else value)
        return len(msgspec.json.encode([dict(row) for row in found]) and found)

    return plain, connection.close


def _tables(rows: int) -> list[tuple[str, list[str], Any]]:
    """Return the tables' names, columns and rows, parents first."""
    now = int(time.time())
    clusters = -(-rows // HOSTS_OF_A_CLUSTER)
    zones = -(-clusters // CLUSTERS_OF_A_ZONE)
    made: list[tuple[str, int, Callable[[int], dict[str, Any]]]] = [
        ("zone", zones, lambda n: {"uuid": _uuid(1, n), **_named(f"zone-{n}"), "type": "zstack"}),
        ("cluster", clusters, _cluster),
        ("host", rows, _host),
        ("tag", rows // TAGGED_EVERY, _tag),
    ]
    dates = {"create_date": now, "last_op_date": now}

    def filled(count: int, row: Callable[[int], dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
        return (tuple({**row(number), **dates}.values()) for number in range(count))

    return [(name, list({**row(0), **dates}), filled(count, row)) for name, count, row in made]


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "state": "Enabled"}


def _cluster(number: int) -> dict[str, Any]:
    zone = _uuid(1, number // CLUSTERS_OF_A_ZONE)
    kind = {"type": "zstack", "hypervisor_type": "KVM", "zone_uuid": zone}
    return {"uuid": _uuid(2, number), **_named(f"cluster-{number}"), **kind}


def _host(number: int) -> dict[str, Any]:
    cluster = number // HOSTS_OF_A_CLUSTER
    return {
        "uuid": _uuid(3, number),
        **_named(f"host-{number}"),
        "zone_uuid": _uuid(1, cluster // CLUSTERS_OF_A_ZONE),
        "cluster_uuid": _uuid(2, cluster),
        "management_ip": _address(number),
        "hypervisor_type": "KVM",
        "status": ("Connected", "Disconnected")[number % 2],
        "cpu_num": number * 7919 % 200,
        "cpu_sockets": 2,
        "total_memory_capacity": 2**38,
        "username": "root",
        "password": "sealed",
        "ssh_port": 22,
    }


def _tag(number: int) -> dict[str, Any]:
    owner = {"resource_uuid": _uuid(3, number * TAGGED_EVERY), "resource_type": "HostVO"}
    return {
        "uuid": _uuid(4, number),
        **owner,
        "tag": f"rack-{number % 10}",
        "type": "User",
        "inherent": False,
    }


def _uuid(kind: int, number: int) -> str:
    """Return a uuid whose order is not that of the numbers, as with real ones."""
    return f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}{kind:04x}{number:012x}"


if __name__ == "__main__":
    print(table().text())
