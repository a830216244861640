"""A PCI function given to a running VM and taken back through the API, beside virsh with the same device."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.common import Table, load_note, median, scratch
from kvmagent.vms.keeper import ASK_AGAIN_S
from tests.lab.calls import added, made, run
from tests.lab.guest import Guest
from tests.lab.hosts import run_fleet
from tests.lab.lab import Lab
from tests.lab.nested import Nested
from tests.lab.places import LabError

ROUNDS = 5
LIMIT_S = 300.0
DETACHING = ("virsh detach-device", "DetachPciDeviceFromVm")
HEADS = ("what", "rounds", "median s", "x virsh")
NIC, NODE, IDS = "0000:01:00.0", "pci_0000_01_00_0", "0x8086:0x10d3"
XML = """<hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/>
<source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>
"""


def table(rounds: int = ROUNDS) -> Table:
    """Attach and detach a network card `rounds` times in each way, in turn."""
    before = os.getloadavg()[0]
    result = Table("a PCI function attached to a running VM, and detached", HEADS)
    with scratch() as directory, Lab() as lab, lab.network.entered():
        took = _measure(lab, directory, rounds)
    for ours, theirs in (
        ("AttachPciDeviceToVm", "virsh attach-device"),
        ("DetachPciDeviceFromVm", "virsh detach-device"),
    ):
        floor = median(took[theirs])
        for name in (theirs, ours):
            seconds = median(took[name])
            result.rows.append([name, str(rounds), f"{seconds:.2f}", f"{seconds / floor:.2f}"])
    result.notes = [
        "until the call has ended and the host's driver has the card again; virsh: managed='yes', over ssh",
        "through the API: the whole machine is read and planned, the claim is written, drivers are changed",
        "the host is an emulated guest of the lab, the VM runs under its KVM",
        load_note(before),
    ]
    return result


def _measure(lab: Lab, directory: Path, rounds: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    for fleet in run_fleet(lab, f"bench-{os.getpid()}", directory):
        admin, guest = fleet.admin, lab.machine("kvm1")
        vm = Nested.make(fleet, guest, added(admin, fleet.cluster, "local-storage", "/srv/local"))
        (device,) = admin.query(
            "/pci-device/pci-devices", f"hostUuid={fleet.hosts['kvm1']}", f"pciDeviceAddress={NIC}"
        )
        path, body = f"/pci-device/pci-devices/{device['uuid']}", {"params": {"vmInstanceUuid": vm.uuid}}
        guest.write("/root/nic.xml", XML)
        made(vm.start())
        vm.wait_for("PCI:")
        has_it = f"[ -e /sys/bus/pci/drivers/e1000e/{NIC} ]"

        virsh = f"virsh {{}}-device {vm.uuid} /root/nic.xml"
        ways: dict[str, Callable[[], object]] = {
            "virsh attach-device": partial(guest.run, virsh.format("attach"), LIMIT_S),
            "virsh detach-device": partial(guest.run, virsh.format("detach"), LIMIT_S),
            "AttachPciDeviceToVm": partial(run, admin, "POST", f"{path}/attach", body),
            "DetachPciDeviceFromVm": partial(run, admin, "POST", f"{path}/detach", body),
        }
        for _ in range(rounds):
            for name, way in ways.items():
                begin = time.monotonic()
                way()
                if name == "virsh detach-device":
                    _until_gone(guest, way, has_it)
                elif name in DETACHING:
                    guest.wait_for(has_it, LIMIT_S)
                took.setdefault(name, []).append(time.monotonic() - begin)
                (vm.wait_without if name in DETACHING else vm.wait_for)(IDS)
                if name == "DetachPciDeviceFromVm":
                    # libvirt was not told to manage the card, and would keep it from the host for ever
                    guest.run(f"virsh nodedev-reattach {NODE}", LIMIT_S)
    return took


def _until_gone(guest: Guest, again: Callable[[], object], has_it: str) -> None:
    """Ask again as an operator does: virsh asks once, and a guest that is busy loses the request."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        with contextlib.suppress(LabError):
            guest.wait_for(has_it, ASK_AGAIN_S)
            return
        with contextlib.suppress(LabError):
            again()
    raise LabError(f"the VM has not let go of {NIC} within {LIMIT_S:g} s")
