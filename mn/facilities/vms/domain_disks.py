"""The disks that a VM starts with, and the hosts that can have them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from kvmagent.protocol_ceph import RbdDisk
from kvmagent.protocol_storage import StorageKind
from kvmagent.protocol_vms import DiskFormat, VmDisk
from mn.facilities.primary_storage.connecting import usable_hosts
from mn.facilities.volumes.life import Disk, disks_of


def load_disks(connection: Connection, vm_uuid: str) -> list[VmDisk]:
    """Return the disks that a VM is to have, as its host is told of them."""
    return [_vm_disk(disk) for disk in disks_of(connection, vm_uuid) if not disk.leaving]


def load_open_disks(connection: Connection, vm_uuid: str) -> list[VmDisk]:
    """Return the disks that a running VM may have: with those that it has not let go of yet."""
    return [_vm_disk(disk) for disk in disks_of(connection, vm_uuid)]


def _vm_disk(disk: Disk) -> VmDisk:
    ceph = disk.storage.ceph
    return VmDisk(
        volume_uuid=disk.volume_uuid,
        path=disk.host_path,
        format=DiskFormat(disk.format),
        device_id=disk.device_id,
        local=disk.storage.kind is StorageKind.LOCAL,
        storage_uuid=disk.storage.uuid if disk.storage.group is not None else None,
        name=disk.path if disk.storage.group is not None else None,
        rbd=RbdDisk(disk.storage.uuid, ceph.mons, ceph.user) if ceph is not None else None,
    )


def hindered_by_disks(connection: Connection, vm_uuid: str, host: Row[Any]) -> str | None:
    """Say why a host cannot have a VM's disks, None when it can."""
    for disk in disks_of(connection, vm_uuid):
        hosts = {usable.uuid for usable in usable_hosts(connection, disk.storage.uuid)}
        if disk.host_uuid not in (None, host.uuid):
            return f"volume {disk.volume_uuid} is on the local storage of another host"
        if host.uuid not in hosts:
            return f"it cannot use primary storage {disk.storage.uuid} now"
    return None
