"""An iSCSI server with eight LUNs: login and rescan of two hosts through the API, beside plain iscsiadm."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.common import Table, load_note, median, scratch
from tests.lab import storage
from tests.lab.calls import made, run
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet, run_fleet
from tests.lab.lab import Lab
from tests.lab.san import add_luns

ROUNDS = 5
LUNS = 8
LIMIT_S = 300.0
SERVERS = "/storage-devices/iscsi/servers"
HEADS = ("what", "rounds", "median s", "x iscsiadm")
PAIRS = {"AttachIscsiServerToCluster": "iscsiadm --login", "RefreshIscsiServer": "iscsiadm --rescan"}
AUTH = {"authmethod": "CHAP", "username": storage.CHAP_USER, "password": storage.CHAP_PASSWORD}
SEEN = f"[ $(ls /dev/disk/by-path | grep -c iscsi) -ge {LUNS} ] && udevadm settle"


def table(rounds: int = ROUNDS) -> Table:
    """Log in, rescan and log out `rounds` times in each way, in turn."""
    before = os.getloadavg()[0]
    result = Table(f"an iSCSI server with {LUNS} LUNs on two hosts at once", HEADS)
    with scratch() as directory, Lab() as lab, lab.network.entered():
        took = _measure(lab, directory, rounds)
    for ours, theirs in PAIRS.items():
        floor = median(took[theirs])
        for name in (theirs, ours):
            seconds = median(took[name])
            result.rows.append([name, str(rounds), f"{seconds:.2f}", f"{seconds / floor:.2f}"])
    result.notes = [
        "iscsiadm: discovery, CHAP by three updates, login; over ssh, until udev has settled; no multipath",
        "through the API: the same, each LUN asked whether it is there, a multipath map over each, rows",
        "the hosts are emulated guests of the lab",
        load_note(before),
    ]
    return result


def _measure(lab: Lab, directory: Path, rounds: int) -> dict[str, list[float]]:
    for fleet in run_fleet(lab, f"bench-{os.getpid()}", directory):
        return _rounds(lab, fleet, rounds)
    raise AssertionError("there is no fleet")


def _rounds(lab: Lab, fleet: Fleet, rounds: int) -> dict[str, list[float]]:
    admin, san = fleet.admin, lab.machine("san")
    guests = [lab.machine(name) for name in fleet.hosts]
    add_luns(san, range(storage.LUNS, LUNS))
    chap = {"chapUserName": storage.CHAP_USER, "chapUserPassword": storage.CHAP_PASSWORD}
    server = admin.create(SERVERS, ip=san.address, **chap)["uuid"]
    attached = f"/clusters/{fleet.cluster}{SERVERS}/{server}"
    ways: dict[str, Callable[[], object]] = {
        "iscsiadm --login": partial(_on_all, guests, _login(san)),
        "iscsiadm --rescan": partial(_on_all, guests, "iscsiadm -m session --rescan; udevadm settle"),
        "logout": partial(_on_all, guests, "iscsiadm -m node -u; iscsiadm -m node -o delete; sleep 1"),
        "AttachIscsiServerToCluster": lambda: made(run(admin, "POST", attached, {})),
        "RefreshIscsiServer": lambda: made(run(admin, "POST", f"{SERVERS}/{server}", {})),
        "DetachIscsiServerFromCluster": lambda: made(run(admin, "DELETE", attached, None)),
    }
    _on_all(guests, "systemctl start iscsid")
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.monotonic()
            way()
            took.setdefault(name, []).append(time.monotonic() - begin)
    return took


def _login(san: Guest) -> str:
    node = f"iscsiadm -m node -T {storage.TARGET} -p {san.address}"
    updates = [f"{node} -o update -n node.session.auth.{key} -v {value}" for key, value in AUTH.items()]
    discovery = f"iscsiadm -m discovery -t sendtargets -p {san.address}"
    wait = f"until {SEEN}; do sleep 0.1; done"
    return " && ".join([discovery, *updates, f"{node} --login", wait])


def _on_all(guests: list[Guest], script: str) -> None:
    with ThreadPoolExecutor(len(guests)) as pool:
        list(pool.map(lambda guest: guest.run(script, LIMIT_S), guests))
