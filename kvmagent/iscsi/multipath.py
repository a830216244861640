"""Multipath for the LUNs of this host's iSCSI servers, by a drop-in of ours that names no other disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.runner import Completed
from agentkit.threads import in_thread
from kvmagent.iscsi.tools import Tools
from kvmagent.machine.luns import MultipathMap

log = logging.getLogger(__name__)

DROP_IN = "etc/multipath/conf.d/hardpoint.conf"
NO_PATH_RETRY = 12
"""So many checks, five seconds each unless configured otherwise, what is written waits for a path."""
_LIMIT_S = 30.0
_WWID = re.compile(r'wwid "([^"]+)"')
_MAIN = "# Some distributions start multipathd only where this file is. Settings are in conf.d.\n"


def drop_in(wwids: Sequence[str]) -> str:
    """Return multipath's configuration for LUNs: one keyword a line, as it wants it.

    All hosts of a cluster have a map under the same name, whatever names the host gives its other maps.
    """
    lines = [
        "# Written by the Hardpoint agent: the LUNs of this host's iSCSI servers, no other disk.",
        "# It is replaced when they change; put settings of your own into another file.",
        "multipaths {",
    ]
    for wwid in sorted(wwids):
        lines += [
            "\tmultipath {",
            f'\t\twwid "{wwid}"',
            f'\t\talias "{wwid}"',
            f"\t\tno_path_retry {NO_PATH_RETRY}",
            "\t}",
        ]
    return "\n".join([*lines, "}", ""])


class Multipath:
    """The multipath tools of the machine below `root`; where there are none, paths stay single disks."""

    def __init__(self, root: Path, tools: Tools) -> None:
        self._file = root / DROP_IN
        self._main = root / "etc/multipath.conf"
        self._tools = tools

    def there(self) -> bool:
        """Say whether the machine has multipath."""
        return self._tools.has("multipathd") and self._tools.has("multipath")

    async def know(self, wwids: Sequence[str], disks: Sequence[str]) -> None:
        """Have maps over these LUNs, and none of ours over others; `disks` are paths of new ones.

        Raises HardpointError (SYS.1006) when the configuration cannot be written or read.
        """
        if not self.there():
            return
        if not wwids and not self._file.exists():
            return
        text, known = drop_in(wwids), await in_thread(self._known, "multipath")
        if await in_thread(lambda: self._write(text), "multipath") or disks:
            await self._tools.start("multipathd")
            for disk in disks:
                # Where only known LUNs become maps, these are known from now on.
                await self._try("multipath", "-a", f"/dev/{disk}")
            (await self._tools.run("multipathd", "reconfigure", limit_s=_LIMIT_S)).check()
            for wwid in sorted(known - set(wwids)):
                # Last: multipathd remembers each LUN that it has made a map of, also as its paths go.
                await self._try("multipath", "-w", wwid)

    async def resize(self, one: MultipathMap) -> None:
        """Have a map be as large as its paths are by now."""
        await self._try("multipathd", "resize", "map", one.alias)

    async def flush(self, one: MultipathMap) -> None:
        """Write what is to be written and take a map away.

        Raises HardpointError (SYS.1006) while something has it open.
        """
        if not one.paths:
            # Else what waits for a path would hold up the end of the map for ever.
            await self._try("multipathd", "disablequeueing", "map", one.alias)
        await self._try("blockdev", "--flushbufs", f"/dev/{one.name}")
        completed = await self._tools.run("multipath", "-f", one.alias, limit_s=_LIMIT_S)
        if completed.returncode != 0:
            said = (completed.stdout + completed.stderr).decode(errors="replace").strip()
            raise HardpointError(
                "SYS.1006",
                "Operation failed",
                f"the map {one.alias} was not removed: {' '.join(said.split()) or 'it is in use'}",
                remedy="stop what uses the disk, such as a VM or a volume group, first",
            )

    async def restore(self) -> None:
        """Have maps again that were taken away."""
        await self._try("multipathd", "reconfigure")

    def _known(self) -> set[str]:
        """Return the LUNs of the drop-in as it is."""
        return set(_WWID.findall(self._file.read_text())) if self._file.exists() else set()

    def _write(self, text: str) -> bool:
        """Write the drop-in; say whether it was another one."""
        try:
            if self._file.exists() and self._file.read_text() == text:
                return False
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if not self._main.exists():
                self._main.write_text(_MAIN)
            new = self._file.with_suffix(".new")  # multipath reads what ends in .conf
            new.write_text(text)
            new.chmod(0o644)
            new.replace(self._file)
        except OSError as error:
            details = f"{self._file} cannot be written: {error.strerror}"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy="make room there") from error
        return True

    async def _try(self, program: str, *arguments: str) -> Completed | None:
        try:
            completed = await self._tools.run(program, *arguments, limit_s=_LIMIT_S)
        except HardpointError as error:
            log.warning("not done", extra={"program": program, "reason": error.details})
            return None
        if completed.returncode != 0:
            log.info("not done", extra={"argv": completed.argv, "code": completed.returncode})
        return completed
