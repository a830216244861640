"""`python -m bench` lists the measurements, `python -m bench jobs` runs one, `python -m bench all` all."""

from __future__ import annotations

import sys
from importlib import import_module

from bench.common import Table, machine_line

MEASUREMENTS = {
    "jobs": "durable jobs a second, beside DBOS and beside bare sqlite3",
    "reads": "GET of one inventory and of 1,000 among 100,000, beside aiohttp that returns the same bytes",
    "query": "lists of 100 among a million hosts by field, join and tag, beside the plain SELECT",
    "agent": "memory and start time of the KVM agent, beside an empty aiohttp server",
    "fleet": "10,000 simulated hosts: start to all connected, idle cost, beside bare asyncio readers",
    "inventory": "kvmagent inventory, beside lspci and lsusb",
    "shell": "a script on 100 hosts over SSH, beside clush and ansible",
}


def run(name: str) -> Table:
    """Return the table of one measurement."""
    table: Table = import_module(f"bench.{name}").table()
    return table


def main(arguments: list[str]) -> int:
    """Print what was asked for; 2 when there is no such measurement."""
    if not arguments:
        width = max(map(len, MEASUREMENTS))
        for name, what in MEASUREMENTS.items():
            print(f"{name.ljust(width)}  {what}")
        print(f"{'all'.ljust(width)}  all of them, in about ten minutes")
        return 0
    names = list(MEASUREMENTS) if arguments == ["all"] else arguments
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        known = ", ".join([*MEASUREMENTS, "all"])
        print(f"bench: there is no {unknown[0]!r}; choose from {known}", file=sys.stderr)
        return 2
    print(machine_line(), flush=True)
    for name in names:
        print(f"\n{run(name).text()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
