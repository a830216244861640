"""What the manual prints of PCI devices for VMs (4.3.11.4 to 4.3.11.7), on the printed uuids."""

from __future__ import annotations

import pytest

from tests.contract.conftest import World
from tests.contract.test_manual_chapter3 import authorized, curl
from tests.contract.test_manual_chapter4 import sent

VM = "30f116d6602248249266776f279ef674"


@pytest.mark.parametrize(
    ("path", "vm"),
    [
        (
            "/pci-device/pci-devices/201b541edbed3dccbefaa57b3beb9bb/attach",
            "d3f41f8b996b390992cc4607e7bb10dc",
        ),
        (
            "/pci-device/pci-devices/f44964a4252a3de3a435d2ab04bb9fb8/detach",
            "42d2fcfc217f38faa02035132e7b4b16",
        ),
    ],
)
def test_the_printed_attach_and_detach_are_jobs_that_name_the_device(
    world: World, path: str, vm: str
) -> None:
    answer = sent(world, "POST", path, {"params": {"vmInstanceUuid": vm}})
    assert (answer.status, answer.error["code"]) == (503, "SYS.1003")
    assert path.split("/")[3] in answer.error["details"]


def test_the_printed_candidates_for_a_vm_name_the_vm(world: World) -> None:
    path = f"/vm-instances/{VM}/candidate-pci-devices"
    answer = curl(world.admin, "GET", path, None, **authorized(world.admin))
    assert (answer.status, answer.error["code"]) == (503, "SYS.1003")
    assert VM in answer.error["details"]


def test_the_printed_candidates_for_a_new_vm_are_a_list(world: World) -> None:
    path = f"/pci-device/candidate-pci-devices-for-new-create-vm?hostUuid={world.host['uuid']}"
    answer = curl(world.admin, "GET", path, None, **authorized(world.admin))
    assert (answer.status, answer.body) == (200, {"inventories": []}), "the recorded machine has no IOMMU"
    unknown = path.replace(world.host["uuid"], "3376aee6af913e278a1a6aa9c28c2e94")
    answer = curl(world.admin, "GET", unknown, None, **authorized(world.admin))
    assert (answer.status, answer.error["code"]) == (503, "SYS.1003")
