"""Where a device sits: its way from a PCI root, named so that it outlives a renumbering of the buses."""

from __future__ import annotations

import re

from kvmagent.machine.tree import Tree

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_PCI_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_DEVICES = "/sys/devices/"


def pci_chain(path: str) -> list[str]:
    """Return the PCI addresses in a path below /sys/devices: the root port first, the function last."""
    return [part for part in path.split("/") if PCI_ADDRESS.fullmatch(part)]


def pci_address_of(path: str | None) -> str | None:
    """Return the address of the PCI function that a path below /sys/devices hangs on."""
    chain = pci_chain(path or "")
    return chain[-1] if chain else None


class Locations:
    """Names places in a tree; remembers what it read, so it serves one reading of the machine."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._steps: dict[str, str] = {}
        self._roots: dict[str, str] = {}

    def name(self, path: str) -> str:
        """Return the bridge path to a PCI function's directory below /sys/devices.

        It is the root's name and, for each bridge down from it, device.function and vendor:device ids:
        `\\_SB_.PCI0/03.0-8086:3408`. No bus number is in it.
        """
        parts = path.split("/")
        steps: list[str] = []
        for index, part in enumerate(parts):
            prefix = "/".join(parts[: index + 1])
            if not steps and _PCI_ROOT.fullmatch(part):
                steps.append(self._root(prefix))
            elif PCI_ADDRESS.fullmatch(part):
                steps.append(self._step(prefix, part))
        return "/".join(steps)

    def _step(self, path: str, address: str) -> str:
        if path not in self._steps:
            ids = [self._tree.text(f"{path}/{name}") or "" for name in ("vendor", "device")]
            shown = ":".join(value.removeprefix("0x").lower() for value in ids)
            self._steps[path] = f"{address.rpartition(':')[2]}-{shown}"
        return self._steps[path]

    def _root(self, path: str) -> str:
        """Return the firmware's name of a host bridge, else its place in the tree without bus numbers."""
        if path not in self._roots:
            self._roots[path] = self._tree.text(f"{path}/firmware_node/path") or self._ordinal(path)
        return self._roots[path]

    def _ordinal(self, path: str) -> str:
        parent, _, name = path.rpartition("/")
        roots = [sibling for sibling in self._tree.names(parent) if _PCI_ROOT.fullmatch(sibling)]
        where = f"{parent}/".removeprefix(_DEVICES)
        return f"{where}root{roots.index(name) if name in roots else 0}"
