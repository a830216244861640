"""A management node with 10,000 simulated hosts: cold start to all Connected, and what it costs when idle.

Beside it, in the same run and to the same hosts, bare asyncio streams that only read the ticks.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.common import Table, Worker, cpu_s, json_file, load_note, rss_mb, running, scratch, until
from bench.node import Node, node
from mn.app import CA_DIR, DATABASE
from mn.fleet.ca import CertificateAuthority
from mn.fleet.processes import stop_agent
from mn.state_folder import SIMULATOR_DIR
from mnclient.api import Client
from mnclient.local import LocalNode
from mnclient.simulate import FIRST_ADDRESS, build_fleet
from simulator.identities import Size, distinct
from simulator.machines import Machines

HOSTS = 10_000
TICK_S = 10.0
IDLE_S = 30.0
SETTLE_S = 5.0
GREEN_LIMIT_S = 1200.0
MACHINE = "virtio-guest"
HEADS = (
    "reader",
    "all connected s",
    "CPU s for that",
    "idle CPU %",
    "us a tick",
    "RSS MB",
    "KB a host",
)


@dataclass(frozen=True)
class Figures:
    """What one reader of all hosts took; `base_mb` is its memory without them."""

    name: str
    connected_s: float
    connected_cpu_s: float
    idle_share: float
    rss_mb: float
    base_mb: float


def table(hosts: int = HOSTS, idle_s: float = IDLE_S) -> Table:
    """Seed the hosts, then start one reader of them after the other."""
    before = os.getloadavg()[0]
    with scratch() as directory:
        state = directory / "state"
        base = _seed(state, hosts)
        with _simulator(state) as port:
            # The floor comes first: the simulator's own first time, of some 10 ms a host, is in its wall.
            found = [_floor(state, hosts, port, idle_s), _management_node(state, hosts, idle_s, base)]
    result = Table(f"a fleet of {hosts:,} simulated hosts", HEADS)
    result.rows = [_row(figures, hosts) for figures in found]
    result.notes = [
        "all connected: from the process's start (bare asyncio: of dialling) to the last host's first word",
        "bare asyncio comes first: the simulator's loading of each host's certificates is in its wall",
        f"idle: {idle_s:g} s at a tick of {TICK_S:g} s, beginning {SETTLE_S:g} s later",
        "the simulator shares the machine's cores",
        "the hosts' rows and folders are seeded; bare asyncio parses neither HTTP nor JSON",
        load_note(before),
    ]
    return result


def _row(figures: Figures, hosts: int) -> list[str]:
    tick_us = figures.idle_share / 100 * TICK_S / hosts * 1e6
    return [
        figures.name,
        f"{figures.connected_s:.1f}",
        f"{figures.connected_cpu_s:.1f}",
        f"{figures.idle_share:.1f}",
        f"{tick_us:.0f}",
        f"{figures.rss_mb:.0f}",
        f"{(figures.rss_mb - figures.base_mb) * 1024 / hosts:.0f}",
    ]


def _management_node(state: Path, hosts: int, idle_s: float, base: float) -> Figures:
    begun = time.monotonic()
    with _setting("HARDPOINT_LEASE_TICK_S", TICK_S), node(state) as running_node:
        client = _client(running_node)
        deadline = begun + GREEN_LIMIT_S
        while (connected := client.count("/hosts", "status=Connected")) < hosts:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{connected} of {hosts} hosts Connected after {GREEN_LIMIT_S:.0f} s")
            time.sleep(0.5)
        taken = time.monotonic() - begun
        return _idle("Hardpoint", running_node.pid, taken, base, idle_s)


def _floor(state: Path, hosts: int, port: int, idle_s: float) -> Figures:
    pair = CertificateAuthority(state / CA_DIR).client()
    files = [str(pair.certificate), str(pair.key), str(pair.ca)]
    with Worker("ticks", *files, log=state.with_name("ticks.log")) as worker:
        worker.ask()
        base = rss_mb(worker.pid)
        addresses = [str(FIRST_ADDRESS + number) for number in range(hosts)]
        taken = worker.ask(addresses=addresses, port=port, tick=TICK_S)["connected_s"]
        return _idle("bare asyncio", worker.pid, taken, base, idle_s)


def _idle(name: str, pid: int, taken: float, base_mb: float, idle_s: float) -> Figures:
    connected_cpu = cpu_s(pid)
    time.sleep(SETTLE_S)
    begun, used = time.monotonic(), cpu_s(pid)
    time.sleep(idle_s)
    share = (cpu_s(pid) - used) / (time.monotonic() - begun) * 100
    return Figures(name, taken, connected_cpu, share, rss_mb(pid), base_mb)


def _seed(state: Path, hosts: int) -> float:
    """Add one host through the API, and make the others like it in the database and on the disk.

    Returns the memory (MB) of a node that has one host.
    """
    with node(state) as running_node:
        local = LocalNode(state, running_node.base.removesuffix("/zstack/v1"), None)
        build_fleet(local, "password", 1, MACHINE, lambda _done, _of: None)
        base = rss_mb(running_node.pid)
    simulator = state / SIMULATOR_DIR
    stop_agent(simulator)
    ca = CertificateAuthority(state / CA_DIR)
    recorded = Machines(simulator / "machines").inventory(MACHINE)
    with contextlib.closing(sqlite3.connect(state / DATABASE)) as database, database:
        database.row_factory = sqlite3.Row
        (fleet_uuid,) = database.execute("SELECT uuid FROM fleet").fetchone()
        first = dict(database.execute("SELECT * FROM host").fetchone())
        del first["seq"]  # numbers the rows
        for number in range(1, hosts):
            uuid, address = f"{number:032x}", str(FIRST_ADDRESS + number)
            _folder(simulator / "hosts" / uuid, ca, address, fleet_uuid)
            own = distinct(recorded, uuid, Size())
            given = {"uuid": uuid, "name": f"simulated-{address}", "management_ip": address}
            row = {**first, **given, "agent_address": address, "inventory_hash": own.hash}
            names = ", ".join(row)
            marks = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO host ({names}) VALUES ({marks})", list(row.values()))
    return base


def _folder(home: Path, ca: CertificateAuthority, address: str, fleet_uuid: str) -> None:
    """Write what the deployer and a connected agent leave in a host's folder."""
    home.mkdir()
    certificate, key = ca.issue_server(home.name, address)
    (home / "agent.pem").write_bytes(certificate + key)
    (home / "host.json").write_text(json.dumps({"address": address, "machine": MACHINE}))
    (home / "owner.json").write_text(json.dumps({"hostUuid": home.name, "fleetUuid": fleet_uuid}))


@contextlib.contextmanager
def _simulator(state: Path) -> Iterator[int]:
    """Run the simulator for the block's duration; gives its port."""
    home = state / SIMULATOR_DIR
    argv = ["-m", "simulator", "serve", "--state", str(home), "--log-level", "WARNING"]
    with running(argv, home / "agent.log") as process:
        ready = home / "ready.json"
        until(lambda: json_file(ready).get("pid") == process.pid, "the simulator serves", process)
        yield int(json_file(ready)["port"])


@contextlib.contextmanager
def _setting(name: str, value: float) -> Iterator[None]:
    os.environ[name] = str(value)
    try:
        yield
    finally:
        del os.environ[name]


def _client(running_node: Node) -> Client:
    client = Client(running_node.base.removesuffix("/zstack/v1"))
    client.resume(running_node.session)
    return client
