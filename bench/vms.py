"""VMs started and stopped through the API, beside virsh with the same domain on the same libvirtd."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import Table, load_note, median, scratch
from tests.helpers import wait_until
from tests.libvirtd import IDLE, Libvirtd, boot_sector
from tests.node import run_node

ROUNDS = 10
MB = 1024 * 1024
HEADS = ("what", "rounds", "median ms", "x virsh")
STATES = ("Stopped", "Running", "Stopped", "Running")
"""What the VM is after each way; the node sees what virsh has done a moment later."""
SEEN_S = 60.0


def table(rounds: int = ROUNDS) -> Table:
    """Start and stop a VM `rounds` times in each way, in turn."""
    before = os.getloadavg()[0]
    result = Table("a VM started and stopped", HEADS)
    with scratch() as directory, contextlib.contextmanager(_libvirtd)(directory) as daemon:
        environment = {"HARDPOINT_LOCAL_AGENT_LIBVIRT": daemon.uri}
        with contextlib.contextmanager(run_node)(directory / "state", environment) as node:
            admin = node.rest().logged_in()
            vm = _make_vm(admin, directory)
            act = f"/vm-instances/{vm['uuid']}/actions"
            xml = directory / "domain.xml"
            dumped = daemon.virsh("dumpxml", "--inactive", "--security-info", vm["uuid"]).stdout
            xml.write_text(dumped)
            ways: dict[str, Callable[[], object]] = {
                "StopVmInstance": lambda: _well(admin, act, {"stopVmInstance": {"type": "cold"}}),
                "virsh create": lambda: daemon.virsh("create", str(xml)),
                "virsh destroy": lambda: daemon.virsh("destroy", vm["uuid"]),
                "StartVmInstance": lambda: _well(admin, act, {"startVmInstance": {}}),
            }
            took: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for (name, way), state in zip(ways.items(), STATES, strict=True):
                    begin = time.monotonic()
                    way()
                    took[name].append(time.monotonic() - begin)
                    wait_until(partial(_is, admin, vm["uuid"], state), f"the node sees it {state}", SEEN_S)
    for ours, theirs in (("StartVmInstance", "virsh create"), ("StopVmInstance", "virsh destroy")):
        floor = median(took[theirs])
        for name in (theirs, ours):
            milliseconds = f"{median(took[name]) * 1000:.0f}"
            result.rows.append([name, str(rounds), milliseconds, f"{median(took[name]) / floor:.2f}"])
    result.notes = [
        "through the API: job, journal, agent, libvirt, a look at what runs; stopped by force in both",
        "emulated (no KVM), 64 MB, a boot sector as its system; virsh is a process for each call",
        load_note(before),
    ]
    return result


def _is(admin: Any, uuid: str, state: str) -> bool:
    return bool(admin.query(f"/vm-instances/{uuid}")[0]["state"] == state)


def _libvirtd(directory: Path) -> Any:
    daemon = Libvirtd(directory / "libvirtd")
    daemon.directory.mkdir()
    daemon.prepare()
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def _make_vm(admin: Any, directory: Path) -> dict[str, Any]:
    login = {"username": "root", "password": "unused"}
    zone = admin.create("/zones", name="zone")["uuid"]
    cluster = admin.create("/clusters", name="c", zoneUuid=zone, hypervisorType="KVM")["uuid"]
    admin.create("/hosts/kvm", name="h", managementIp="127.0.7.1", clusterUuid=cluster, **login)
    storage = admin.create("/primary-storage/local-storage", name="p", url="/bench", zoneUuid=zone)["uuid"]
    admin.run("POST", f"/clusters/{cluster}/primary-storage/{storage}", {})
    folder = {"hostname": "127.0.7.2", "url": str(directory / "store")}
    store = admin.create("/backup-storage/image-store", name="s", **folder, **login)["uuid"]
    admin.run("POST", f"/zones/{zone}/backup-storage/{store}", None)
    disk = directory / "disk.raw"
    disk.write_bytes(boot_sector(IDLE).ljust(2 * MB, b"\0"))
    wanted = {"name": "disk", "url": f"file://{disk}", "format": "raw"}
    image = admin.create("/images", backupStorageUuids=[store], **wanted)["uuid"]
    made: dict[str, Any] = admin.create(
        "/vm-instances", name="vm", cpuNum=1, memorySize=64 * MB, imageUuid=image, zoneUuid=zone
    )
    return made


def _well(admin: Any, path: str, body: dict[str, Any]) -> None:
    answer = admin.run("PUT", path, body)
    if answer.status != 200:
        raise RuntimeError(f"the node refused: {answer}")
