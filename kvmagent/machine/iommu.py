"""IOMMU groups, and whether the running kernel has an IOMMU that was asked for."""

from __future__ import annotations

from kvmagent.machine.tree import Tree

ACTIVE = "Active"
INACTIVE = "Inactive"
GROUPS = "/sys/kernel/iommu_groups"
_OPTIONS = {
    "GenuineIntel": ("intel_iommu",),
    "CentaurHauls": ("intel_iommu",),
    "AuthenticAMD": ("amd_iommu",),
    "HygonGenuine": ("amd_iommu",),
}


def iommu_groups(tree: Tree) -> dict[str, list[str]]:
    """Return the PCI addresses (or names of other devices) in each group, by the group's path."""
    numbers = sorted((name for name in tree.names(GROUPS) if name.isdigit()), key=int)
    return {f"{GROUPS}/{number}": tree.names(f"{GROUPS}/{number}/devices") for number in numbers}


def iommu_status(tree: Tree, cpu_vendor: str) -> str:
    """Return `Active` or `Inactive`.

    Active takes an IOMMU that the kernel drives and, on x86, a command line that asks for it; other
    architectures have nothing to ask for.
    """
    if not tree.names("/sys/class/iommu"):
        return INACTIVE
    options = _OPTIONS.get(cpu_vendor)
    return ACTIVE if options is None or _asked_for(tree.text("/proc/cmdline") or "", options) else INACTIVE


def _asked_for(command_line: str, options: tuple[str, ...]) -> bool:
    """Say whether the last word on the matter is on: later options override earlier ones."""
    wanted = False
    for word in command_line.split():
        key, _, value = word.partition("=")
        if key in options:
            words = value.split(",")
            wanted = "on" in words or (wanted and "off" not in words)
    return wanted
