"""A double of LVM, lvmlockd, sanlock and device-mapper, which the kernel of a build machine lacks.

`Lvm` is what hosts share: LUNs, volume groups, the leases of their logical volumes. `LvmHost` is a runner of
commands as one host has them; a logical volume that is active there is a file below its `/dev`. Commands that
are none of these are really run: qemu-img, and the workers. `install` makes programs of it for agents that
are processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[1]
MB = 1024 * 1024
EXTENT = 4 * MB
EXCLUSIVE, SHARED = "ex", "sh"
REMEMBERED = 1000
STATE = "lvm.pickle"
# Agents ask these programs often: they start without site-packages
MAIN = (
    f"import sys; sys.path.insert(0, '{REPOSITORY}'); from tests import lvm; sys.exit(lvm.main(sys.argv[1:]))"
)


class Ended(NamedTuple):
    """How a command has ended."""

    returncode: int
    stdout: bytes
    stderr: bytes


@dataclass
class Lun:
    """A disk; `holds` is what wipefs finds on it, `group` the volume group; a broken one cannot be read."""

    wwid: str
    size: int
    group: str = ""
    holds: str | None = None
    partitions: str | None = None
    broken: bool = False


@dataclass
class Lv:
    """A logical volume, and the hosts that hold it."""

    size: int
    tags: list[str]
    held: dict[int, str] = field(default_factory=dict)


@dataclass
class Vg:
    """A volume group; `dead` are host ids whose leases have ended."""

    tags: list[str]
    lvs: dict[str, Lv] = field(default_factory=dict)


@dataclass
class Lvm:
    """What the hosts of a SAN share; `store` is where the bytes of logical volumes are."""

    store: Path
    luns: dict[str, Lun] = field(default_factory=dict)
    vgs: dict[str, Vg] = field(default_factory=dict)

    def add(self, wwid: str, size: int = 1024 * MB, **more: Any) -> Lun:
        """Add a LUN."""
        self.luns[wwid] = Lun(wwid, size, **more)
        return self.luns[wwid]

    def size(self, group: str) -> int:
        """Return the bytes of a volume group."""
        return sum(lun.size for lun in self.luns.values() if lun.group == group)

    def free(self, group: str) -> int:
        """Return those that no logical volume has."""
        return self.size(group) - sum(lv.size for lv in self.vgs[group].lvs.values())

    def end_lease(self, host_id: int) -> None:
        """What a host held is free: it is dead."""
        for vg in self.vgs.values():
            for lv in vg.lvs.values():
                lv.held.pop(host_id, None)

    def twice_active(self) -> list[str]:
        """Return the logical volumes that a host has alone and another one has too."""
        return [
            name
            for vg in self.vgs.values()
            for name, lv in vg.lvs.items()
            if len(lv.held) > 1 and EXCLUSIVE in lv.held.values()
        ]


class LvmHost:
    """One host of it. `opened` are logical volumes that VMs have open."""

    def __init__(self, lvm: Lvm, dev: Path) -> None:
        self.lvm = lvm
        self.dev = dev
        self.host_id = 0
        self.locks = False
        self.joined: dict[str, int] = {}
        self.active: dict[tuple[str, str], str] = {}
        self.opened: set[str] = set()
        self.ran: list[str] = []
        self.renewed_ago_s = 5.0
        self.daemons = {"sanlock", "lvmlockd"}
        self.fails: dict[str, str] = {}
        (dev / "disk/by-id").mkdir(parents=True, exist_ok=True)
        for lun in lvm.luns:
            self.see(lun)

    def see(self, wwid: str) -> None:
        """Have the host see a LUN."""
        (self.dev / f"sd-{wwid}").touch()
        (self.dev / f"disk/by-id/wwn-0x{wwid}").symlink_to(self.dev / f"sd-{wwid}")

    def lose(self, wwid: str) -> None:
        """Have it see it no longer."""
        (self.dev / f"disk/by-id/wwn-0x{wwid}").unlink()

    def answer(self, words: list[str]) -> Ended | None:
        """Return how a command ends, None when it is none of the double's."""
        answer = getattr(self, f"_{words[0].replace('-', '_')}", None)
        if answer is None:
            return None
        self.ran.append(" ".join(words))
        if words[0] in self.fails:
            return _ended(5, "", self.fails[words[0]])
        said = answer(words)
        if isinstance(said, str):
            return _ended(0, said, "")
        code, error = said
        return _ended(code, "", error)

    def read_host_id(self, conf: Path) -> None:
        """Take the host id of a configuration of LVM, and whether it knows of lvmlockd."""
        general = conf / "lvm.conf"
        self.locks = general.exists() and "use_lvmlockd = 1" in general.read_text()
        file = conf / "lvmlocal.conf"
        if file.exists():
            self.host_id = int(file.read_text().partition("host_id = ")[2].split()[0])

    def _systemctl(self, words: list[str]) -> str:
        if words[1] == "start":
            self.daemons.add(words[2].removesuffix(".service"))
        if words[1] == "stop":
            self.daemons.discard(words[2].removesuffix(".service"))
        return ""

    def _sanlock(self, words: list[str]) -> str | tuple[int, str]:
        if "sanlock" not in self.daemons:
            return 1, "connection refused"
        if words[1:3] != ["client", "status"]:
            return ""
        renewed = int(time.monotonic() - self.renewed_ago_s)
        return "daemon 1\n" + "".join(
            f"s lvm_{group}:{number}:/dev/mapper/{group}-lvmlock:0\n    list=spaces\n    io_timeout=10\n"
            f"    space_dead=0\n    killing_pids=0\n    renewal_last_success={renewed}\n"
            for group, number in self.joined.items()
        )

    def _lvmlockctl(self, words: list[str]) -> str:
        if words[1] != "--drop":
            raise AssertionError("what else it is asked hangs when two ask at once")
        self.joined.pop(words[2], None)
        return ""

    def _dmsetup(self, words: list[str]) -> str:
        if words[1] == "info":
            return "".join(f"{g}-{lv} {int(lv in self.opened)}\n" for g, lv in self.active)
        group, _, lv = words[-1].partition("-")
        if words[1] == "remove":
            self._let_go(group, lv)
        return ""

    def _lsblk(self, _words: list[str]) -> str:
        disks = [
            {
                "name": f"sd-{lun.wwid}",
                "path": str(self.dev / f"sd-{lun.wwid}"),
                "size": lun.size,
                "type": "disk",
                "wwn": f"0x{lun.wwid}",
                "vendor": "DOUBLE  ",
                "fstype": None,  # udev knows nothing of what another host has written
                "pttype": None,
            }
            for lun in self.lvm.luns.values()
            if (self.dev / f"disk/by-id/wwn-0x{lun.wwid}").exists()
        ]
        return json.dumps({"blockdevices": disks})

    def _wipefs(self, words: list[str]) -> str | tuple[int, str]:
        luns = [self.lvm.luns[Path(word).name.removeprefix("sd-")] for word in words if word.startswith("/")]
        if "-J" in words:
            if any(lun.broken for lun in luns):
                return 1, "wipefs: error: probing initialization failed: Input/output error"
            return json.dumps({"signatures": [each for lun in luns for each in _signatures(lun)]})
        [lun] = luns
        self.lvm.vgs.pop(lun.group, None)
        lun.group, lun.holds = "", None
        return ""

    def _hides_groups(self, words: list[str]) -> bool:
        """Say whether LVM leaves out shared groups, and others'."""
        return not self.locks and not {"--shared", "--foreign"} <= set(words)

    def _vgs(self, words: list[str]) -> str:
        if self._hides_groups(words):
            return _report("vg", [])
        rows = [
            {
                "vg_name": name,
                "vg_size": str(self.lvm.size(name)),
                "vg_free": str(self.lvm.free(name)),
                "vg_lock_type": "sanlock",
                "vg_tags": ",".join(vg.tags),
            }
            for name, vg in self.lvm.vgs.items()
        ]
        return _report("vg", rows)

    def _pvs(self, words: list[str]) -> str:
        hidden = self._hides_groups(words)
        rows = [
            {
                "pv_name": str(self.dev / f"sd-{lun.wwid}"),
                "vg_name": lun.group,
                "pv_size": str(lun.size),
                "pv_free": str(lun.size // 2),
            }
            for lun in self.lvm.luns.values()
            if (lun.group and not hidden) or lun.holds == "LVM2_member"
        ]
        return _report("pv", rows)

    def _lvs(self, words: list[str]) -> str:
        rows = [
            {
                "lv_name": name,
                "lv_size": str(lv.size),
                "lv_tags": ",".join(lv.tags),
                "lv_lockargs": "1.0.0:1024",
                "lv_uuid": name,
            }
            for name, lv in self.lvm.vgs[words[-1]].lvs.items()
        ]
        return _report("lv", rows)

    def _vgcreate(self, words: list[str]) -> str:
        group = next(word for word in words if len(word) == 32)
        self.lvm.vgs[group] = Vg([words[words.index("--addtag") + 1]])
        self._vgextend([*words[: words.index(group)], group, *words[words.index(group) + 1 :]])
        self.joined[group] = self.host_id
        return ""

    def _vgextend(self, words: list[str]) -> str:
        group = next(word for word in words if len(word) == 32)
        for device in words[words.index(group) + 1 :]:
            self.lvm.luns[device.partition("wwn-0x")[2]].group = group
        return ""

    def _pvresize(self, _words: list[str]) -> str:
        return ""

    def _vgchange(self, words: list[str]) -> str:
        group = words[-1]
        if "--lock-start" in words:
            self.joined[group] = self.host_id
        if "--lock-stop" in words:
            self.joined.pop(group, None)
        return ""

    def _lvcreate(self, words: list[str]) -> str | tuple[int, str]:
        group, name = words[-1], words[words.index("-n") + 1]
        size = int(words[words.index("-L") + 1].removesuffix("b"))
        if size > self.lvm.free(group):
            return 5, f"Volume group {group} has insufficient free space"
        tags = [words[at + 1] for at, word in enumerate(words) if word == "--addtag"]
        self.lvm.vgs[group].lvs[name] = Lv(size, tags)
        return self._activate(group, name, EXCLUSIVE)

    def _lvchange(self, words: list[str]) -> str | tuple[int, str]:
        group, _, name = words[-1].partition("/")
        lv = self.lvm.vgs[group].lvs[name]
        for at, word in enumerate(words):
            if word == "--addtag":
                lv.tags.append(words[at + 1])
            if word == "--deltag":
                lv.tags.remove(words[at + 1])
        if "-an" in words:
            if name in self.opened:
                return 5, f"Logical volume {group}/{name} in use."
            self._let_go(group, name)
        if "-a" in words:
            mode = SHARED if words[words.index("-a") + 1] == "sy" else EXCLUSIVE
            return self._activate(group, name, mode)
        return ""

    def _activate(self, group: str, name: str, mode: str) -> str | tuple[int, str]:
        lv = self.lvm.vgs[group].lvs[name]
        others = {host: held for host, held in lv.held.items() if host != self.host_id}
        if others and (mode == EXCLUSIVE or EXCLUSIVE in others.values()):
            return 5, f"  LV locked by other host: {group}/{name}"
        lv.held[self.host_id] = mode
        self.active[group, name] = mode
        bytes_of = self.lvm.store / name
        if not bytes_of.exists():
            bytes_of.touch()
        link = self.dev / group / name
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(bytes_of)
        return ""

    def _let_go(self, group: str, name: str) -> None:
        self.active.pop((group, name), None)
        if name in self.lvm.vgs[group].lvs:
            self.lvm.vgs[group].lvs[name].held.pop(self.host_id, None)
        (self.dev / group / name).unlink(missing_ok=True)

    def _lvextend(self, words: list[str]) -> str:
        group, _, name = words[-1].partition("/")
        self.lvm.vgs[group].lvs[name].size = int(words[words.index("-L") + 1].removesuffix("b"))
        return ""

    def _lvrename(self, words: list[str]) -> str:
        group, old, new = words[-3:]
        lvs = self.lvm.vgs[group].lvs
        lvs[new] = lvs.pop(old)
        if (self.lvm.store / old).exists():
            (self.lvm.store / old).rename(self.lvm.store / new)
        return ""

    def _lvremove(self, words: list[str]) -> str | tuple[int, str]:
        group, _, name = words[-1].partition("/")
        lv = self.lvm.vgs[group].lvs[name]
        if name in self.opened or any(host != self.host_id for host in lv.held):
            return 5, f"Logical volume {group}/{name} in use."
        self._let_go(group, name)
        del self.lvm.vgs[group].lvs[name]
        (self.lvm.store / name).unlink(missing_ok=True)
        return ""


PROGRAMS = (
    "dmsetup", "lsblk", "lvchange", "lvcreate", "lvextend", "lvmlockctl", "lvremove", "lvrename", "lvs",
    "pvresize", "pvs", "sanlock", "systemctl", "vgchange", "vgcreate", "vgextend", "vgs", "wipefs",
)  # fmt: skip


def install(folder: Path, dev: Path, wwids: Sequence[str]) -> str:
    """Write programs that are one host of the double, with LUNs; return the PATH that has them first."""
    (folder / "bin").mkdir(parents=True)
    (folder / "store").mkdir()
    lvm = Lvm(folder / "store")
    for wwid in wwids:
        lvm.add(wwid, 8192 * MB)
    (folder / STATE).write_bytes(pickle.dumps(LvmHost(lvm, dev)))
    for name in PROGRAMS:
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{MAIN}" {folder} {name} "$@"\n')
        program.chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


@contextmanager
def installed(folder: Path) -> Iterator[LvmHost]:
    """Have the host whose programs `install` has written, alone; what is changed of it is kept."""
    with (folder / STATE).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        host: LvmHost = pickle.load(file)
        yield host
        file.seek(0)
        file.truncate()
        pickle.dump(host, file)


def main(words: list[str]) -> int:
    """Be one of the programs: the folder that they are installed in, the name, the arguments."""
    folder, *words = words
    with installed(Path(folder)) as host:
        conf = os.environ.get("LVM_SYSTEM_DIR")
        if conf is not None:
            host.read_host_id(Path(conf))
        ended = host.answer(words)
        del host.ran[:-REMEMBERED]
    if ended is None:
        raise AssertionError(f"{words[0]} is no program of the double")
    sys.stdout.buffer.write(ended.stdout)
    sys.stderr.buffer.write(ended.stderr)
    return ended.returncode


def _report(kind: str, rows: list[dict[str, str]]) -> str:
    return json.dumps({"report": [{kind: rows}]})


def _signatures(lun: Lun) -> list[dict[str, str]]:
    kinds = ["LVM2_member"] if lun.group else [kind for kind in (lun.partitions, lun.holds) if kind]
    return [{"device": f"sd-{lun.wwid}", "type": kind} for kind in kinds]


def _ended(code: int, out: str, error: str) -> Ended:
    return Ended(code, out.encode(), error.encode())


if __name__ == "__main__":
    from tests import lvm

    sys.exit(lvm.main(sys.argv[1:]))
