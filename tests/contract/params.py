"""What each operation is asked for in a world: parameters that do what they say, or harm nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.contract.conftest import World

CLOSED_PORT = 1
ABSENT = "5b1f0c9d6a3e4f7c8d2b9e0a1c4f6d85"  # a version 4 uuid that nothing has
USB = "/usb-device/usb-devices"
PCI = "/pci-device/pci-devices"
ISCSI = "/storage-devices/iscsi/servers"


def new_uuid() -> str:
    return uuid.uuid4().hex


PARAMS: dict[str, Callable[[World], dict[str, Any]]] = {
    "CreateZone": lambda w: {"name": w.name("zone")},
    "CreateCluster": lambda w: {
        "name": w.name("cluster"),
        "zoneUuid": w.zone["uuid"],
        "hypervisorType": "KVM",
    },
    "AddKVMHost": lambda w: {
        "name": w.name("host"),
        "clusterUuid": w.cluster["uuid"],
        "managementIp": w.address(),
        "username": "root",
        "password": "unused",
        "sshPort": CLOSED_PORT,
    },
    "KvmRunShell": lambda w: {"hostUuids": [w.host["uuid"]], "script": "true"},
    "UpdateZone": lambda w: {"uuid": w.new_zone(), "name": w.name("zone"), "description": "new"},
    "UpdateCluster": lambda w: {"uuid": w.new_cluster(), "name": w.name("cluster"), "description": "new"},
    "ChangeZoneState": lambda w: {"uuid": w.new_zone(), "stateEvent": "disable"},
    "ChangeClusterState": lambda w: {"uuid": w.new_cluster(), "stateEvent": "disable"},
    "UpdateClusterOS": lambda w: {"uuid": w.new_cluster(), "excludePackages": ["kernel", "systemd*"]},
    "UpdateHostIommuState": lambda w: {"uuid": w.host["uuid"], "state": "Enabled"},
    "CreatePciDeviceOffering": lambda w: {
        "name": w.name("PCI offering"),
        "vendorId": "10de",
        "deviceId": w.pci_id(),
    },
    "DeletePciDeviceOffering": lambda w: {"uuid": new_uuid(), "deleteMode": "Permissive"},
    "UpdatePciDevice": lambda w: {
        "uuid": w.device("/pci-device/pci-devices", "vendorId=102b"),
        "description": "test pci",
        "state": "Disabled",
        "metaData": "key1:value1;key2:value2",
    },
    "DeletePciDevice": lambda w: {"uuid": new_uuid(), "deleteMode": "Permissive"},
    "UpdateUsbDevice": lambda w: {
        "uuid": w.device("/usb-device/usb-devices", "idVendor=0624"),
        "name": w.name("usb"),
        "description": "this is a usb device",
        "state": "Enabled",
    },
    "UpdateHost": lambda w: {
        "uuid": w.spare_host("update"),
        "name": w.name("host"),
        "description": "new",
        "managementIp": w.address(),
    },
    "UpdateKVMHost": lambda w: {
        "uuid": w.spare_host("update"),
        "name": w.name("host"),
        "description": "new",
        "managementIp": w.address(),
        "username": "root",
        "password": "unused",
        "sshPort": CLOSED_PORT,
    },
    "ChangeHostState": lambda w: {"uuid": w.spare_host("state"), "stateEvent": "disable"},
    "ReconnectHost": lambda w: {"uuid": w.spare_host("reconnect")},
    "AddLocalPrimaryStorage": lambda w: {
        "name": w.name("storage"),
        "zoneUuid": w.zone["uuid"],
        "url": f"/{w.name('local')}",
        "type": "LocalStorage",
    },
    "AddNfsPrimaryStorage": lambda w: {
        "name": w.name("storage"),
        "zoneUuid": w.zone["uuid"],
        "url": f"192.0.2.1:/{w.name('export')}",
        "type": "NFS",
    },
    "AddSharedMountPointPrimaryStorage": lambda w: {
        "name": w.name("storage"),
        "zoneUuid": w.zone["uuid"],
        "url": f"/{w.name('shared')}",
        "type": "SharedMountPoint",
    },
    "AddSharedBlockGroupPrimaryStorage": lambda w: {
        "name": w.name("storage"),
        "zoneUuid": w.zone["uuid"],
        "diskUuids": [w.wwid()],
        "type": "SharedBlock",
    },
    "AddSharedBlockToSharedBlockGroup": lambda w: {"uuid": w.block_group(), "diskUuid": w.lun_wwid()},
    "RefreshSharedblockDeviceCapacity": lambda w: {
        "sharedBlockGroupUuid": w.block_group(),
        "uuid": w.lun(),
    },
    "AddCephPrimaryStorage": lambda w: {
        "name": w.name("ceph"),
        "zoneUuid": w.zone["uuid"],
        "monUrls": w.mon_urls(),
        "url": "not used",
        "type": "Ceph",
    },
    "AddCephBackupStorage": lambda w: {
        "name": w.name("ceph"),
        "monUrls": w.mon_urls(),
        "poolName": "there",
        "url": "not used",
        "type": "Ceph",
    },
    "AddMonToCephPrimaryStorage": lambda w: w.more_mons("primary"),
    "AddMonToCephBackupStorage": lambda w: w.more_mons("backup"),
    "RemoveMonFromCephPrimaryStorage": lambda w: {
        "uuid": w.spare_ceph("primary"),
        "monHostnames": ["nowhere"],
    },
    "RemoveMonFromCephBackupStorage": lambda w: {"uuid": w.spare_ceph("backup"), "monHostnames": ["nowhere"]},
    "UpdateCephPrimaryStorageMon": lambda w: {
        "monUuid": w.ceph_mon("primary")["monUuid"],
        "sshUsername": "root",
        "sshPassword": "unused",
        "sshPort": CLOSED_PORT,
        "monPort": 7777,
    },
    "UpdateCephBackupStorageMon": lambda w: {
        "monUuid": w.ceph_mon("backup")["monUuid"],
        "sshUsername": "root",
        "sshPassword": "unused",
        "sshPort": CLOSED_PORT,
        "monPort": 7777,
    },
    "AddCephPrimaryStoragePool": lambda w: {
        "primaryStorageUuid": w.spare_ceph("primary"),
        "poolName": w.name("pool"),
        "isCreate": True,
        "aliasName": "fast",
        "description": "new",
    },
    "UpdateCephPrimaryStoragePool": lambda w: {
        "uuid": w.ceph_pool(),
        "aliasName": "slow",
        "description": "new",
    },
    "DeleteCephPrimaryStoragePool": lambda w: {"uuid": new_uuid()},
    "UpdatePrimaryStorage": lambda w: {
        "uuid": w.new_storage(),
        "name": w.name("storage"),
        "description": "new",
    },
    "ChangePrimaryStorageState": lambda w: {"uuid": w.new_storage(), "stateEvent": "disable"},
    "ReconnectPrimaryStorage": lambda w: {"uuid": w.storage["uuid"]},
    "SyncPrimaryStorageCapacity": lambda w: {"primaryStorageUuid": w.storage["uuid"]},
    "CleanUpImageCacheOnPrimaryStorage": lambda w: {"uuid": w.storage["uuid"]},
    "AttachPrimaryStorageToCluster": lambda w: {
        "clusterUuid": w.cluster["uuid"],
        "primaryStorageUuid": w.new_storage(),
    },
    "DetachPrimaryStorageFromCluster": lambda w: {
        "clusterUuid": w.cluster["uuid"],
        "primaryStorageUuid": w.attached_storage(),
    },
    "LocalStorageMigrateVolume": lambda w: {
        "volumeUuid": w.new_volume()["uuid"],
        "destHostUuid": w.other_host(),
    },
    "PrimaryStorageMigrateVolume": lambda w: {
        "volumeUuid": w.new_volume()["uuid"],
        "dstPrimaryStorageUuid": w.attached_storage(),
    },
    "AttachPciDeviceToVm": lambda w: {"pciDeviceUuid": w.pci("detach"), "vmInstanceUuid": w.pci_vm()},
    "DetachPciDeviceFromVm": lambda w: {"pciDeviceUuid": w.pci("attach"), "vmInstanceUuid": w.pci_vm()},
    "AttachUsbDeviceToVm": lambda w: {"usbDeviceUuid": w.usb("detach"), "vmInstanceUuid": w.vm["uuid"]},
    "DetachUsbDeviceFromVm": lambda w: {"usbDeviceUuid": w.usb("attach", w.vm["uuid"])},
    "AddIscsiServer": lambda w: {
        "name": w.name("iscsi"),
        "ip": w.address(),
        "chapUserName": "hosts",
        "chapUserPassword": "verysecret12",
    },
    "UpdateIscsiServer": lambda w: {
        "uuid": w.new_iscsi_server(),
        "name": w.name("iscsi"),
        "chapUserName": "others",
        "chapUserPassword": "othersecret12",
        "state": "Disabled",
    },
    "RefreshIscsiServer": lambda w: {"uuid": w.attached_iscsi_server()},
    "DeleteIscsiServer": lambda w: {"uuid": w.new_iscsi_server(), "deleteMode": "Permissive"},
    "AttachIscsiServerToCluster": lambda w: {
        "clusterUuid": w.simulator_cluster["uuid"],
        "uuid": w.new_iscsi_server(),
    },
    "DetachIscsiServerFromCluster": lambda w: {
        "clusterUuid": w.simulator_cluster["uuid"],
        "uuid": w.attached_iscsi_server(),
    },
    "SetVmUsbRedirect": lambda w: {"uuid": w.vm["uuid"], "enable": True},
    "DeletePrimaryStorage": lambda w: {"uuid": w.new_storage(), "deleteMode": "Permissive"},
    "DeleteHost": lambda w: {"uuid": new_uuid(), "deleteMode": "Permissive"},
    "AddImageStoreBackupStorage": lambda w: {
        "name": w.name("store"),
        "hostname": w.address(),
        "username": "root",
        "password": "unused",
        "sshPort": CLOSED_PORT,
        "url": str(w.directory / w.name("folder")),
    },
    "UpdateBackupStorage": lambda w: {
        "uuid": w.spare_store("update"),
        "name": w.name("store"),
        "description": "new",
    },
    "UpdateImageStoreBackupStorage": lambda w: {
        "uuid": w.spare_store("update"),
        "name": w.name("store"),
        "description": "new",
        "hostname": w.address(),
        "username": "root",
        "password": "unused",
        "sshPort": CLOSED_PORT,
    },
    "ChangeBackupStorageState": lambda w: {"uuid": w.spare_store("state"), "stateEvent": "disable"},
    "ReconnectBackupStorage": lambda w: {"uuid": w.spare_store("reconnect")},
    "ReconnectImageStoreBackupStorage": lambda w: {"uuid": w.spare_store("reconnect")},
    "ReclaimSpaceFromImageStore": lambda w: {"uuid": w.store["uuid"]},
    "DeleteBackupStorage": lambda w: {"uuid": new_uuid(), "deleteMode": "Permissive"},
    "ExportImageFromBackupStorage": lambda w: {
        "backupStorageUuid": w.store["uuid"],
        "imageUuid": w.image["uuid"],
    },
    "DeleteExportedImageFromBackupStorage": lambda w: {
        "backupStorageUuid": w.store["uuid"],
        "imageUuid": w.image["uuid"],
    },
    "AttachBackupStorageToZone": lambda w: {
        "zoneUuid": w.new_zone(),
        "backupStorageUuid": w.store["uuid"],
    },
    "DetachBackupStorageFromZone": lambda w: {
        "zoneUuid": w.attached_zone(),
        "backupStorageUuid": w.store["uuid"],
    },
    "BackupStorageMigrateImage": lambda w: {
        "imageUuid": w.new_image()["uuid"],
        "srcBackupStorageUuid": w.store["uuid"],
        "dstBackupStorageUuid": w.spare_store("migration"),
    },
    "DeleteZone": lambda w: {"uuid": w.new_zone(), "deleteMode": "Permissive"},
    "DeleteCluster": lambda w: {"uuid": w.new_cluster(), "deleteMode": "Permissive"},
}
