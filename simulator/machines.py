"""The recorded machines that simulated hosts are made of, by name; each is read once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from agentkit.errors import Blame, HardpointError
from kvmagent.inventory import take_inventory
from kvmagent.protocol import Inventory
from kvmagent.record import unpack

SUFFIX = ".tar.xz"
DEFAULT = "four-socket-2013"
_HERE = Path(__file__).parent
_SHIPPED = (_HERE / "machines", _HERE.parent / "tests" / "machines")
"""Where recordings are in an installation, and in a checkout."""


class Machines:
    """Recordings below `directory`, and those that come with Hardpoint."""

    def __init__(self, directory: Path) -> None:
        self._places = (directory, *_SHIPPED)
        self._read: dict[str, Inventory] = {}

    def names(self) -> list[str]:
        """Return the names that there are."""
        return sorted(
            {path.name.removesuffix(SUFFIX) for place in self._places for path in place.glob(f"*{SUFFIX}")}
        )

    def inventory(self, name: str) -> Inventory:
        """Return what was recorded. Raises HardpointError (SYS.1007) when there is no such recording."""
        if name not in self._read:
            self._read[name] = _inventory(self._find(name))
        return self._read[name]

    def _find(self, name: str) -> Path:
        if name in self.names():
            return next(path for place in self._places if (path := place / f"{name}{SUFFIX}").exists())
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"there is no recorded machine {name!r}",
            remedy=f"choose from {', '.join(self.names())}, or put {name}{SUFFIX} into {self._places[0]}",
            blame=Blame.CALLER,
        )


def _inventory(recording: Path) -> Inventory:
    with tempfile.TemporaryDirectory(prefix="hardpoint-machine-") as directory:
        unpack(recording, Path(directory))
        return take_inventory(directory)
