"""Watches throughout a module that no logical volume is one host's alone and another one's too."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from tests.lab.guest import Guest

ALONE, SHARED = "alone", "shared"
SLACK_S = 1.0
"""So late may a line be that a guest has printed."""
_BEGIN, _END = "begin", "end"
_LOOK = "sanlock client status 2>/dev/null | grep '^r lvm_'"
_SCRIPT = f"while :; do echo {_BEGIN}; {_LOOK}; echo {_END}; sleep 1; done"
_RESOURCE = re.compile(r"r lvm_\S+?:([\w-]{38}):\S+:(SH|\d+) p \d+( ORPHAN)?")
"""One that is being asked for ends with ADD, one that is given back with REM."""


class Sample(NamedTuple):
    """The locks that a host holds of logical volumes, by those; read between the two times (seconds)."""

    begun: float
    ended: float
    locks: Mapping[str, str]


def locks(lines: Sequence[str]) -> dict[str, str]:
    """Return what the lines of `sanlock client status` say."""
    found = filter(None, map(_RESOURCE.fullmatch, map(str.strip, lines)))
    return {each[1]: SHARED if each[2] == "SH" else ALONE for each in found}


def conflicts(one: Sequence[Sample], other: Sequence[Sample]) -> list[str]:
    """Return the volumes that a host was seen to have while the other one had them alone."""
    return [
        f"{lv} at {seen.begun:.0f} s"
        for holder, visitor in ((one, other), (other, one))
        for lv, begin, end in _alone(holder)
        for seen in visitor
        if begin + SLACK_S <= seen.begun and seen.ended <= end - SLACK_S and lv in seen.locks
    ]


def _alone(samples: Sequence[Sample]) -> Iterator[tuple[str, float, float]]:
    """Yield volumes with the times between which a host had them alone."""
    since: dict[str, float] = {}
    end = 0.0
    for sample in samples:
        mine = {lv for lv, how in sample.locks.items() if how == ALONE}
        for lv in since.keys() - mine:
            yield lv, since.pop(lv), end
        for lv in mine - since.keys():
            since[lv] = sample.ended
        end = sample.begun
    for lv, begin in since.items():
        yield lv, begin, end


class LockWatch:
    """Reads the locks of a host about every second until its guest is gone or the watch is closed."""

    def __init__(self, guest: Guest) -> None:
        argv = [*guest.ssh_argv("-oControlMaster=no", "-oControlPath=none"), _SCRIPT]
        self.samples: list[Sample] = []
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None:
            raise AssertionError("ssh has no output")
        self._thread = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, output: IO[str]) -> None:
        lines: list[str] = []
        begun = time.monotonic()
        for line in output:
            if line.strip() == _BEGIN:
                lines, begun = [], time.monotonic()
            elif line.strip() == _END:
                self.samples.append(Sample(begun, time.monotonic(), locks(lines)))
            else:
                lines.append(line)

    def close(self) -> None:
        """End the watch."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
