"""The requests that the manual prints in 4.3.12 and 4.3.13, sent with curl, on the printed uuids of VMs."""

from __future__ import annotations

import pytest

from tests.contract.conftest import World
from tests.contract.params import USB
from tests.contract.test_manual_chapter3 import authorized, curl
from tests.contract.test_manual_chapter4 import sent


def test_the_printed_request_for_the_switch_gets_the_printed_answer(world: World) -> None:
    vm = world.new_vm(resourceUuid="4b9d28c1d35f4f14b8ba1bb982500c50")["uuid"]
    answer = curl(world.admin, "GET", f"/vm-instances/{vm}/usbredirect", **authorized(world.admin))
    assert (answer.status, answer.body) == (200, {"enable": False})


@pytest.mark.parametrize("enable", [True, False])
def test_the_printed_request_that_sets_the_switch_gets_an_empty_answer(world: World, enable: bool) -> None:
    uuid = "ceeca8ab8c6b33fab9bdc143dec13211"
    if not world.admin.query(f"/vm-instances/{uuid}"):
        world.new_vm(resourceUuid=uuid)
    body = {"setVmUsbRedirect": {"enable": enable}, "systemTags": [], "userTags": []}
    answer = sent(world, "PUT", f"/vm-instances/{uuid}/actions", body)
    assert (answer.status, answer.body) == (200, {})
    assert world.admin.get(f"/vm-instances/{uuid}/usbredirect").body == {"enable": enable}


def test_the_printed_requests_that_attach_and_detach_get_the_printed_kind_of_answer(world: World) -> None:
    vm = world.new_vm(resourceUuid="2a3697245a4a3e829a246e222c243688")["uuid"]
    device = world.usb("detach")
    attached = sent(world, "POST", f"{USB}/{device}/attach", {"params": {"vmInstanceUuid": vm}})
    assert attached.status == 200, attached
    inventory = attached.body["inventory"]
    assert (inventory["uuid"], inventory["vmInstanceUuid"]) == (device, vm)
    assert {"name", "hostUuid", "state", "busNum", "devNum", "idVendor", "usbVersion"} <= set(inventory)
    for body in ({"params": {}, "systemTags": [], "userTags": []}, {"params": {}}):
        detached = sent(world, "POST", f"{USB}/{device}/detach", body)
    assert detached.error["code"] == "SYS.1006", "the second one finds it free"
    assert "vmInstanceUuid" not in world.admin.query(f"{USB}/{device}")[0]


def test_the_candidates_are_listed_as_inventories(world: World) -> None:
    vm, device = world.new_vm()["uuid"], world.usb("detach")
    path = f"/vm-instances/{vm}/candidate-usb-devices"
    answer = curl(world.admin, "GET", path, **authorized(world.admin))
    assert answer.status == 200
    assert device in [one["uuid"] for one in answer.body["inventories"]]
    newer = curl(world.admin, "GET", f"{path}?attachType=PassThrough", **authorized(world.admin))
    assert newer.body == answer.body, "clients of later versions name how it is attached"
