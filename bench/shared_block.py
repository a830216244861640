"""A volume on shared blocks created, activated and deleted, through the API and beside plain LVM."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.common import Table, load_note, median, scratch
from tests.lab import storage as san_storage
from tests.lab.calls import made, run
from tests.lab.hosts import run_fleet
from tests.lab.lab import Lab
from tests.node import Rest

ROUNDS = 5
LIMIT_S = 300.0
MB = 1024**2
SIZE_MB = 64
GROUPS = "/primary-storage/sharedblockgroup"
PAIRS = (("CreateDataVolume", "lvcreate"), ("DeleteDataVolume, ExpungeDataVolume", "lvremove"))
HEADS = ("what", "rounds", "median s", "x plain")


def table(rounds: int = ROUNDS) -> Table:
    """Create and remove a volume `rounds` times in each way, in turn."""
    before = os.getloadavg()[0]
    result = Table("a volume on a shared volume group created and deleted", HEADS)
    with scratch() as directory, Lab() as lab, lab.network.entered():
        took = _measure(lab, directory, rounds)
    for ours, theirs in PAIRS:
        floor = median(took[theirs])
        for name in (theirs, ours):
            seconds = median(took[name])
            result.rows.append([name, str(rounds), f"{seconds:.2f}", f"{seconds / floor:.2f}"])
    for name in ("lvchange -aey", "lvchange -an"):
        result.rows.append([name, str(rounds), f"{median(took[name]):.2f}", ""])
    result.notes = [
        "plain: lvcreate -aey, lvchange and lvremove over ssh, in the same group under the same locks",
        "through the API: the volume is made, formatted as qcow2, checked, marked as whole and given back",
        "the hosts are emulated guests of the lab, the LUN comes over iSCSI",
        load_note(before),
    ]
    return result


def _measure(lab: Lab, directory: Path, rounds: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    for fleet in run_fleet(lab, f"bench-{os.getpid()}", directory):
        admin, san = fleet.admin, lab.machine("san")
        for name in fleet.hosts:
            san_storage.iscsi_login(lab.machine(name), san, one_path=True)
            lab.machine(name).wait_for(f"[ -e /dev/disk/by-id/wwn-0x{san_storage.wwid(0)} ]")
        kept = {"updateGlobalConfig": {"value": "0"}}
        run(admin, "PUT", "/global-configurations/primaryStorage/reservedCapacity/actions", kept)
        (cluster,) = admin.query(f"/clusters/{fleet.cluster}")
        params = {
            "name": "blocks",
            "zoneUuid": cluster["zoneUuid"],
            "diskUuids": [f"3{san_storage.wwid(0)}"],
        }
        storage = made(run(admin, "POST", GROUPS, {"params": params}))["uuid"]
        made(run(admin, "POST", f"/clusters/{fleet.cluster}/primary-storage/{storage}", {}))
        guest = lab.machine("kvm1")
        lvm = f"LVM_SYSTEM_DIR=/var/lib/hardpoint/kvmagent/lvm/{storage} "

        plain: dict[str, str] = {
            "lvcreate": f"lvcreate -q -y -aey -n plain -L {SIZE_MB}M {storage}",
            "lvchange -an": f"lvchange -an {storage}/plain",
            "lvchange -aey": f"lvchange -aey {storage}/plain",
            "lvremove": f"lvremove -q -f {storage}/plain",
        }
        for _ in range(rounds):
            for name, command in plain.items():
                _timed(took, name, partial(guest.run, lvm + command, LIMIT_S))
            begin = time.monotonic()
            uuid = _create(admin, storage)
            took.setdefault(PAIRS[0][0], []).append(time.monotonic() - begin)
            _timed(took, PAIRS[1][0], partial(_delete, admin, uuid))
    return took


def _create(admin: Rest, storage: str) -> str:
    wanted = {"name": "v", "diskSize": SIZE_MB * MB, "primaryStorageUuid": storage}
    return str(made(run(admin, "POST", "/volumes/data", {"params": wanted}))["uuid"])


def _delete(admin: Rest, uuid: str) -> None:
    assert run(admin, "DELETE", f"/volumes/{uuid}", None).status == 200
    expunge = {"expungeDataVolume": {}}
    assert run(admin, "PUT", f"/volumes/{uuid}/actions", expunge).status == 200


def _timed(took: dict[str, list[float]], name: str, way: Callable[[], object]) -> None:
    begin = time.monotonic()
    way()
    took.setdefault(name, []).append(time.monotonic() - begin)
