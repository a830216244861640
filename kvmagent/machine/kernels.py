"""The installed kernels, and whether a newer one than the running one is among them."""

from __future__ import annotations

import re

from kvmagent.machine.tree import Tree

MODULES = "/lib/modules"


def installed_kernels(tree: Tree) -> list[tuple[str, str]]:
    """Return the installed kernels: version and image."""
    found = []
    for version in tree.names(MODULES):
        images = (f"{MODULES}/{version}/vmlinuz", f"/boot/vmlinuz-{version}")
        image = next((path for path in images if tree.exists(path)), None)
        if image:
            found.append((version, image))
    return found


def newer_kernel(tree: Tree) -> str | None:
    """Return the newest installed kernel of the running one's flavour, None when that is the running one."""
    running = tree.text("/proc/sys/kernel/osrelease")
    if running is None:
        return None
    flavour = _flavour(running)
    alike = [version for version, _ in installed_kernels(tree) if _flavour(version) == flavour]
    newest = max(alike, key=_order, default=running)
    return newest if _order(newest) > _order(running) else None


def _flavour(version: str) -> list[str]:
    """Return what tells `6.1.0-9-cloud-amd64` from `6.1.0-10-amd64`, whatever their numbers."""
    return re.findall(r"[A-Za-z]{2,}", version)


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
