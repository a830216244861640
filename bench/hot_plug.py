"""Devices plugged into a guest of the lab and unplugged by QMP: how long until the API shows it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from bench.common import Table, load_note, median, percentile, scratch
from tests.lab.hosts import add_host, make_cluster
from tests.lab.hot_plug import pci_card_comes_and_goes, usb_disk_comes_and_goes
from tests.lab.lab import Lab
from tests.node import run_node

EVENTS = 20
GUEST = "kvm1"
HEADS = ("from QMP to the API", "events", "p50 ms", "p95 ms", "most ms")
KINDS = {"USB disk": usb_disk_comes_and_goes, "PCI card": pci_card_comes_and_goes}


def table(events: int = EVENTS) -> Table:
    """Add a guest as a host, then plug and unplug each kind of device `events` times, in turn."""
    before = os.getloadavg()[0]
    result = Table("hot-plugged devices in the API", HEADS)
    with scratch() as directory, Lab() as lab, lab.network.entered():
        guest = lab.guest(GUEST)
        with contextlib.contextmanager(run_node)(directory / "state") as node:
            admin = node.rest().logged_in()
            host = str(add_host(admin, make_cluster(admin), guest)["uuid"])
            found = {
                kind: [comes_and_goes(guest, admin, host) for _ in range(events)]
                for kind, comes_and_goes in KINDS.items()
            }
    for kind, seconds in found.items():
        result.rows.append(_row(f"{kind} plugged", [each.came for each in seconds]))
        result.rows.append(_row(f"{kind} unplugged", [each.went for each in seconds]))
    result.notes = [
        "plugged: from QMP's answer to device_add; unplugged: from its event that the guest has let go",
        "the API is asked every 20 ms; the guest is emulated (TCG), its kernel's own time is in all figures",
        load_note(before),
    ]
    return result


def _row(what: str, seconds: Sequence[float]) -> list[str]:
    times = [median(seconds), percentile(seconds, 95), max(seconds)]
    return [what, str(len(seconds)), *(f"{time * 1000:.0f}" for time in times)]
