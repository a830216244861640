"""A volume on shared blocks: made and deleted through the API, beside plain LVM; its I/O beside a raw LUN."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.common import Table, load_note, median, scratch
from tests.lab import storage as san_storage
from tests.lab.calls import made, run
from tests.lab.guest import Guest
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
SEED, RANDOM_OPS, KB = 7, 256, 1024
IO = {
    "sequential read, 1 MB": ("read", MB),
    "sequential write, 1 MB": ("write", MB),
    "random read, 4 KB": ("read", 4 * KB),
    "random write, 4 KB": ("write", 4 * KB),
}
RAW, DISK = "raw LUN", "volume"


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
    for name in IO:
        floor = median(took[f"{name}: {RAW}"])
        for where in (RAW, DISK):
            seconds = median(took[f"{name}: {where}"])
            row = [f"{name}: {where}", str(rounds), f"{seconds:.2f}", f"{seconds / floor:.2f}"]
            result.rows.append(row)
    result.notes = [
        "plain: lvcreate -aey, lvchange and lvremove over ssh, in the same group under the same locks",
        "through the API: the volume is made, formatted as qcow2, checked, marked as whole and given back",
        f"I/O: {SIZE_MB} MB in order, {RANDOM_OPS} blocks at random, one request at a time",
        "I/O is that of QEMU as VMs have it (cache none, native AIO), on a LUN as it is and on the volume",
        "the hosts are emulated guests of the lab, the LUNs come over iSCSI",
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
        _measure_io(took, admin, guest, storage, lvm, rounds)
    return took


def _measure_io(
    took: dict[str, list[float]], admin: Rest, guest: Guest, storage: str, lvm: str, rounds: int
) -> None:
    """Read and write a volume and a LUN in turn; both have been written whole before."""
    uuid = _create(admin, storage)
    (volume,) = admin.query(f"/volumes/{uuid}")
    guest.run(f"{lvm} lvchange -aey {storage}/{uuid}", LIMIT_S)
    places = {
        RAW: f"-f raw /dev/disk/by-id/wwn-0x{san_storage.wwid(1)}",
        DISK: f"-f {volume['format']} /dev/{storage}/{uuid}",
    }
    for place in places.values():
        _io(guest, place, "write", MB)
    for _ in range(rounds):
        for name, (operation, size) in IO.items():
            for where, place in places.items():
                took.setdefault(f"{name}: {where}", []).append(_io(guest, place, operation, size))
    guest.run(f"{lvm} lvchange -an {storage}/{uuid}", LIMIT_S)
    _delete(admin, uuid)


def _io(guest: Guest, place: str, operation: str, size: int) -> float:
    """Return the seconds that QEMU says its requests took: one after the other, or at random places."""
    offsets = [at * size for at in range(SIZE_MB * MB // size)]
    if size < MB:
        offsets = random.Random(SEED).choices(offsets, k=RANDOM_OPS)
    requests = "\n".join(f"{operation} {offset} {size}" for offset in offsets)
    said = guest.run(f"qemu-io -t none -i native {place} <<'END'\n{requests}\nEND", LIMIT_S)
    a_second = [float(found) for found in re.findall(r"and ([\d.]+) ops/sec", said)]
    if len(a_second) != len(offsets):
        raise RuntimeError(f"{len(a_second)} of {len(offsets)} requests were done: {said[-500:]}")
    return sum(1 / each for each in a_second)


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
