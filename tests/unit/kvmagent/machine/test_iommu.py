import pytest

from kvmagent.machine.iommu import iommu_groups, iommu_status
from kvmagent.machine.tree import Tree


@pytest.mark.parametrize(
    ("vendor", "command_line", "driven", "status"),
    [
        ("GenuineIntel", "root=/dev/sda1 intel_iommu=on quiet", True, "Active"),
        ("GenuineIntel", "intel_iommu=on,sm_on", True, "Active"),
        ("GenuineIntel", "intel_iommu=on", False, "Inactive"),
        ("GenuineIntel", "quiet", True, "Inactive"),
        ("GenuineIntel", "amd_iommu=on", True, "Inactive"),
        ("GenuineIntel", "intel_iommu=on intel_iommu=off", True, "Inactive"),
        ("AuthenticAMD", "amd_iommu=on iommu=pt", True, "Active"),
        ("HygonGenuine", "amd_iommu=on", True, "Active"),
        ("AuthenticAMD", "intel_iommu=on", True, "Inactive"),
        ("0x41", "", True, "Active"),
        ("0x41", "", False, "Inactive"),
    ],
)
def test_active_takes_a_driven_iommu_that_was_asked_for(
    machine, vendor, command_line, driven, status
) -> None:
    machine.write("/proc/cmdline", command_line + "\n")
    if driven:
        machine.write("/sys/class/iommu/dmar0/intel-iommu/version", "1:0\n")
    assert iommu_status(Tree(machine.root), vendor) == status


@pytest.mark.parametrize(
    ("table", "vendor", "command_line", "status"),
    [
        ("DMAR", "AuthenticAMD", "intel_iommu=on", "Active"),
        ("DMAR", "AuthenticAMD", "amd_iommu=on", "Inactive"),
        ("IVRS", "GenuineIntel", "amd_iommu=on", "Active"),
        ("IVRS", "0x41", "intel_iommu=on", "Inactive"),
    ],
)
def test_the_firmware_says_which_iommu_there_is_whatever_the_processor(
    machine, table, vendor, command_line, status
) -> None:
    machine.write(f"/sys/firmware/acpi/tables/{table}", b"\0")
    machine.write("/proc/cmdline", command_line + "\n")
    machine.write("/sys/class/iommu/dmar0/intel-iommu/version", "1:0\n")
    assert iommu_status(Tree(machine.root), vendor) == status


def test_groups_list_their_members_in_order(machine) -> None:
    for group, address in (("10", "0000:02:00.0"), ("2", "0000:01:00.1"), ("2", "0000:01:00.0")):
        machine.link(f"/sys/kernel/iommu_groups/{group}/devices/{address}", f"../../../../devices/{address}")
    assert list(iommu_groups(Tree(machine.root)).items()) == [
        ("/sys/kernel/iommu_groups/2", ["0000:01:00.0", "0000:01:00.1"]),
        ("/sys/kernel/iommu_groups/10", ["0000:02:00.0"]),
    ]


def test_a_machine_without_groups_has_none(machine) -> None:
    assert iommu_groups(Tree(machine.root)) == {}
