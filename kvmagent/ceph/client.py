"""The files that make this host a client of a Ceph cluster: pure functions."""

from __future__ import annotations

import json
import re

from kvmagent.protocol_ceph import CephCluster

MOUNT_TIMEOUT_S, MON_TIMEOUT_S, OSD_TIMEOUT_S = 10, 30, 40
"""Without these librados waits for ever: for monitors, and for disks that are full or gone."""
_KEY = re.compile(r"^\s*key\s*=\s*(\S+)\s*$", re.MULTILINE)


def configuration(cluster: CephCluster, keyring_path: str) -> str:
    """Return the text of `ceph.conf` for this host's programs; QEMU is told by libvirt and never reads it."""
    lines = {
        "fsid": cluster.fsid,
        "mon_host": ",".join(mon.where for mon in cluster.mons),
        "keyring": keyring_path,
        "client_mount_timeout": MOUNT_TIMEOUT_S,
        "rados_mon_op_timeout": MON_TIMEOUT_S,
        "rados_osd_op_timeout": OSD_TIMEOUT_S,
        "log_to_stderr": "false",
        "admin_socket": "",
        "log_file": "",
    }
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())


def keyring(user: str, key: str) -> str:
    """Return the text of a keyring with one client."""
    return f"[client.{user}]\n\tkey = {key}\n"


def keyring_key(text: str) -> str | None:
    """Return the key of a keyring, None when there is none."""
    found = _KEY.search(text)
    return found[1] if found is not None else None


def fsid_of(said: bytes) -> str:
    """Return what `ceph fsid` says as JSON, or as a line."""
    text = said.decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return str(found["fsid"]) if isinstance(found, dict) else str(found)
