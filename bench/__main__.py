"""`python -m bench` lists the measurements, `python -m bench jobs` runs one, `python -m bench all` all.

`python -m bench fleet=2000` runs one with another size: hosts of fleet and shell, rows of query and reads,
megabytes of images and ceph, rounds of vms, passthrough, iscsi and shared_block, events of hot_plug.
"""

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
    "images": "an image imported and exported, a volume moved, beside cp and qemu-img; deduplication",
    "ceph": "an image added to a Ceph pool, beside qemu-img convert; clones of it (root)",
    "vms": "a VM started and stopped through the API, beside virsh (root)",
    "add_host": "a bare guest of the lab is added, beside the bare ansible-playbook (root)",
    "hot_plug": "devices plugged into a guest of the lab, until the API shows them (root)",
    "passthrough": "a PCI function attached to a VM in the lab and detached, beside virsh (root)",
    "iscsi": "an iSCSI server with 8 LUNs on the lab's hosts: login and rescan, beside iscsiadm (root)",
    "shared_block": "a volume on a shared volume group in the lab, beside lvcreate and lvchange (root)",
}
SIZES = {
    "fleet": "hosts",
    "shell": "hosts",
    "query": "rows",
    "reads": "rows",
    "images": "megabytes",
    "ceph": "megabytes",
    "vms": "rounds",
    "hot_plug": "events",
    "passthrough": "rounds",
    "iscsi": "rounds",
    "shared_block": "rounds",
}
APART = ("ceph", "add_host", "hot_plug", "passthrough", "iscsi", "shared_block")
"""Not among all: they need Ceph's packages or the lab's guests, which take minutes to build (docs/lab.md)."""


def run(name: str, size: int | None = None) -> Table:
    """Return the table of one measurement."""
    given = {} if size is None else {SIZES[name]: size}
    table: Table = import_module(f"bench.{name}").table(**given)
    return table


def parse(words: list[str]) -> list[tuple[str, int | None]]:
    """Return measurements with their sizes. Raises ValueError when there is no such measurement or size."""
    wanted: list[tuple[str, int | None]] = []
    for word in words:
        name, equals, size = word.partition("=")
        if word == "all":
            wanted += [(each, None) for each in MEASUREMENTS if each not in APART]
        elif name not in MEASUREMENTS:
            raise ValueError(f"there is no {name!r}; choose from {', '.join([*MEASUREMENTS, 'all'])}")
        elif not equals:
            wanted.append((name, None))
        elif name not in SIZES:
            raise ValueError(f"{name} has no size; {', '.join(SIZES)} have one")
        elif not size.isdecimal() or int(size) < 1:
            raise ValueError(f"{size!r} is no number of {SIZES[name]}, as in {name}=200")
        else:
            wanted.append((name, int(size)))
    return wanted


def main(arguments: list[str]) -> int:
    """Print what was asked for; 2 when there is no such measurement."""
    if not arguments:
        width = max(map(len, MEASUREMENTS))
        for name, what in MEASUREMENTS.items():
            print(f"{name.ljust(width)}  {what}")
        print(f"{'all'.ljust(width)}  all of them but those with Ceph and in the lab, in about ten minutes")
        return 0
    try:
        wanted = parse(arguments)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(machine_line(), flush=True)
    for name, size in wanted:
        print(f"\n{run(name, size).text()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
