"""A guest that starts with its own boot loader, as a real machine does, and one with virtual functions."""

from __future__ import annotations

from tests.lab.lab import Lab
from tests.lab.machine import GRUB, Start

UPDATE_GRUB_TIMEOUT_S = 120.0


def test_a_changed_kernel_command_line_takes_effect_at_the_next_boot(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1", Start(loader=GRUB))
    assert "intel_iommu" not in kvm1.run("cat /proc/cmdline")
    assert kvm1.run("ls /sys/kernel/iommu_groups").strip() == ""
    kvm1.run("mkdir -p /etc/default/grub.d")
    kvm1.write("/etc/default/grub.d/test.cfg", 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on"')
    kvm1.run("update-grub", UPDATE_GRUB_TIMEOUT_S)
    kvm1.reboot()
    assert "intel_iommu=on" in kvm1.run("cat /proc/cmdline")
    assert len(kvm1.run("ls /sys/kernel/iommu_groups").split()) > 5


def test_an_nvme_disk_has_virtual_functions_with_groups_of_their_own(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1", Start(sriov=True))
    kvm1.run("echo 2 >/sys/bus/pci/devices/0000:02:00.0/sriov_numvfs")
    functions = kvm1.run("readlink /sys/bus/pci/devices/0000:02:00.0/virtfn*").split()
    assert len(functions) == 2
    devices = [f"/sys/bus/pci/devices/{path.removeprefix('../')}" for path in functions]
    assert len({kvm1.run(f"readlink {device}/iommu_group") for device in devices}) == 2
