from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.contract.catalogue import CREATES, QUERIES, SERVED_OPERATIONS, TYPES, Operation
from tests.contract.conftest import World
from tests.contract.moving import moving, still
from tests.contract.params import ABSENT
from tests.node import Rest

DATE = re.compile(r"[A-Z][a-z]{2} [1-9]\d?, \d{4} [1-9]\d?:\d\d:\d\d [AP]M")
DATE_FORM = "%b %d, %Y %I:%M:%S %p"
JAVA = {
    "String": str,
    "Long": int,
    "long": int,
    "Integer": int,
    "int": int,
    "Boolean": bool,
    "boolean": bool,
    "List": list,
    "LinkedHashMap": dict,
    "ImageStoreGcResult": dict,
}
NOT_SHOWN = ("password", "chapUserPassword", "hostUuids", "diskUuids", "monUrls", "isCreate")
"""Parameters that no inventory shows."""
MAY_BE_NULL = {
    "ZoneInventory": {"description"},
    "ClusterInventory": {"description"},
    "HostInventory": {"description"},
    "HostDiskCapacity": set(),
    "LocalStorageResourceRefInventory": set(),
    "PrimaryStorageInventory": {"description"},
    "SharedBlockGroupPrimaryStorageInventory": {"description"},
    "SharedBlockGroupPrimaryStorageHostRefInventory": set(),
    "SharedBlockInventory": {"description"},
    "SharedBlockCandidateStruct": {"hctl", "model", "serial", "vendor", "wwn"},
    "VolumeInventory": {"description", "deviceId", "diskOfferingUuid", "rootImageUuid", "vmInstanceUuid"},
    "InstanceOfferingPciDeviceOfferingRefInventory": {"metadata"},
    "PciDeviceMetaData": set(),
    "PciDeviceMetaDataEntry": set(),
    "PciDeviceOfferingInventory": {"description", "subvendorId", "subdeviceId"},
    "PciDevicePciDeviceOfferingRefInventory": set(),
    "PciDeviceInventory": {"metaData", "matchedPciDeviceOfferingRef", "vmInstanceUuid"},
    "IscsiServerInventory": {"chapUserName", "chapUserPassword"},
    "IscsiTargetInventory": set(),
    "IscsiLunInventory": set(),
    "IscsiServerClusterRefInventory": set(),
    "UsbDeviceInventory": {"description", "vmInstanceUuid"},
    "BackupStorageInventory": {"description"},
    "CephBackupStorageInventory": {"description"},
    "CephBackupStorageMonInventory": set(),
    "CephPrimaryStorageInventory": {"description"},
    "CephPrimaryStorageMonInventory": set(),
    "CephPrimaryStoragePoolInventory": {"aliasName", "description"},
    "ImageStoreBackupStorageInventory": {"description"},
    "ImageInventory": {"description", "md5Sum", "guestOsType", "exportUrl"},
    "ImageBackupStorageRefInventory": {"exportUrl", "exportMd5Sum"},
    "LongJobInventory": {"description", "jobResult", "managementNodeUuid"},
    "ErrorCode": {"cause", "elaboration", "opaque"},
    "Map<hostUuid,ShellResult>": {"errorCode"},
}
"""Documented fields that a resource may be without; nulls are left out."""
UPDATES = [
    operation
    for operation in SERVED_OPERATIONS
    if operation.name.startswith("Update") and any(p.name == "name" for p in operation.params)
]


def faults(value: Any, kind: str, where: str) -> Iterator[str]:
    """Yield what of a value is not as its documented type says."""
    if value is None:
        yield f"{where} is null, not left out"
    elif kind.endswith("[]"):
        if not isinstance(value, list):
            yield f"{where} is no list: {value!r}"
            return
        for position, item in enumerate(value):
            yield from faults(item, kind.removesuffix("[]"), f"{where}[{position}]")
    elif kind.startswith("Map<"):
        for key, item in value.items():
            yield from _object_faults(item, kind, f"{where}[{key}]")
    elif kind in TYPES:
        yield from _object_faults(value, kind, where)
    elif kind == "Timestamp":
        if not isinstance(value, str) or not DATE.fullmatch(value):
            yield f"{where} is no date: {value!r}"
    elif type(value) is not JAVA.get(kind, str):  # what is left are enumerations: texts
        yield f"{where} is no {kind}: {value!r}"


def _object_faults(value: Any, kind: str, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no {kind}: {value!r}"
        return
    yield from (f"{where} has no {name}" for name in TYPES[kind].keys() - value.keys() - MAY_BE_NULL[kind])
    for name, item in value.items():
        if name in TYPES[kind]:
            yield from faults(item, TYPES[kind][name], f"{where}.{name}")
        elif item is None:
            yield f"{where}.{name} is null, not left out"


def reply_of(world: World, operation: Operation) -> dict[str, Any]:
    """Return the body of an operation that goes well."""
    if operation.method == "GET":
        answer = world.admin.get(world.path(operation, operation.paths[0]), **world.query_for(operation))
    else:
        answer = world.admin.wait(world.call(operation, world.params(operation)).location)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"].startswith("application/json")
    body: dict[str, Any] = answer.body
    return body


@pytest.mark.parametrize("operation", SERVED_OPERATIONS, ids=lambda o: o.name)
def test_a_reply_has_the_documented_keys_and_types(world: World, operation: Operation) -> None:
    body = reply_of(world, operation)
    assert set(body) == set(operation.reply)
    assert not [fault for key, kind in operation.reply.items() for fault in faults(body[key], kind, key)]


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
def test_the_recorded_machine_and_its_world_give_every_query_something_to_show(
    world: World, operation: Operation
) -> None:
    assert world.admin.query(operation.paths[0])


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
def test_one_resource_comes_under_both_keys(world: World, operation: Operation) -> None:
    listed = world.admin.query(operation.paths[0], limit="1")[0]
    answer = world.admin.get(f"{operation.paths[0]}/{listed['uuid']}")
    assert answer.status == 200
    shown = answer.body["inventory"]
    assert answer.body == {"inventories": [shown], "inventory": shown}
    assert still([shown]) == still([listed])


@pytest.mark.parametrize("operation", QUERIES, ids=lambda o: o.name)
@pytest.mark.parametrize("uuid", [ABSENT, "nonsense", "%27%20OR%201=1%20--", "%00", "a%2Fb"])
def test_a_resource_that_does_not_exist_is_an_empty_list(
    world: World, operation: Operation, uuid: str
) -> None:
    answer = world.admin.get(f"{operation.paths[0]}/{uuid}")
    if uuid == "a%2Fb":
        assert answer.status in (200, 404)
    else:
        assert (answer.status, answer.body) == (200, {"inventories": []})


@pytest.mark.parametrize("operation", CREATES, ids=lambda o: o.name)
def test_a_created_resource_is_found_as_it_was_answered(world: World, operation: Operation) -> None:
    params = world.params(operation)
    if any(parameter.name == "description" for parameter in operation.params):
        params["description"] = "as it was answered"
    created = world.admin.wait(world.call(operation, params).location).body["inventory"]
    (found,) = world.admin.query(operation.queried_at, f"uuid={created['uuid']}")
    assert still([found]) == still([created])
    given = {k: v for k, v in params.items() if k not in NOT_SHOWN}
    assert given.items() <= found.items()
    assert "password" not in found


def test_dates_are_those_of_now_in_utc(world: World) -> None:
    before = int(time.time())
    zone = world.admin.create("/zones", name="dated")
    created = datetime.strptime(zone["createDate"], DATE_FORM).replace(tzinfo=UTC).timestamp()
    assert before <= created <= time.time()
    assert zone["lastOpDate"] == zone["createDate"]


def test_a_zone_and_a_cluster_are_born_enabled_and_of_type_zstack(world: World) -> None:
    for inventory in (world.zone, world.cluster):
        assert (inventory["state"], inventory["type"]) == ("Enabled", "zstack")
    assert world.cluster["zoneUuid"] == world.zone["uuid"]


@pytest.mark.parametrize("operation", UPDATES, ids=lambda o: o.name)
def test_a_change_of_nothing_leaves_everything_and_one_of_a_name_only_the_name(
    world: World, operation: Operation
) -> None:
    params = {key: value for key, value in world.params(operation).items() if key in ("uuid", "name")}
    path = operation.paths[0].partition("/{")[0].removesuffix("/kvm")
    (before,) = world.admin.query(path, f"uuid={params['uuid']}")
    unchanged = world.admin.wait(world.call(operation, {"uuid": params["uuid"]}).location).body["inventory"]
    assert {k for k in before if unchanged[k] != before[k]} - moving(before) == set()
    changed = world.admin.wait(world.call(operation, params).location).body["inventory"]
    assert {k for k in before if changed[k] != before[k]} - {"lastOpDate"} - moving(before) == {"name"}
    assert changed["name"] == params["name"]


def test_a_host_is_added_connected_with_the_capacity_of_its_machine(world: World) -> None:
    expected = {
        "state": "Enabled",
        "status": "Connected",
        "hypervisorType": "KVM",
        "managementIp": "127.0.0.1",
        "zoneUuid": world.zone["uuid"],
        "clusterUuid": world.cluster["uuid"],
        "cpuNum": 40,
        "cpuSockets": 4,
        "totalCpuCapacity": 400,
        "availableCpuCapacity": 400,
        "totalMemoryCapacity": 542134673408,
    }
    assert expected.items() <= world.host.items()


def test_the_devices_of_the_machine_are_in_the_api_with_their_addresses(world: World) -> None:
    mine = f"hostUuid={world.host['uuid']}"
    pci = world.admin.query("/pci-device/pci-devices", mine)
    assert len(pci) == 37
    assert {"pciDeviceAddress", "vendorId", "deviceId", "subvendorId", "subdeviceId"} <= set(pci[0])
    assert all(
        re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", d["pciDeviceAddress"]) for d in pci
    )
    assert {d["status"] for d in pci} == {"System"}  # the machine has no IOMMU
    (usb,) = world.admin.query("/usb-device/usb-devices", mine)
    assert (usb["idVendor"], usb["idProduct"], usb["busNum"], usb["devNum"]) == ("0624", "0248", "005", "002")


def test_the_lists_of_types_and_strategies_are_the_documented_ones(admin: Rest) -> None:
    assert admin.get("/hosts/hypervisor-types").body == {"hypervisorTypes": ["KVM", "Simulator"]}
    strategies = admin.get("/hosts/allocators/strategies").body
    assert strategies["strategies"] == strategies["hostAllocatorStrategies"]
    assert "LeastVmPreferredHostAllocatorStrategy" in strategies["strategies"]


def test_a_head_request_is_a_get_without_the_body(admin: Rest) -> None:
    answer = admin.call("HEAD", "/zones")
    assert (answer.status, answer.raw) == (200, b"")
