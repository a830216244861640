"""What the `san` guest serves: two iSCSI LUNs with CHAP over two portals, an NFS export; how to use it."""

from __future__ import annotations

from tests.lab.guest import Guest
from tests.lab.image_files import IQN_DOMAIN
from tests.lab.network import BRIDGES, address

TARGET = f"{IQN_DOMAIN}:san"
CHAP_USER, CHAP_PASSWORD = "labuser", "labsecret12345"
LUNS = 2
LUN_MB = 1500
EXPORT = "/srv/nfs"
SERVE_TIMEOUT_S = 120.0


def wwid(lun: int) -> str:
    """Return the WWID of a LUN: what /dev/disk/by-id/wwn-0x... and multipath call it.

    Linux makes it of the first 25 digits of the unit's serial number: they have to differ in the beginning.
    """
    return f"6001405{_serial(lun).replace('-', '')[:25]}"


def _serial(lun: int) -> str:
    return f"{lun + 1:08x}-1111-4222-8333-444444444444"


def _targetcli(portals: list[str]) -> str:
    """Return the commands for targetcli."""
    group = f"/iscsi/{TARGET}/tpg1"
    lines = [
        f"/backstores/block create name=lun{n} dev=/dev/luns/lun{n} wwn={_serial(n)}" for n in range(LUNS)
    ]
    lines += ["set global auto_add_default_portal=false", f"/iscsi create {TARGET}"]
    lines += [f"{group}/luns create /backstores/block/lun{n} lun={n}" for n in range(LUNS)]
    lines += [f"{group}/portals create {portal} 3260" for portal in portals]
    attributes = "authentication=1 demo_mode_write_protect=0 generate_node_acls=1 cache_dynamic_acls=1"
    lines += [f"{group} set attribute {attributes}"]
    lines += [f"{group} set auth userid={CHAP_USER} password={CHAP_PASSWORD}"]
    return "\n".join(lines)


def serve(san: Guest) -> None:
    """Make the `san` guest serve."""
    volumes = "; ".join(f"lvcreate -q -Wn -L{LUN_MB}M -n lun{n} luns" for n in range(LUNS))
    network = f"{address(BRIDGES[0], 0)}/16"
    san.run(
        f"""set -e
vgcreate -q luns /dev/vdb >/dev/null
({volumes}) >/dev/null 2>&1
modprobe -a target_core_mod iscsi_target_mod target_core_iblock
targetcli >/tmp/targetcli.log 2>&1 <<'END'
{_targetcli([san.address, san.second_address])}
END
mkdir -p {EXPORT}; chmod 777 {EXPORT}
echo '{EXPORT} {network}(rw,sync,no_root_squash,no_subtree_check)' >/etc/exports
systemctl start rpcbind nfs-server
ss -ltn | grep -q {san.address}:3260; ss -ltn | grep -q {san.second_address}:3260; ss -ltn | grep -q :2049
""",
        SERVE_TIMEOUT_S,
    )


def iscsi_login(
    guest: Guest, san: Guest, password: str | None = CHAP_PASSWORD, *, one_path: bool = False
) -> int:
    """Log a guest in to both portals, or one; returns iscsiadm's exit code. None: without CHAP."""
    settings = {"node.session.timeo.replacement_timeout": "5"}
    if password is not None:
        auth = {"authmethod": "CHAP", "username": CHAP_USER, "password": password}
        settings.update({f"node.session.auth.{key}": value for key, value in auth.items()})
    node = f"iscsiadm -m node -T {TARGET}"
    guest.run("systemctl start iscsid")
    guest.run(f"iscsiadm -m discovery -t sendtargets -p {san.address}")
    guest.run("; ".join(f"{node} -o update -n {key} -v {value}" for key, value in settings.items()))
    portal = f" -p {san.address}" if one_path else ""
    return guest.try_run(f"{node}{portal} --login").returncode


def iscsi_logout(guest: Guest) -> None:
    """Log a guest out of everything and forget the target."""
    guest.try_run("iscsiadm -m node -u; iscsiadm -m node -o delete")


def mount_nfs(guest: Guest, san: Guest, folder: str = "/mnt/nfs") -> None:
    """Mount the export in a guest."""
    guest.run(f"mkdir -p {folder} && mount -t nfs -o vers=4.2 {san.address}:{EXPORT} {folder}")
