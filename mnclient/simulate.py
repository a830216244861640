"""`hardpoint simulate`: a management node on this machine with a fleet of simulated hosts."""

from __future__ import annotations

import ipaddress
import json
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnclient.api import Client
from mnclient.local import LocalError, LocalNode, create, log_in

FIRST_ADDRESS = ipaddress.IPv4Address("127.64.0.1")
AT_ONCE = 16
SPARE_FILES = 256
CONNECT_TIMEOUT_S = 120.0
POLL_S = 0.2
SUFFIX = ".tar.xz"
_SIMULATED = "hypervisorType=Simulator"
_ALL = "1000000"


@dataclass(frozen=True)
class Summary:
    """What a fleet came to: hosts that were there, hosts added and how long that took, hosts Connected."""

    before: int
    added: int
    added_s: float
    connected: int
    pci_devices: int


def check_files(hosts: int) -> None:
    """Raise LocalError when this machine lets no process have a connection to each of so many hosts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < hosts + SPARE_FILES:
        raise LocalError(
            f"{hosts} hosts take {hosts + SPARE_FILES} open files, and a process may have {hard} at most; "
            f"simulate at most {max(0, hard - SPARE_FILES)}, or raise it (`ulimit -Hn`, as root)"
        )


def take_machine(state: Path, recording: Path) -> str:
    """Put a recorded machine into a node's state folder and return the name it has there."""
    if not recording.name.endswith(SUFFIX):
        raise LocalError(f"{recording} is no recorded machine: `kvmagent record` writes {SUFFIX} files")
    machines = state / "simulator" / "machines"
    try:
        machines.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(recording, machines / recording.name)
    except OSError as error:
        raise LocalError(f"the machine {recording} cannot be taken: {error.strerror}") from error
    return recording.name.removesuffix(SUFFIX)


def build_fleet(
    node: LocalNode, password: str, hosts: int, machine: str | None, report: Callable[[int, int], None]
) -> Summary:
    """Add simulated hosts until there are so many, in parallel; return when all are Connected.

    `report` is told how many of how many additions are done.
    """
    client = log_in(node.url, password)
    cluster = _cluster(client)
    present = client.query("/hosts", _SIMULATED, fields="managementIp", limit=_ALL)
    wanted = max(0, hosts - len(present))
    free = _free_addresses({host["managementIp"] for host in present})
    given = {"clusterUuid": cluster["uuid"], **({"machine": machine} if machine else {})}
    begun = time.monotonic()
    _add(node.url, client, [{**given, "managementIp": str(next(free))} for _ in range(wanted)], report)
    added_s = time.monotonic() - begun
    connected = _until_connected(client, max(hosts, len(present)), node.state)
    devices = client.count("/pci-device/pci-devices", f"host.{_SIMULATED}")
    client.log_out()
    return Summary(len(present), wanted, added_s, connected, devices)


def control(state: Path, *words: str) -> dict[str, Any]:
    """Have the simulator of a state folder do something; return its answer. Raises LocalError."""
    argv = [sys.executable, "-m", "simulator", words[0], "--state", str(state / "simulator"), *words[1:]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(done.stderr.strip().removeprefix("simulator: ") or f"exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _add(url: str, client: Client, hosts: list[dict[str, Any]], report: Callable[[int, int], None]) -> None:
    local, done, counting = threading.local(), 0, threading.Lock()

    def add(host: dict[str, Any]) -> None:
        nonlocal done
        if not hasattr(local, "client"):
            local.client = Client(url)
            local.client.resume(client.session or "")
        create(local.client, "/hosts/simulators", {"name": f"simulated-{host['managementIp']}", **host})
        with counting:
            done += 1
            report(done, len(hosts))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        futures = [threads.submit(add, host) for host in hosts]
        try:
            for future in futures:
                future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _cluster(client: Client) -> dict[str, Any]:
    clusters = client.query("/clusters", _SIMULATED, limit="1")
    if clusters:
        return clusters[0]
    zones = client.query("/zones", limit="1")
    zone = zones[0] if zones else create(client, "/zones", {"name": "zone1"})
    wanted = {"name": "simulated", "zoneUuid": zone["uuid"], "hypervisorType": "Simulator"}
    return create(client, "/clusters", wanted)


def _free_addresses(used: set[str]) -> Iterator[ipaddress.IPv4Address]:
    address = FIRST_ADDRESS
    while True:
        if str(address) not in used:
            yield address
        address += 1


def _until_connected(client: Client, hosts: int, state: Path) -> int:
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while (connected := client.count("/hosts", _SIMULATED, "status=Connected")) < hosts:
        if time.monotonic() > deadline:
            raise LocalError(
                f"{connected} of {hosts} simulated hosts are Connected after {CONNECT_TIMEOUT_S:.0f} s; "
                f"see {state / 'mn.log'} and {state / 'simulator' / 'agent.log'}"
            )
        time.sleep(POLL_S)
    return connected
