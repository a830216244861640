"""Names of PCI vendors, devices and classes from pci.ids, found by searching its bytes: nothing is parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kvmagent.machine.tree import Tree

PLACES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
_NEXT_SECTION = re.compile(rb"\n[^\t#\n]")


class PciIds:
    """A pci.ids file's content, which begins with a comment; all ids are lower-case hex digits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._sections: dict[str, tuple[int, int] | None] = {}

    def vendor(self, vendor: str) -> str | None:
        """Return a vendor's name."""
        return self._title(vendor)

    def device(self, vendor: str, device: str) -> str | None:
        """Return a device's name."""
        return self._entry(vendor, device)

    def class_name(self, class_code: str) -> str | None:
        """Return the name of a class code's subclass, else of its base class, as lspci does."""
        base = f"C {class_code[:2]}"
        return self._entry(base, class_code[2:4]) or self._title(base)

    def subset(self, devices: Iterable[tuple[str, str]], classes: Iterable[str]) -> bytes:
        """Return a small pci.ids that has the same names for `(vendor, device)` pairs and class codes."""
        wanted: dict[str, set[str]] = {}
        for vendor, device in devices:
            wanted.setdefault(vendor, set()).add(device)
        for code in classes:
            wanted.setdefault(f"C {code[:2]}", set()).add(code[2:4])
        lines = ["# The part of pci.ids that one machine needs\n"]
        for section in sorted(wanted, key=lambda key: (key.startswith("C "), key)):
            if title := self._title(section):
                lines.append(f"{section}  {title}\n")
                entries = ((entry, self._entry(section, entry)) for entry in sorted(wanted[section]))
                lines += [f"\t{entry}  {name}\n" for entry, name in entries if name]
        return "".join(lines).encode()

    def _span(self, section: str) -> tuple[int, int] | None:
        if section not in self._sections:
            # Classes are the last few kilobytes of more than a megabyte.
            search = self._data.rfind if section.startswith("C ") else self._data.find
            start = search(f"\n{section}  ".encode())
            if start < 0:
                self._sections[section] = None
            else:
                end = _NEXT_SECTION.search(self._data, start + 1)
                self._sections[section] = start, end.start() + 1 if end else len(self._data)
        return self._sections[section]

    def _title(self, section: str) -> str | None:
        span = self._span(section)
        return self._rest_of_line(span[0] + len(section) + 3) if span else None

    def _entry(self, section: str, entry: str) -> str | None:
        span = self._span(section)
        mark = f"\n\t{entry}  ".encode()
        at = self._data.find(mark, *span) if span else -1
        return self._rest_of_line(at + len(mark)) if at >= 0 else None

    def _rest_of_line(self, start: int) -> str:
        end = self._data.find(b"\n", start)
        return self._data[start : end if end >= 0 else None].decode("utf-8", "replace").strip()


def load(tree: Tree) -> PciIds:
    """Return the machine's pci.ids, an empty one when it has none."""
    for place in PLACES:
        data = tree.bytes(place)
        if data:
            return PciIds(data)
    return PciIds(b"")
