"""A guest that starts with its own boot loader, as a real machine does, and one with virtual functions."""

from __future__ import annotations

from tests.lab.lab import Lab
from tests.lab.machine import GRUB, Start

UPDATE_GRUB_TIMEOUT_S = 180.0
GROUPS = "ls /sys/kernel/iommu_groups"


def test_a_changed_kernel_command_line_takes_effect_at_the_next_boot(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1", Start(loader=GRUB))
    assert "intel_iommu" not in kvm1.run("cat /proc/cmdline")
    assert len(kvm1.run(GROUPS).split()) > 5  # Debian's kernel turns the IOMMU on unless it is told not to
    kvm1.run("mkdir -p /etc/default/grub.d")
    kvm1.write("/etc/default/grub.d/test.cfg", 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=off"')
    kvm1.run("update-grub", UPDATE_GRUB_TIMEOUT_S)
    kvm1.reboot()
    assert "intel_iommu=off" in kvm1.run("cat /proc/cmdline").split()
    assert kvm1.run(GROUPS).split() == []


def test_an_nvme_disk_has_virtual_functions_with_groups_of_their_own(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1", Start(sriov=True))
    kvm1.wait_for("[ -e /sys/bus/pci/devices/0000:02:00.0/driver ]")
    kvm1.run("echo 2 >/sys/bus/pci/devices/0000:02:00.0/sriov_numvfs")
    functions = kvm1.run("for f in /sys/bus/pci/devices/0000:02:00.0/virtfn*; do readlink $f; done").split()
    assert len(functions) == 2
    devices = [f"/sys/bus/pci/devices/{path.removeprefix('../')}" for path in functions]
    assert len({kvm1.run(f"readlink {device}/iommu_group") for device in devices}) == 2
