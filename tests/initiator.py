"""A double of iscsiadm and of the kernel's initiator: what tests have instead of open-iscsi and SCSI.

`install(root)` puts a program `iscsiadm` into a machine below a root. It keeps node records as
open-iscsi does and shows sessions and disks in the machine's own /sys. What the SAN has is in `san.json`
below the root.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

IQN = "iqn.2026-01.org.example:san"
GIB = 2**30


@dataclass
class Lun:
    number: int
    wwid: str
    size: int = GIB
    serial: str = ""


@dataclass
class San:
    """What a SAN has: its portals (`address,port`), the secrets that it asks for, its LUNs."""

    portals: list[str]
    luns: list[Lun] = field(default_factory=list)
    iqn: str = IQN
    user: str | None = None
    secret: str | None = None
    up: bool = True
    discovery_s: float = 0.0

    def write(self, root: Path) -> None:
        (root / "san.json.new").write_text(json.dumps(asdict(self)))
        (root / "san.json.new").replace(root / "san.json")


def install(root: Path, san: San) -> None:
    """Give a machine the program and the SAN."""
    program = root / "usr/sbin/iscsiadm"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f"#!{sys.executable} -IS\n{Path(__file__).read_text()}\nsys.exit(main(sys.argv[1:]))\n"
    )
    program.chmod(0o755)
    for folder in ("sys/class/block", "sys/block", "proc", "etc/iscsi"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    san.write(root)


def lose(root: Path, number: int) -> None:
    """End a session as a SAN does that goes away for good."""
    _Machine(root).end(number)


def calls(root: Path) -> list[str]:
    """Return the command lines that the program was called with."""
    log = root / "iscsiadm.log"
    return log.read_text().splitlines() if log.exists() else []


class _Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.san: dict[str, Any] = json.loads((root / "san.json").read_text())
        self.sessions = root / "sys/class/iscsi_session"

    def record(self, iqn: str, portal: str) -> Path | None:
        return next((self.root / "etc/iscsi/nodes" / iqn).glob(f"{portal}*/default"), None)

    def settings(self, record: Path) -> dict[str, str]:
        lines = (line.partition(" = ") for line in record.read_text().splitlines())
        return {name: value for name, mark, value in lines if mark}

    def begin(self, iqn: str, portal: str) -> None:
        number = 1 + max((int(s.name[7:]) for s in self.sessions.glob("session*")), default=0)
        address, port = portal.rsplit(",", 1)
        session = self.sessions / f"session{number}"
        connection = self.root / f"sys/class/iscsi_connection/connection{number}:0"
        files = {session: {"targetname": iqn, "state": "LOGGED_IN"}}
        files[connection] = {"persistent_address": address, "persistent_port": port}
        for folder, texts in files.items():
            folder.mkdir(parents=True)
            for name, text in texts.items():
                (folder / name).write_text(text + "\n")
        self.scan(number)

    def scan(self, number: int) -> None:
        known = {lun["number"]: lun for lun in self.san["luns"]}
        for lun in known.values():
            name = f"sd{chr(96 + number)}{lun['number']}"
            device = self.root / f"sys/devices/host{number}/session{number}/{number}:0:0:{lun['number']}"
            disk = device / f"block/{name}"
            disk.mkdir(parents=True, exist_ok=True)
            for path, text in {
                disk / "size": str(lun["size"] // 512),
                disk / "dev": f"8:{number * 16 + lun['number']}",
                device / "wwid": f"naa.{lun['wwid'][1:]}",
                device / "vendor": "DOUBLE",
                device / "model": f"lun{lun['number']}",
                device / "state": "running",
            }.items():
                path.write_text(text + "\n")
            serial = lun["serial"].encode()
            (device / "vpd_pg80").write_bytes(b"\0\x80\0" + bytes([len(serial)]) + serial)
            if not (disk / "device").is_symlink():
                (disk / "device").symlink_to("../..")
                (self.root / f"sys/class/block/{name}").symlink_to(
                    f"../../{disk.relative_to(self.root / 'sys')}"
                )

    def end(self, number: int) -> None:
        shutil.rmtree(self.sessions / f"session{number}")
        shutil.rmtree(self.root / f"sys/class/iscsi_connection/connection{number}:0")
        for link in (self.root / "sys/class/block").iterdir():
            if f"/session{number}/" in str(link.readlink()):
                link.unlink()
        shutil.rmtree(self.root / f"sys/devices/host{number}", ignore_errors=True)

    def has_session(self, iqn: str, address: str) -> bool:
        found = (s.name[7:] for s in self.sessions.glob("session*"))
        connections = (self.root / f"sys/class/iscsi_connection/connection{n}:0" for n in found)
        return any((c / "persistent_address").read_text().strip() == address for c in connections)


def _portal(text: str) -> tuple[str, str]:
    address, _, rest = text.rpartition(":")
    return f"{address.strip('[]')},{rest.split(',')[0]}", address.strip("[]")


def main(argv: list[str]) -> int:
    root = Path(sys.argv[0]).resolve().parents[2]
    with (root / "iscsiadm.log").open("a") as log:
        log.write(" ".join(argv) + "\n")
    machine, options = _Machine(root), dict(zip(argv[::2], argv[1::2], strict=False))
    san = machine.san
    if options["-m"] == "discovery":
        time.sleep(san["discovery_s"])
        if not san["up"] or _portal(options["-p"])[0] not in san["portals"]:
            return 4
        for portal in san["portals"]:
            address, port = portal.rsplit(",", 1)
            print(f"{f'[{address}]' if ':' in address else address}:{port},1 {san['iqn']}")
        return 0
    if options["-m"] == "session":
        number = int(options["-r"])
        if not (machine.sessions / f"session{number}").exists():
            return 21
        if argv[-1] == "--rescan":
            machine.scan(number)
        else:
            machine.end(number)
        return 0
    return _node(machine, options, argv)


def _node(machine: _Machine, options: dict[str, str], argv: list[str]) -> int:
    iqn, (portal, address) = options["-T"], _portal(options["-p"])
    record = machine.record(iqn, portal)
    if options.get("-o") == "new":
        file = machine.root / f"etc/iscsi/nodes/{iqn}/{portal},1/default"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# BEGIN RECORD\nnode.name = {iqn}\nnode.startup = automatic\n# END RECORD\n")
        return 0
    if record is None:
        return 21
    if options.get("-o") == "delete":
        shutil.rmtree(record.parent)
        if not any(record.parents[1].iterdir()):
            record.parents[1].rmdir()
        return 0
    if machine.has_session(iqn, address):
        return 15
    if not machine.san["up"]:
        return 8
    said, auth = machine.settings(record), "node.session.auth."
    given = (said.get(f"{auth}username"), said.get(f"{auth}password"))
    if machine.san["user"] and given != (machine.san["user"], machine.san["secret"]):
        return 24
    machine.begin(iqn, portal)
    return 0
