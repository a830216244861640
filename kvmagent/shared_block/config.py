"""What LVM, sanlock and lvmlockd are told, as texts; pure functions.

LVM's configuration is a folder for each group: commands that are given it (`LVM_SYSTEM_DIR`) see the group's
LUNs and nothing else, and the host's own `/etc/lvm` stays as its owner has written it.
"""

from __future__ import annotations

import re

from kvmagent.protocol_shared_block import SharedBlockGroup, bare_wwid
from kvmagent.storage.children import refused

UNITS = "/etc/systemd/system"
DROP_IN = "hardpoint.conf"
_WWID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{2,254}")


def check_wwid(wwid: str) -> str:
    """Return a WWID that can be part of a path. Raises HardpointError (SYS.1006)."""
    if not _WWID.fullmatch(wwid) or ".." in wwid:
        raise refused(f"'{wwid}' is no WWID of a disk", "take one from GetSharedBlockCandidate")
    return wwid


def by_id(wwid: str) -> list[str]:
    """Return the links below /dev/disk/by-id that a disk of this WWID may have, the better ones first.

    The map of several paths comes before a single path.
    """
    bare = bare_wwid(check_wwid(wwid))
    names = [
        f"dm-uuid-mpath-3{bare}",
        f"dm-uuid-mpath-{bare}",
        f"wwn-0x{bare}",
        f"scsi-3{bare}",
        wwid,
        f"scsi-{bare}",
        f"nvme-{bare}",
        f"nvme-eui.{bare}",
    ]
    return list(dict.fromkeys(names))


def lvm_conf(devices: list[str]) -> str:
    """Return the configuration of LVM for a group on these devices, given by their links below by-id.

    LVM looks after the device nodes that udev makes: lvmlockd needs that of the group's leases at once.
    """
    # LVM's patterns know no escapes: what may mean something in one becomes "any character".
    patterns = (re.sub(r"[^A-Za-z0-9/_:-]", ".", device) for device in devices)
    accepted = ", ".join(f'"a|^{pattern}$|"' for pattern in patterns)
    return f"""# Written by the Hardpoint agent for one volume group; /etc/lvm is not read with it.
global {{
  use_lvmlockd = 1
  lvmlockd_lock_retries = 6
  sanlock_lv_extend = 256
  event_activation = 0
}}
devices {{
  use_devicesfile = 0
  global_filter = [ {accepted}{", " if accepted else ""}"r|.*|" ]
  issue_discards = 0
  scan_lvs = 0
}}
backup {{
  backup = 0
  archive = 0
}}
activation {{
  monitoring = 0
  verify_udev_operations = 1
}}
"""


def lvmlocal_conf(group: SharedBlockGroup) -> str:
    """Return the part of LVM's configuration that is this host's."""
    return f"local {{\n  host_id = {group.host_id}\n}}\n"


def sanlock_drop_in(group: SharedBlockGroup) -> str:
    """Return how sanlock's unit is to start it: with the watchdog, unless that is switched off."""
    return f"[Service]\nExecStart=\nExecStart=/usr/sbin/sanlock daemon -w {int(group.watchdog)}\n"


def watchdog_drop_in() -> str:
    """Return how the watchdog's unit is to start it: with a driver, a software one where there is no other.

    What distributions have it check before fails on some of them.
    """
    load = "test -e /dev/watchdog0 || /usr/sbin/modprobe softdog"
    return f"[Service]\nExecStartPre=\nExecStartPre=-/bin/sh -c '{load}'\n"


def lvmlockd_drop_in(group: SharedBlockGroup) -> str:
    """Return how lvmlockd's unit is to start it: one that follows on a dead one adopts its locks."""
    command = f"/usr/sbin/lvmlockd --foreground --adopt 1 --sanlock-timeout {group.io_timeout_s}"
    return f"[Service]\nExecStart=\nExecStart={command}\nRestart=on-failure\nRestartSec=1\n"
