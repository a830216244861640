"""A volume group on this host.

Its LUNs, its locks, its logical volumes, by the commands of LVM and sanlock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.runner import Completed
from kvmagent.protocol_shared_block import GroupStanding, LunCapacity, SharedBlockGroup
from kvmagent.shared_block.config import by_id, lvm_conf, lvmlocal_conf
from kvmagent.shared_block.lvmlockd import lvmlockd_answers
from kvmagent.shared_block.names import Volume, read_volume
from kvmagent.shared_block.reports import (
    Group,
    PhysicalVolume,
    Status,
    groups,
    leader_owner,
    lockspace_of,
    lvm_rows,
    number,
    peers,
    physical_volumes,
    sanlock_status,
    split_tags,
)
from kvmagent.shared_block.standing import Seen, held_by, judge
from kvmagent.storage.children import Children, refused

log = logging.getLogger(__name__)

LIMIT_S = 120.0
STATUS_LIMIT_S = 20.0
ELSEWHERE = "locked by other host"
EXCLUSIVE, SHARED = "ey", "sy"
_JSON = ("--reportformat", "json", "--units", "b", "--nosuffix", "--nolocking")


@dataclass(frozen=True)
class HostPlaces:
    """Where things are on this host: `conf` is a folder of the agent for LVM's configurations."""

    conf: Path
    dev: Path = Path("/dev")
    sys: Path = Path("/sys")
    units: Path = Path("/etc/systemd/system")
    lvmlockd: Path = Path("/run/lvm/lvmlockd.socket")


class VolumeGroup:
    """One volume group, called by the uuid of its storage."""

    def __init__(self, uuid: str, wanted: SharedBlockGroup, children: Children, places: HostPlaces) -> None:
        self.uuid = uuid
        self.wanted = wanted
        self._children = children
        self._places = places
        self.conf = places.conf / uuid

    async def lvm(self, *argv: str, timeout_s: float = LIMIT_S) -> Completed:
        """Run a command of LVM that sees the LUNs of this group only."""
        return await self._children.run(["env", f"LVM_SYSTEM_DIR={self.conf}", *argv], timeout_s)

    async def say(self, *argv: str) -> str:
        """Return what a command says of locks, nothing when it fails."""
        completed = await self._children.run(list(argv), STATUS_LIMIT_S)
        return completed.stdout.decode(errors="replace") if completed.returncode == 0 else ""

    async def devices(self) -> dict[str, Path | None]:
        """Return the link of each LUN below /dev/disk/by-id, None for one that the host does not see."""
        return await asyncio.to_thread(self._find)

    def _find(self) -> dict[str, Path | None]:
        folder = self._places.dev / "disk/by-id"
        return {
            wwid: next((folder / name for name in by_id(wwid) if (folder / name).exists()), None)
            for wwid in self.wanted.disks
        }

    async def configure(self) -> list[Path]:
        """Write LVM's configuration; return the LUNs. Raises HardpointError for one that is not there."""
        found = await self.devices()
        missing = [wwid for wwid, device in found.items() if device is None]
        if missing:
            raise refused(
                f"the host does not see the LUN {', '.join(missing)}", "log in to its server, see its zoning"
            )
        devices = [device for device in found.values() if device is not None]
        await asyncio.to_thread(self._write, devices)
        return devices

    def _write(self, devices: list[Path]) -> None:
        self.conf.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.conf / "lvm.conf").write_text(lvm_conf([str(device) for device in devices]))
        (self.conf / "lvmlocal.conf").write_text(lvmlocal_conf(self.wanted))

    async def report(self) -> Group | None:
        """Return what the group is, None when its LUNs hold no such group."""
        argv = ("vgs", *_JSON, "-o", "vg_name,vg_size,vg_free,vg_lock_type,vg_tags")
        completed = await self.lvm(*argv)
        found = groups(completed.check().stdout)
        return next((group for group in found if group.name == self.uuid), None)

    async def luns(self) -> list[LunCapacity]:
        """Return how large its LUNs are, and what is free on them."""
        argv = ("pvs", *_JSON, "-o", "pv_name,vg_name,pv_size,pv_free,dev_size")
        volumes = physical_volumes((await self.lvm(*argv)).check().stdout)
        return await asyncio.to_thread(self._lun_capacities, volumes)

    def _lun_capacities(self, volumes: list[PhysicalVolume]) -> list[LunCapacity]:
        by_device = {Path(volume.device).resolve(): volume for volume in volumes}
        return [
            LunCapacity(wwid=wwid, total=volume.size, available=volume.free)
            for wwid, device in self._find().items()
            if device is not None and (volume := by_device.get(device.resolve())) is not None
        ]

    async def volumes(self) -> list[Volume]:
        """Return the logical volumes that are images."""
        argv = ("lvs", *_JSON, "-o", "lv_name,lv_size,lv_tags,lv_lockargs,lv_uuid", self.uuid)
        rows = lvm_rows((await self.lvm(*argv)).check().stdout, "lv")
        found = [
            read_volume(
                row["lv_name"],
                number(row["lv_size"]),
                split_tags(row.get("lv_tags", "")),
                row.get("lv_lockargs", ""),
                row.get("lv_uuid", ""),
            )
            for row in rows
        ]
        return [volume for volume in found if volume is not None]

    async def active(self) -> dict[str, int]:
        """Return the logical volumes that are active here, and by how many each is open."""
        argv = ["dmsetup", "info", "-c", "--noheadings", "--separator", " ", "-o", "name,open"]
        text = (await self._children.run(argv, STATUS_LIMIT_S)).check().stdout.decode(errors="replace")
        found = {}
        for line in text.splitlines():
            name, _, count = line.strip().partition(" ")
            group, _, lv = name.partition("-")
            if group == self.uuid and lv != "lvmlock" and count.strip().isdigit():
                found[lv] = int(count)
        return found

    async def activate(self, lv: str, mode: str) -> None:
        """Make a volume active here, alone or shared.

        Raises HardpointError (SYS.1006) that says which host has it, and until when.
        """
        completed = await self.lvm("lvchange", "-a", mode, f"{self.uuid}/{lv}")
        if completed.returncode == 0:
            return
        said = completed.stderr.decode(errors="replace")
        if ELSEWHERE in said:
            raise refused(
                f"{await self._holder(lv)}: the logical volume {self.uuid}/{lv} cannot be used here",
                "stop the VM that has it there; what a dead host had is free when its lease has ended",
            )
        completed.check()

    async def _holder(self, lv: str) -> str:
        """Return who has a volume, as far as can be told from here."""
        try:
            volume = next((each for each in await self.volumes() if each.lv == lv), None)
            owner = await self._owner(volume) if volume is not None else None
            if owner is None:
                return f"volume {lv} is held by other hosts"
            text = await self.say("sanlock", "client", "host_status", "-D", "-s", lockspace_of(self.uuid))
            return held_by(f"volume {lv}", owner[0], peers(text).get(owner[0]), time.monotonic())
        except HardpointError:
            return f"volume {lv} is held by another host"

    async def _owner(self, volume: Volume) -> tuple[int, int] | None:
        offset = volume.lock_args.rpartition(":")[2]
        lease = (
            f"{lockspace_of(self.uuid)}:{volume.uuid}:{self._places.dev}/mapper/{self.uuid}-lvmlock:{offset}"
        )
        return leader_owner(await self.say("sanlock", "direct", "read_leader", "-r", lease))

    async def deactivate(self, lv: str) -> None:
        """Make a volume not active here.

        It is not already: nothing. Raises HardpointError when it is open.
        """
        (await self.lvm("lvchange", "-an", f"{self.uuid}/{lv}")).check()

    async def change(self, *argv: str) -> None:
        """Run a command that changes the group. Raises HardpointError (SYS.1006)."""
        (await self.lvm(*argv)).check()

    async def look(self) -> tuple[Seen, GroupStanding]:
        """Return how the group is here."""
        status = await self.status()
        answers = await lvmlockd_answers(self._places.lvmlockd, STATUS_LIMIT_S)
        space = (status.lockspaces if status is not None else {}).get(lockspace_of(self.uuid))
        missing = [wwid for wwid, device in (await self.devices()).items() if device is None]
        used = space is None and any((await self.active()).values())
        seen = Seen(
            time.monotonic(),
            self.wanted.host_id,
            missing,
            sanlock_answers=status is not None,
            lvmlockd_answers=answers,
            lockspace=space,
            holds_locks=used,
        )
        return seen, judge(seen)

    async def status(self) -> Status | None:
        """Return what sanlock has, None when it does not answer."""
        completed = await self._children.run(["sanlock", "client", "status", "-D"], STATUS_LIMIT_S)
        if completed.returncode != 0:
            return None
        return sanlock_status(completed.stdout.decode(errors="replace"))

    async def rescan(self, wwids: Sequence[str]) -> list[Path]:
        """Have the kernel look how large LUNs are, all paths of them; return them."""
        found = await self.devices()
        devices = [device for wwid in wwids if (device := found.get(wwid)) is not None]
        for device in devices:
            for path in await asyncio.to_thread(self._paths, device):
                await self._children.do("write", LIMIT_S, path=str(path), text="1")
            if device.name.startswith("dm-uuid-mpath-"):
                name = device.resolve().name
                await self._children.run(["multipathd", "resize", "map", name], LIMIT_S)
        return devices

    def _paths(self, device: Path) -> list[Path]:
        """Return the files of the kernel that have the paths of a LUN looked at again."""
        block = self._places.sys / "class/block"
        name = device.resolve().name
        slaves = block / name / "slaves"
        names = sorted(each.name for each in slaves.iterdir()) if slaves.is_dir() else []
        files = [block / each / "device/rescan" for each in names or [name]]
        return [file for file in files if file.exists()]
