"""`kvmagent inventory` beside lspci and lsusb, and what reading a machine takes by itself."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import REPOSITORY, Table, environment, load_note, median, percentile, scratch
from kvmagent.inventory import read_machine
from kvmagent.machine.tree import Tree
from kvmagent.record import unpack

HEADS = ("what", "median ms", "p90 ms", "least ms", "x lspci+lsusb")
PEER = "lspci -vmm, lsusb -v"
TOOLS = ("lspci", "lsusb")


@dataclass(frozen=True)
class Contender:
    """Commands that run one after the other; together they are one measurement."""

    name: str
    commands: tuple[tuple[str, ...], ...]


def table(rounds: int = 25, readings: int = 25) -> Table:
    """Run the commands in turn, read the recorded machines, return the figures."""
    before = os.getloadavg()[0]
    agent = (sys.executable, "-m", "kvmagent", "inventory")
    contenders = [
        Contender("kvmagent inventory --only pci,usb", ((*agent, "--only", "pci,usb"),)),
        Contender("kvmagent inventory", (agent,)),
        Contender(PEER, (("lspci", "-vmm"), ("lsusb", "-v"))),
        Contender("python -c pass", ((sys.executable, "-c", "pass"),)),
        Contender("python -c 'import msgspec'", ((sys.executable, "-c", "import msgspec"),)),
    ]
    has_tools = all(shutil.which(tool) for tool in TOOLS)
    if not has_tools:
        contenders = [c for c in contenders if c.name != PEER]
    times: dict[str, list[float]] = defaultdict(list)
    for contender in contenders:
        _run(contender)
    for _, contender in itertools.product(range(rounds), contenders):
        times[contender.name].append(_timed_ms(functools.partial(_run, contender)))
    result = Table("the inventory of a machine", HEADS)
    peer = median(times.get(PEER, ()))
    result.rows = [_row(name, found, peer) for name, found in times.items()]
    result.rows += _in_process(readings, peer)
    result.notes = [
        f"{rounds} runs of each command, in turn, output to /dev/null; {readings} readings in one process",
        "in process: read_machine of a recorded machine, all sections, a new Tree each time",
        load_note(before),
    ]
    if not has_tools:
        result.notes.append("lspci and lsusb are left out: they are not installed (pciutils, usbutils)")
    return result


def _run(contender: Contender) -> None:
    for command in contender.commands:
        # lsusb fails where there is no USB at all; it has looked all the same.
        subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
            cwd=REPOSITORY,
            check=command[0] == sys.executable,
        )


def _timed_ms(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return (time.perf_counter() - begin) * 1000


def _in_process(readings: int, peer: float) -> list[list[str]]:
    rows = []
    with scratch() as directory:
        for archive in sorted((REPOSITORY / "tests" / "machines").glob("*.tar.xz")):
            name = archive.name.removesuffix(".tar.xz")
            unpack(archive, directory / name)
            rows.append(_reading(f"in process: {name}", directory / name, readings, peer))
    rows.append(_reading("in process: this machine", Path("/"), readings, peer))
    return rows


def _reading(name: str, root: Path, readings: int, peer: float) -> list[str]:
    read_machine(Tree(root))
    return _row(name, [_timed_ms(lambda: read_machine(Tree(root))) for _ in range(readings)], peer)


def _row(name: str, times: Sequence[float], peer: float) -> list[str]:
    ratio = f"{median(times) / peer:.2f}" if peer else "-"
    return [name, f"{median(times):.1f}", f"{percentile(times, 90):.1f}", f"{min(times):.1f}", ratio]
