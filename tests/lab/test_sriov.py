"""A guest whose NVMe disk has virtual functions."""

from __future__ import annotations

from tests.lab.lab import Lab
from tests.lab.machine import Start


def test_an_nvme_disk_has_virtual_functions_with_groups_of_their_own(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1", Start(sriov=True))
    kvm1.wait_for("[ -e /sys/bus/pci/devices/0000:02:00.0/driver ]")
    kvm1.run("echo 2 >/sys/bus/pci/devices/0000:02:00.0/sriov_numvfs")
    functions = kvm1.run("for f in /sys/bus/pci/devices/0000:02:00.0/virtfn*; do readlink $f; done").split()
    assert len(functions) == 2
    devices = [f"/sys/bus/pci/devices/{path.removeprefix('../')}" for path in functions]
    assert len({kvm1.run(f"readlink {device}/iommu_group") for device in devices}) == 2
