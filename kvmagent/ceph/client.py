"""The files that make this host a client of a Ceph cluster: pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from kvmagent.protocol_ceph import CephCluster

MOUNT_TIMEOUT_S, MON_TIMEOUT_S, OSD_TIMEOUT_S = 10, 30, 40
"""Without these librados waits for ever: for monitors, and for disks that are full or gone."""
_KEY = re.compile(r"^\[client\.([^\]\n]+)\]\s*\n\s*key\s*=\s*(\S+)\s*$", re.MULTILINE)


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


def keyring(keys: Mapping[str, str]) -> str:
    """Return the text of a keyring: keys by their clients."""
    return "".join(f"[client.{user}]\n\tkey = {key}\n" for user, key in keys.items())


def keyring_keys(text: str) -> dict[str, str]:
    """Return the keys of a keyring by their clients, in their order."""
    return dict(_KEY.findall(text))


def with_key(keys: Mapping[str, str], user: str, key: str) -> dict[str, str]:
    """Return the keys of a host that is to be another client, or the same one.

    The one that it was comes second: what it is doing as that one goes on. Those before are forgotten.
    """
    former = next(iter(keys), user)
    return {user: key} if former == user else {user: key, former: keys[former]}


def fsid_of(said: bytes) -> str:
    """Return what `ceph fsid` says as JSON, or as a line."""
    text = said.decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return str(found["fsid"]) if isinstance(found, dict) else str(found)
