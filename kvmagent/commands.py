"""The commands that look at a machine: `inventory` and `record`.

Modules are imported where they are needed, pathlib not at all: most of what `inventory` takes is imports.
"""

# ruff: noqa: PTH110, PTH112, PTH113, PTH118
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentkit.errors import Blame, HardpointError

if TYPE_CHECKING:
    from kvmagent.machine.network import Netlink

EXIT_FAILED = 2
SECTIONS = ("facts", "pci", "usb", "block", "network")


def main(argv: list[str]) -> int:
    """Run a command; return the exit status: 0, or 2 with one line on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        return _inventory(arguments) if arguments.command == "inventory" else _record(arguments)
    except HardpointError as error:
        remedy = f" {error.remedy}" if error.remedy else ""
        print(f"kvmagent: {error.details}{remedy}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # Somebody's `head` has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _HelpFormatter(argparse.HelpFormatter):
    """Knows the width: argparse asks shutil for it, help or no help, and that imports three compressors."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=(_width() or 80) - 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvmagent", description="The Hardpoint agent of a KVM host.", formatter_class=_HelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    inventory = commands.add_parser(
        "inventory", help="say what hardware the machine has", formatter_class=_HelpFormatter
    )
    inventory.add_argument("--json", action="store_true", help="print what the management node would get")
    inventory.add_argument("--root", default="/", help="a directory with /sys and /proc, or a recording")
    inventory.add_argument("--only", default="", metavar="LIST", help=f"some of {','.join(SECTIONS)}")
    record = commands.add_parser(
        "record",
        help="write a recording of the machine for tests and bug reports",
        formatter_class=_HelpFormatter,
    )
    record.add_argument("file", metavar="FILE", help="where to write it, a .tar.xz")
    record.add_argument("--root", default="/", help="record the machine below this directory")
    record.add_argument(
        "--keep-identity", action="store_true", help="keep serial numbers, MAC addresses and the machine id"
    )
    commands.add_parser("serve", help="run the daemon", add_help=False)
    return parser


def _inventory(arguments: argparse.Namespace) -> int:
    from kvmagent.inventory import hash_of, read_machine

    sections = _sections(arguments.only)
    with _root(arguments.root) as root:
        inventory = read_machine(root, _netlink(root, sections), sections)
    if arguments.json:
        import msgspec

        inventory.hash = hash_of(inventory)
        text = msgspec.json.format(msgspec.json.encode(inventory), indent=2).decode()
    else:
        from kvmagent.tables import inventory_tables

        text = inventory_tables(inventory, sections, _width())
    print(text, flush=True)
    return 0


def _record(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from kvmagent.record import record

    _check_machine(arguments.root)
    size = record(Path(arguments.file), arguments.root, keep_identity=arguments.keep_identity)
    print(f"{arguments.file}: {size} bytes")
    return 0


def _sections(text: str) -> list[str]:
    asked = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in asked if word not in SECTIONS]
    if unknown:
        known = ", ".join(SECTIONS)
        raise _mistake(f"--only: there is no section {unknown[0]!r}.", f"Choose from {known}.")
    return [section for section in SECTIONS if section in asked or not asked]


def _netlink(root: str, sections: list[str]) -> Netlink | None:
    """Ask netlink where its answer shows: for the interfaces of the running machine."""
    if "network" not in sections or os.path.realpath(root) != "/":
        return None
    from kvmagent.machine.network import ask_netlink

    return ask_netlink()


@contextmanager
def _root(given: str) -> Iterator[str]:
    """Give the directory of a machine: the one that was named, or an unpacked recording."""
    if not os.path.isfile(given):
        _check_machine(given)
        yield given
        return
    import tempfile
    from pathlib import Path

    from kvmagent.record import unpack

    with tempfile.TemporaryDirectory(prefix="hardpoint-") as directory:
        unpack(Path(given), Path(directory))
        _check_machine(directory, f"recording {given}")
        yield directory


def _check_machine(root: str, name: str = "") -> None:
    if not os.path.isdir(root):
        reason = "it is no directory" if os.path.exists(root) else "there is no such directory"
        raise _mistake(f"--root {root}: {reason}.", "Name a directory with a machine's /sys and /proc.")
    if not all(os.path.isdir(os.path.join(root, name)) for name in ("sys", "proc")):
        remedy = "Name a directory with a machine's /sys and /proc, such as an unpacked recording."
        raise _mistake(
            f"{name or '--root ' + root}: no machine is there, for it has no sys or no proc.", remedy
        )


def _width() -> int | None:
    """Return the terminal's width, None when nobody looks at a terminal."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def _mistake(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)
