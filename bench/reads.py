"""GETs of the management node beside an aiohttp handler that returns the same bytes."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.common import Table, cpu_s, json_file, load_note, median, rss_mb, running, scratch, until
from bench.node import node
from mn import app, facilities
from mn.db.migrations import upgrade
from mn.db.schema import new_uuid
from mn.db.sqlite import SqliteDatabase

ROWS = 100_000
ROWS_OF_A_HOST = 1_000
HEADS = ("GET", "server", "req/s", "p50 ms", "p99 ms", "mn/aiohttp", "CPU ms/req", "RSS MB")
MN, TRIVIAL = "mn", "aiohttp"


@dataclass(frozen=True)
class Target:
    """A server's answer to one kind of request."""

    what: str
    server: str
    url: str
    pid: int


def table(rounds: int = 3, seconds: float = 2.0, rows: int = ROWS, per_host: int = ROWS_OF_A_HOST) -> Table:
    """Measure both servers in turn, return the medians."""
    before = os.getloadavg()[0]
    with scratch() as directory, contextlib.ExitStack() as stack:
        hosts, device = fill(directory / "state", rows, per_host)
        server = stack.enter_context(node(directory / "state"))
        devices = f"{server.base}/pci-device/pci-devices"
        urls = {
            "one inventory": f"{devices}/{device}",
            f"{per_host:,} of {rows:,}": f"{devices}?q=hostUuid={hosts[len(hosts) // 2]}",
        }
        targets, sizes = [], []
        for number, (what, url) in enumerate(urls.items()):
            body = _fetch(url, server.headers)
            sizes.append(f"{what} {len(body):,} bytes")
            pid, other = stack.enter_context(_trivial(directory, number, body))
            targets += [Target(what, MN, url, server.pid), Target(what, TRIVIAL, other, pid)]
        result = Table("reads over HTTP", HEADS, _measure(targets, server.headers, rounds, seconds))
    result.notes = [
        f"medians of {rounds} rounds of {seconds:g} s, in turn",
        f"load by {load.tool()} with {load.CONNECTIONS} connections, on the other core",
        f"PCI devices by an indexed field, all fields, in insertion order; replies: {', '.join(sizes)}",
        load_note(before),
    ]
    return result


def fill(state: Path, rows: int, per_host: int) -> tuple[list[str], str]:
    """Make a state folder whose database has `rows` PCI devices; return the hosts' uuids and a device's."""
    state.mkdir()
    facilities.load()
    db = SqliteDatabase(state / app.DATABASE)
    db.prepare(upgrade)
    db.close()
    now, hosts = int(time.time()), [new_uuid() for _ in range(max(rows // per_host, 1))]
    zone, cluster = new_uuid(), new_uuid()
    devices = [_device(number, hosts[number // per_host], now) for number in range(rows)]
    connection = sqlite3.connect(state / app.DATABASE)
    with connection:
        _insert(connection, "zone", [_named(zone, now, state="Enabled", type="zstack")])
        kind = {"zone_uuid": zone, "hypervisor_type": "KVM", "state": "Enabled", "type": "zstack"}
        _insert(connection, "cluster", [_named(cluster, now, **kind)])
        _insert(connection, "host", [_host(n, uuid, zone, cluster, now) for n, uuid in enumerate(hosts)])
        _insert(connection, "pci_device", devices)
        connection.execute("ANALYZE")
    connection.close()
    return hosts, str(devices[rows // 2]["uuid"])


def _insert(connection: sqlite3.Connection, table: str, rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    marks = ", ".join(f":{name}" for name in names)
    connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)


def _named(uuid: str, now: int, **values: object) -> dict[str, object]:
    return {"uuid": uuid, "name": f"name-{uuid[:8]}", "create_date": now, "last_op_date": now, **values}


def _host(number: int, uuid: str, zone: str, cluster: str, now: int) -> dict[str, object]:
    values = {
        "zone_uuid": zone,
        "cluster_uuid": cluster,
        "management_ip": f"host-{number}.example",
        "hypervisor_type": "KVM",
        "state": "Enabled",
        "status": "Disconnected",
        "username": "root",
        "password": "sealed",
        "ssh_port": 22,
    }
    return _named(uuid, now, **values)


def _device(number: int, host: str, now: int) -> dict[str, object]:
    address = f"0000:{number >> 8 & 0xFF:02x}:{number >> 3 & 0x1F:02x}.{number & 7}"
    values = {
        "name": "Intel_Corporation_Ethernet_Controller_10G_X550T",
        "description": "Ethernet controller: Intel Corporation Ethernet Controller 10G X550T",
        "host_uuid": host,
        "vendor_id": "8086",
        "device_id": "1563",
        "subvendor_id": "8086",
        "subdevice_id": "001a",
        "pci_device_address": address,
        "type": "Ethernet_Controller",
        "state": "Enabled",
        "status": "Active" if number % 3 else "System",
        "class_code": "020000",
        "driver": "ixgbe",
        "iommu_group": f"/sys/kernel/iommu_groups/{number % 200}",
        "numa_node": number % 2,
        "boot_driver": "host",
        "boot_critical": None if number % 3 else "default route through eth0",
        "address": address,
        "identity": "[]",
    }
    # Hosts are found at different times; within one second all dates would be the same text.
    return _named(new_uuid(), now - number // 100, **values)


def _fetch(url: str, headers: dict[str, str]) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
        return bytes(response.read())


@contextlib.contextmanager
def _trivial(directory: Path, number: int, body: bytes) -> Iterator[tuple[int, str]]:
    """Serve `body`; give the process and its url."""
    ready, file = directory / f"ready{number}.json", directory / f"body{number}.json"
    file.write_bytes(body)
    argv = ["-m", "bench.peers.trivial", str(ready), str(file)]
    with running(argv, directory / "trivial.log") as process:
        port = until(lambda: json_file(ready).get("port"), "the trivial server serves", process)
        yield process.pid, f"http://127.0.0.1:{port}/"


def _measure(targets: list[Target], headers: dict[str, str], rounds: int, seconds: float) -> list[list[str]]:
    found: dict[Target, list[tuple[load.Load, float]]] = defaultdict(list)
    for target in targets:
        load.get(target.url, headers, min(seconds, 0.3))
    for _, target in itertools.product(range(rounds), targets):
        used = cpu_s(target.pid)
        done = load.get(target.url, headers, seconds)
        found[target].append((done, (cpu_s(target.pid) - used) * 1000 / max(done.requests, 1)))
    rates = {(t.what, t.server): median(done.rate for done, _ in found[t]) for t in targets}
    rows = []
    for target in targets:
        loads = [done for done, _ in found[target]]
        rate = rates[target.what, target.server]
        rows.append(
            [
                target.what,
                target.server,
                f"{rate:,.0f}",
                f"{median(done.p50_ms for done in loads):.1f}",
                f"{median(done.p99_ms for done in loads):.1f}",
                f"{rate / rates[target.what, TRIVIAL]:.3f}",
                f"{median(cpu for _, cpu in found[target]):.3f}",
                f"{rss_mb(target.pid):.0f}",
            ]
        )
    return rows
