"""The documented operations, as `distil.py` wrote them down, and which of them are served."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTENT: dict[str, Any] = json.loads(Path(__file__).with_name("operations.json").read_text())
TYPES: dict[str, dict[str, str]] = _CONTENT["types"]

SERVED = {
    "AddIscsiServer",
    "AttachIscsiServerToCluster",
    "DeleteIscsiServer",
    "DetachIscsiServerFromCluster",
    "QueryIscsiLun",
    "QueryIscsiServer",
    "RefreshIscsiServer",
    "UpdateIscsiServer",
    "AddCephBackupStorage",
    "AddCephPrimaryStorage",
    "AddCephPrimaryStoragePool",
    "AddImageStoreBackupStorage",
    "AddKVMHost",
    "AddLocalPrimaryStorage",
    "AddNfsPrimaryStorage",
    "AddSharedBlockGroupPrimaryStorage",
    "AddSharedBlockToSharedBlockGroup",
    "AddSharedMountPointPrimaryStorage",
    "AddMonToCephBackupStorage",
    "AddMonToCephPrimaryStorage",
    "AttachBackupStorageToZone",
    "AttachPrimaryStorageToCluster",
    "AttachPciDeviceToVm",
    "AttachUsbDeviceToVm",
    "BackupStorageMigrateImage",
    "ChangeBackupStorageState",
    "ChangeClusterState",
    "ChangeHostState",
    "ChangePrimaryStorageState",
    "ChangeZoneState",
    "CleanUpImageCacheOnPrimaryStorage",
    "CreateCluster",
    "CreatePciDeviceOffering",
    "CreateZone",
    "DeleteBackupStorage",
    "DeleteCephPrimaryStoragePool",
    "DeleteCluster",
    "DeleteExportedImageFromBackupStorage",
    "DeleteHost",
    "DeletePciDevice",
    "DeletePciDeviceOffering",
    "DeletePrimaryStorage",
    "DeleteZone",
    "DetachBackupStorageFromZone",
    "DetachPrimaryStorageFromCluster",
    "DetachPciDeviceFromVm",
    "DetachUsbDeviceFromVm",
    "ExportImageFromBackupStorage",
    "GetBackupStorageCandidatesForImageMigration",
    "GetBackupStorageCapacity",
    "GetBackupStorageTypes",
    "GetHostAllocatorStrategies",
    "GetHostIommuState",
    "GetHostIommuStatus",
    "GetHypervisorTypes",
    "GetLocalStorageHostDiskCapacity",
    "GetPciDeviceCandidatesForAttachingVm",
    "GetPciDeviceCandidatesForNewCreateVm",
    "GetPrimaryStorageAllocatorStrategies",
    "GetPrimaryStorageCandidatesForVolumeMigration",
    "GetPrimaryStorageCapacity",
    "GetPrimaryStorageTypes",
    "GetSharedBlockCandidate",
    "GetUsbDeviceCandidatesForAttachingVm",
    "GetVmUsbRedirect",
    "KvmRunShell",
    "LocalStorageGetVolumeMigratableHosts",
    "LocalStorageMigrateVolume",
    "PrimaryStorageMigrateVolume",
    "QueryBackupStorage",
    "QueryCephBackupStorage",
    "QueryCephPrimaryStorage",
    "QueryCephPrimaryStoragePool",
    "QueryCluster",
    "QueryHost",
    "QueryImageStoreBackupStorage",
    "QueryLocalStorageResourceRef",
    "QueryPciDevice",
    "QueryPciDeviceOffering",
    "QueryPciDevicePciDeviceOffering",
    "QueryPrimaryStorage",
    "QuerySharedBlock",
    "QuerySharedBlockGroupPrimaryStorage",
    "QuerySharedBlockGroupPrimaryStorageHostRef",
    "QueryUsbDevice",
    "QueryZone",
    "ReclaimSpaceFromImageStore",
    "ReconnectBackupStorage",
    "ReconnectHost",
    "ReconnectImageStoreBackupStorage",
    "ReconnectPrimaryStorage",
    "RefreshSharedblockDeviceCapacity",
    "RemoveMonFromCephBackupStorage",
    "RemoveMonFromCephPrimaryStorage",
    "SetVmUsbRedirect",
    "SyncPrimaryStorageCapacity",
    "UpdateBackupStorage",
    "UpdateCephBackupStorageMon",
    "UpdateCephPrimaryStorageMon",
    "UpdateCephPrimaryStoragePool",
    "UpdateCluster",
    "UpdateClusterOS",
    "UpdateHostIommuState",
    "UpdateHost",
    "UpdateImageStoreBackupStorage",
    "UpdateKVMHost",
    "UpdatePciDevice",
    "UpdatePrimaryStorage",
    "UpdateUsbDevice",
    "UpdateZone",
}
"""Documented operations that this version serves. One that is added is added here too."""

BESIDE_THE_MANUAL = {
    "RecoverSharedBlockGroup",
    "RotateCephPrimaryStorageKey",
    "AddImage",
    "ChangeImageState",
    "DeleteImage",
    "ExpungeImage",
    "QueryImage",
    "RecoverImage",
    "UpdateImage",
    "AddSimulatorHost",
    "CancelLongJob",
    "ChangeDiskOfferingState",
    "ChangeVolumeState",
    "CreateAccount",
    "CreateDataVolume",
    "CreateDataVolumeFromVolumeTemplate",
    "CreateDiskOffering",
    "CreateSystemTag",
    "CreateUserTag",
    "CreateVolumeSnapshot",
    "DeleteAccount",
    "DeleteDataVolume",
    "DeleteDiskOffering",
    "DeleteLongJob",
    "DeleteTag",
    "DeleteVolumeSnapshot",
    "ExpungeDataVolume",
    "GetApiDescription",
    "GetCurrentTime",
    "GetKvmShellOutput",
    "GetVersion",
    "IsReadyToGo",
    "LogInByAccount",
    "LogOut",
    "QueryAccount",
    "QueryAudit",
    "QueryBlockDevice",
    "QueryDiskOffering",
    "GetTaskProgress",
    "QueryGlobalConfig",
    "QueryLongJob",
    "SubmitLongJob",
    "QuerySystemTag",
    "QueryUserTag",
    "QueryManagementNode",
    "QueryVolume",
    "QueryVolumeSnapshot",
    "RebindPciDevice",
    "RecoverDataVolume",
    "RenewSession",
    "ResizeDataVolume",
    "ResizeRootVolume",
    "RevertVolumeFromSnapshot",
    "SyncVolumeSize",
    "UpdateAccount",
    "UpdateDiskOffering",
    "UpdateGlobalConfig",
    "UpdateSystemTag",
    "UpdateVolume",
    "UpdateVolumeSnapshot",
    "ValidateSession",
    "AddIpRange",
    "AddIpRangeByNetworkCidr",
    "AttachDataVolumeToVm",
    "AttachL2NetworkToCluster",
    "DetachDataVolumeFromVm",
    "ChangeInstanceOfferingState",
    "CreateInstanceOffering",
    "CreateL2NoVlanNetwork",
    "CreateL2VlanNetwork",
    "CreateL3Network",
    "CreateVmInstance",
    "DeleteInstanceOffering",
    "DeleteIpRange",
    "DeleteL2Network",
    "DeleteL3Network",
    "DestroyVmInstance",
    "DetachL2NetworkFromCluster",
    "ExpungeVmInstance",
    "GetVmConsoleAddress",
    "GetVmConsolePassword",
    "GetVmMigrationCandidateHosts",
    "MigrateVm",
    "QueryInstanceOffering",
    "QueryIssue",
    "QueryIpRange",
    "QueryL2Network",
    "QueryL2VlanNetwork",
    "QueryL3Network",
    "QueryVmInstance",
    "QueryVmNic",
    "RebootVmInstance",
    "RecoverVmInstance",
    "StartVmInstance",
    "StopVmInstance",
    "UpdateInstanceOffering",
    "UpdatePciDeviceBootDriver",
    "UpdatePciDeviceVirtualFunctions",
    "UpdateL2Network",
    "UpdateL3Network",
    "UpdateVmInstance",
}
"""Operations that the manual's hardware chapters do not describe."""


MEANT_REPLIES = {
    "QueryPciDevicePciDeviceOffering": {"inventories": "PciDevicePciDeviceOfferingRefInventory[]"},
}
"""Replies whose printed type is not what the operation's name and its SDK say."""


OPTIONAL = {("AddCephBackupStorage", "url"), ("AddCephPrimaryStorage", "url")}
"""Parameters that are printed as required, as unused, and left out of the manual's own examples."""


@dataclass(frozen=True)
class Parameter:
    """A documented parameter; `place` is body, url or query."""

    name: str
    type: str
    place: str
    required: bool
    enum: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """A documented operation; `reply` maps the keys of its reply to types."""

    name: str
    method: str
    paths: tuple[str, ...]
    wrapper: str | None
    is_job: bool
    params: tuple[Parameter, ...]
    reply: dict[str, str]

    @property
    def queried_at(self) -> str:
        """The path of the list that shows what the operation creates."""
        if self.name == "AddKVMHost":
            return "/hosts"
        if self.name == "AddCephPrimaryStoragePool":
            return "/primary-storage/ceph/pools"
        if self.name.startswith("AddCeph"):
            return self.paths[0]
        return "/primary-storage" if self.name.endswith("PrimaryStorage") else self.paths[0]

    @property
    def is_query(self) -> bool:
        return self.name.startswith("Query")

    @property
    def creates(self) -> bool:
        """Whether it makes a resource, whose uuid may be chosen."""
        return self.method == "POST" and any(p.name == "resourceUuid" for p in self.params)

    def required_in_body(self) -> list[Parameter]:
        return [p for p in self.params if p.required and p.place == "body"]


def _is_required(operation: str, name: str, entry: dict[str, Any]) -> bool:
    return bool(entry.get("required", False)) and (operation, name) not in OPTIONAL


def _operation(name: str, entry: dict[str, Any]) -> Operation:
    params = tuple(
        Parameter(n, p["type"], p["in"], _is_required(name, n, p), tuple(p.get("enum", ())))
        for n, p in entry["params"].items()
    )
    return Operation(
        name,
        entry["method"],
        tuple(entry["paths"]),
        entry.get("wrapper"),
        entry["async"],
        params,
        MEANT_REPLIES.get(name, entry["reply"]),
    )


OPERATIONS = {name: _operation(name, entry) for name, entry in _CONTENT["operations"].items()}
"""All documented operations."""

SERVED_OPERATIONS = [OPERATIONS[name] for name in sorted(SERVED)]
QUERIES = [operation for operation in SERVED_OPERATIONS if operation.is_query]
CREATES = [operation for operation in SERVED_OPERATIONS if operation.creates]
WITH_BODY = [operation for operation in SERVED_OPERATIONS if operation.wrapper]
JOBS = [operation for operation in SERVED_OPERATIONS if operation.is_job]
