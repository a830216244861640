"""What the manual prints of PCI device offerings and of changed devices (4.3.11.2 to 4.3.11.11, 4.3.13.5)."""

from __future__ import annotations

import pytest

from tests.contract.conftest import World
from tests.contract.params import new_uuid
from tests.contract.test_manual_chapter3 import authorized, curl
from tests.contract.test_manual_chapter4 import check, sent

OFFERINGS = "/pci-device/pci-device-offerings"
DEVICES = "/pci-device/pci-devices"
REFS = ("/pci-devices/pci-devices/pci-device-offerings", "/pci-device/pci-devices/pci-device-offerings")
GRAPHICS = {"vendorId": "102b", "deviceId": "0532", "subvendorId": "1028", "subdeviceId": "02d3"}


def test_the_printed_update_of_a_pci_device_is_answered_with_its_metadata(world: World) -> None:
    uuid = world.device(DEVICES, "vendorId=102b")
    wanted = {"state": "Disabled", "description": "test pci", "metaData": "key1:value1;key2:value2"}
    shown = {
        "metaData": "key1:Equal:value1;key2:Equal:value2",
        "metaDataEntries": [
            {"key": "key1", "op": "Equal", "value": "value1"},
            {"key": "key2", "op": "Equal", "value": "value2"},
        ],
    }
    path = f"{DEVICES}/{uuid}/actions"
    body = {"updatePciDevice": wanted, "systemTags": [], "userTags": []}
    check(sent(world, "PUT", path, body), {**GRAPHICS, **wanted, "metaData": shown, "status": "System"})
    cleared = sent(world, "PUT", path, {"updatePciDevice": {"state": "Enabled", "metaData": ""}})
    assert cleared.body["inventory"]["state"] == "Enabled"
    assert "metaData" not in cleared.body["inventory"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("key", "'key'"),
        ("key:", "'key:'"),
        (":value", "':value'"),
        ("a:1;b", "'b'"),
        ("a:1;a:2", "'a' comes twice"),
    ],
)
def test_metadata_that_is_malformed_is_refused_before_there_is_a_job(
    world: World, text: str, named: str
) -> None:
    uuid = world.device(DEVICES, "vendorId=102b")
    answer = world.admin.call("PUT", f"{DEVICES}/{uuid}/actions", {"updatePciDevice": {"metaData": text}})
    assert (answer.status, answer.error["code"]) == (400, "SYS.1007")
    assert "metaData: " in answer.error["details"]
    assert named in answer.error["details"]


def test_a_device_that_its_host_shows_is_not_deleted_and_the_printed_one_is_gone_already(
    world: World,
) -> None:
    uuid = world.device(DEVICES, "vendorId=102b")
    refused = world.admin.run("DELETE", f"{DEVICES}/{uuid}?deleteMode=Enforcing", None)
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    assert "only one that is Inactive can be deleted" in refused.error["details"]
    path = f"{DEVICES}/eae6d78d9ae344babc2c32028bea20f0?deleteMode=Permissive"
    check(sent(world, "DELETE", path, None), None)


def test_the_printed_offering_is_made_and_deleted(world: World) -> None:
    body = {"params": {"name": "test", "vendorId": "10de", "deviceId": "0e0f"}}
    made = sent(world, "POST", OFFERINGS, {**body, "systemTags": [], "userTags": []})
    check(made, {**body["params"], "type": "Generic", "matchedPciDevices": []})
    again = sent(world, "POST", OFFERINGS, {"params": {"vendorId": "10DE", "deviceId": "0E0F"}})
    assert (again.status, again.error["code"]) == (503, "SYS.1007")
    assert made.body["inventory"]["uuid"] in again.error["details"]
    uuid = made.body["inventory"]["uuid"]
    check(sent(world, "DELETE", f"{OFFERINGS}/{uuid}?deleteMode=Permissive", None), None)
    assert world.admin.query(OFFERINGS, f"uuid={uuid}") == []


@pytest.mark.parametrize("name", ["vendorId", "deviceId", "subvendorId", "subdeviceId"])
@pytest.mark.parametrize("value", ["0x10", "10d", "10dee", "10dg"])
def test_an_id_is_four_hex_digits(world: World, name: str, value: str) -> None:
    params = {"vendorId": "10de", "deviceId": "0e0f", name: value}
    answer = world.admin.call("POST", OFFERINGS, {"params": params})
    assert (answer.status, answer.error["code"]) == (400, "SYS.1007")
    assert f"'{name}'" in answer.error["details"]
    assert "4 hex digits" in answer.error["details"]


def test_an_offering_and_the_devices_that_it_matches_show_each_other(world: World) -> None:
    uuid = world.device(DEVICES, "vendorId=102b")
    made = world.admin.create(OFFERINGS, **{**GRAPHICS, "subvendorId": "0000"}, type="GPU_Video")
    ref = {"pciDeviceUuid": uuid, "pciDeviceOfferingUuid": made["uuid"]}
    assert ref in made["matchedPciDevices"]
    (device,) = world.admin.query(DEVICES, f"uuid={uuid}")
    assert ref in device["matchedPciDeviceOfferingRef"]
    both = (f"pciDeviceUuid={uuid}", f"pciDeviceOfferingUuid={made['uuid']}")
    for path in REFS:
        answer = curl(world.admin, "GET", f"{path}?q={both[0]}&q={both[1]}", **authorized(world.admin))
        (found,) = answer.body["inventories"]
        assert ref.items() <= found.items()
    world.admin.run("DELETE", f"{OFFERINGS}/{made['uuid']}", None)
    (device,) = world.admin.query(DEVICES, f"uuid={uuid}")
    assert ref not in device["matchedPciDeviceOfferingRef"]


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        (DEVICES, "matchedPciDeviceOfferingRef.pciDeviceOffering.name=graphics"),
        (OFFERINGS, "matchedPciDevices.pciDevice.host.name=host"),
        (REFS[0], "pciDevice.vendorId=102b"),
        (REFS[1], "pciDeviceOffering.name=graphics"),
    ],
)
def test_queries_reach_from_devices_to_offerings_and_back(world: World, path: str, condition: str) -> None:
    assert world.admin.query(path, condition)
    assert not world.admin.query(path, condition.partition("=")[0] + "=no such value")


def test_an_instance_offering_asks_for_devices_by_its_tag(world: World) -> None:
    made = world.admin.create(OFFERINGS, vendorId="10de", deviceId="1eb8")
    wanted = {"name": "with a card", "cpuNum": 1, "memorySize": 2**30}
    tag = f"pciDevice::{made['uuid']}::2"
    offering = world.admin.create("/instance-offerings", **wanted, systemTags=[tag])
    (shown,) = world.admin.query(OFFERINGS, f"uuid={made['uuid']}")
    (ref,) = shown["attachedInstanceOfferings"]
    assert isinstance(ref.pop("id"), int)
    assert ref == {
        "instanceOfferingUuid": offering["uuid"],
        "pciDeviceOfferingUuid": made["uuid"],
        "pciDeviceCount": 2,
    }
    assert world.admin.query(OFFERINGS, "attachedInstanceOfferings.instanceOffering.name=with a card")
    absent = {**wanted, "systemTags": [f"pciDevice::{new_uuid()}"]}
    refused = world.admin.run("POST", "/instance-offerings", {"params": absent})
    assert (refused.status, refused.error["code"]) == (503, "SYS.1003")
    world.admin.run("DELETE", f"{OFFERINGS}/{made['uuid']}", None)
    assert world.admin.query("/system-tags", f"resourceUuid={offering['uuid']}") == []


def test_the_printed_update_of_a_usb_device_is_understood(world: World) -> None:
    uuid = world.device("/usb-device/usb-devices", "idVendor=0624")
    wanted = {"name": "usb", "description": "this is a usb device", "state": "Enabled"}
    body = {"updateUsbDevice": wanted, "systemTags": [], "userTags": []}
    check(sent(world, "PUT", f"/usb-device/usb-devices/{uuid}/actions", body), wanted)
