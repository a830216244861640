"""IOMMU groups, and whether the running kernel has an IOMMU that was asked for."""

from __future__ import annotations

from kvmagent.machine.tree import Tree

ACTIVE = "Active"
INACTIVE = "Inactive"
GROUPS = "/sys/kernel/iommu_groups"
_BY_TABLE = {"DMAR": "intel_iommu", "IVRS": "amd_iommu"}
"""ACPI tables that describe an IOMMU, by the kernel's option for it."""
_BY_VENDOR = {
    "GenuineIntel": "intel_iommu",
    "CentaurHauls": "intel_iommu",
    "AuthenticAMD": "amd_iommu",
    "HygonGenuine": "amd_iommu",
}


def iommu_groups(tree: Tree) -> dict[str, list[str]]:
    """Return the PCI addresses (or names of other devices) in each group, by the group's path."""
    numbers = sorted((name for name in tree.names(GROUPS) if name.isdigit()), key=int)
    return {f"{GROUPS}/{number}": tree.names(f"{GROUPS}/{number}/devices") for number in numbers}


def iommu_option(tree: Tree, cpu_vendor: str) -> str | None:
    """Return the kernel option that asks for the machine's IOMMU, None where there is nothing to ask for.

    The firmware's tables decide where there are any: a virtual machine may have an AMD processor and an Intel
    IOMMU. Otherwise the processor's maker does.
    """
    for table, option in _BY_TABLE.items():
        if tree.exists(f"/sys/firmware/acpi/tables/{table}"):
            return option
    return _BY_VENDOR.get(cpu_vendor)


def iommu_status(tree: Tree, cpu_vendor: str) -> str:
    """Return `Active` or `Inactive`.

    Active takes an IOMMU that the kernel drives and, on x86, a command line that asks for it; other
    architectures have nothing to ask for.
    """
    if not tree.names("/sys/class/iommu"):
        return INACTIVE
    option = iommu_option(tree, cpu_vendor)
    return ACTIVE if option is None or asked_for(tree.text("/proc/cmdline") or "", option) else INACTIVE


def asked_for(command_line: str, option: str) -> bool:
    """Say whether the last word on the matter is on: later options override earlier ones."""
    wanted = False
    for word in command_line.split():
        key, _, value = word.partition("=")
        if key == option:
            words = value.split(",")
            wanted = "on" in words or (wanted and "off" not in words)
    return wanted
