"""PCI functions of a real kernel, given to VMs under KVM and taken back, whatever breaks meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab.calls import added, made, run
from tests.lab.guest import Guest
from tests.lab.hosts import CONNECTED_TIMEOUT_S, Fleet
from tests.lab.lab import Lab
from tests.lab.machine import Start
from tests.lab.nested import Nested
from tests.node import Answer

pytestmark = pytest.mark.takes(minutes=30)

NIC, NVME, VIDEO, SOUND = "0000:01:00.0", "0000:02:00.0", "0000:04:00.0", "0000:04:00.1"
NIC_MOVED = "0000:06:00.0"
ROOT_DISK, MANAGEMENT_NIC = "0000:00:01.0", "0000:00:02.0"
NIC_IDS, NVME_IDS = "0x8086:0x10d3", "0x1b36:0x0010"
DEVICES = "/pci-device/pci-devices"
TIMEOUT_S = 300.0


@pytest.fixture(scope="module")
def kvm1(lab: Lab, fleet: Fleet) -> Guest:
    del fleet  # brings it up
    return lab.machine("kvm1")


@pytest.fixture(scope="module")
def vm(fleet: Fleet, kvm1: Guest) -> Nested:
    storage = added(fleet.admin, fleet.cluster, "local-storage", "/srv/local")
    return Nested.make(fleet, kvm1, storage)


def device(fleet: Fleet, address: str) -> dict[str, Any]:
    host = fleet.hosts["kvm1"]
    (found,) = fleet.admin.query(DEVICES, f"hostUuid={host}", f"pciDeviceAddress={address}")
    return found


def by_uuid(fleet: Fleet, uuid: str) -> dict[str, Any]:
    (found,) = fleet.admin.query(f"{DEVICES}/{uuid}")
    return found


def attach(vm: Nested, uuid: str, **more: Any) -> Answer:
    body = {"params": {"vmInstanceUuid": vm.uuid, **more}}
    return run(vm.fleet.admin, "POST", f"{DEVICES}/{uuid}/attach", body)


def detach(vm: Nested, uuid: str) -> dict[str, Any]:
    body = {"params": {"vmInstanceUuid": vm.uuid}}
    return made(run(vm.fleet.admin, "POST", f"{DEVICES}/{uuid}/detach", body))


def driver(guest: Guest, address: str) -> str:
    link = f"/sys/bus/pci/devices/{address}/driver"
    return guest.run(f"[ -e {link} ] && basename $(readlink {link}) || echo none").strip()


def wait_for_driver(guest: Guest, address: str, name: str, *, other: bool = False) -> None:
    """Wait until a function has a driver, or any `other` one, or none."""
    link, sign = f"/sys/bus/pci/devices/{address}/driver", "!=" if other else "="
    guest.wait_for(f"[ $(basename $(readlink {link} || echo none)) {sign} {name} ]", TIMEOUT_S)


def test_what_the_host_lives_on_and_half_a_group_are_refused(fleet: Fleet, vm: Nested, kvm1: Guest) -> None:
    for address, reason in ((ROOT_DISK, "root file system"), (MANAGEMENT_NIC, "management address")):
        refused = attach(vm, device(fleet, address)["uuid"])
        assert (refused.error["code"], reason in refused.error["details"]) == ("SYS.1006", True), refused
    alone = attach(vm, device(fleet, VIDEO)["uuid"])
    assert f"{VIDEO} shares" in alone.error["details"]
    assert SOUND in alone.error["details"]
    assert (driver(kvm1, VIDEO), driver(kvm1, SOUND)) == ("bochs-drm", "snd_hda_intel")
    told = fleet.admin.get(f"/vm-instances/{vm.uuid}/candidate-pci-devices", explain="true").body
    found = {row["pciDeviceAddress"] for row in told["inventories"]}
    assert {NIC, NVME} <= found
    assert not found & {ROOT_DISK, MANAGEMENT_NIC, VIDEO, SOUND}


def test_a_vm_starts_with_a_card_and_gets_and_loses_others_as_it_runs(
    fleet: Fleet, vm: Nested, kvm1: Guest
) -> None:
    nic, nvme, video = (device(fleet, address)["uuid"] for address in (NIC, NVME, VIDEO))
    assert made(attach(vm, nic))["status"] == "Attached"
    assert driver(kvm1, NIC) == "e1000e", "a VM that is stopped needs nothing"
    made(vm.start())
    assert driver(kvm1, NIC) == "vfio-pci"
    vm.wait_for(NIC_IDS)
    made(attach(vm, nvme))
    assert driver(kvm1, NVME) == "vfio-pci"
    vm.wait_for(f"{NVME_IDS}.*BLK:.*nvme0n1")
    assert detach(vm, nvme)["status"] == "Active"
    wait_for_driver(kvm1, NVME, "nvme")
    vm.wait_without(NVME_IDS)
    made(attach(vm, video, wholeGroup=True))
    assert (driver(kvm1, VIDEO), driver(kvm1, SOUND)) == ("vfio-pci", "vfio-pci")
    vm.wait_for("0x8086:0x2668")
    detach(vm, video)
    assert (driver(kvm1, VIDEO), driver(kvm1, SOUND)) == ("bochs-drm", "snd_hda_intel")
    assert detach(vm, nic)["status"] == "Active"
    wait_for_driver(kvm1, NIC, "e1000e")
    vm.wait_without(NIC_IDS)


def test_a_usb_stick_is_given_to_a_vm_and_given_back_when_it_is_plugged_in_again(
    fleet: Fleet, vm: Nested, kvm1: Guest
) -> None:
    def plug() -> None:
        kvm1.plug("usb-storage", "stick", drive="stick", serial="LABSTICK", bus="xhci.0")

    def shown() -> list[dict[str, Any]]:
        return fleet.admin.query("/usb-device/usb-devices", "iSerial=LABSTICK")

    def missing() -> list[str]:
        issues = fleet.admin.query("/issues", "code=USB.DEVICE_MISSING")
        return [issue["resourceUuid"] for issue in issues]

    kvm1.add_disk("stick")
    with (kvm1.folder / "stick.raw").open("r+b") as file:
        file.write(b"STICK042")
    plug()
    wait_until(lambda: bool(shown()), "the stick to be in the API", TIMEOUT_S)
    (stick,) = shown()
    path, body = f"/usb-device/usb-devices/{stick['uuid']}", {"params": {"vmInstanceUuid": vm.uuid}}
    made(run(fleet.admin, "POST", f"{path}/attach", body))
    vm.wait_for("USB:.*46f4:0001.*/dev/sd[a-z]=STICK042")
    kvm1.unplug("stick")
    vm.wait_without("46f4:0001")
    wait_until(lambda: "devNum" not in shown()[0], "the stick to be gone", TIMEOUT_S)
    wait_until(lambda: missing() == [stick["uuid"]], "the stick to be an issue", TIMEOUT_S)
    plug()
    vm.wait_for("USB:.*46f4:0001.*/dev/sd[a-z]=STICK042")
    assert shown()[0]["vmInstanceUuid"] == vm.uuid
    made(run(fleet.admin, "POST", f"{path}/detach", body))
    vm.wait_without("46f4:0001")
    kvm1.wait_for("ls /sys/block | grep -q sd", TIMEOUT_S)
    kvm1.unplug("stick")
    kvm1.remove_disk("stick")


def wait_until_known(fleet: Fleet, vm: Nested) -> None:
    """Wait until a host whose agent was killed is connected again, and its VM known to run."""
    fleet.wait_until("kvm1", "Connected", TIMEOUT_S)
    wait_until(lambda: vm.state == "Running", "the VM to be known again", TIMEOUT_S)


def test_an_agent_that_is_killed_between_two_drivers_leaves_none_without_one(
    fleet: Fleet, vm: Nested, kvm1: Guest
) -> None:
    nic = device(fleet, NIC)["uuid"]
    agent = "systemctl show -P MainPID hardpoint-kvmagent"
    script = f"p=$({agent}); while [ -e /sys/bus/pci/devices/{NIC}/driver ]; do :; done; kill -9 $p"
    kvm1.run(f"nohup sh -c '{script}; echo killed >/root/killed' >/dev/null 2>&1 </dev/null & sleep 0.1")
    answer = attach(vm, nic)
    assert kvm1.run("cat /root/killed").strip() == "killed"
    if answer.status != 200:  # an emulated host may take longer to start its agent than the node waits
        assert answer.error["code"] == "HOST.1003"
        wait_until_known(fleet, vm)
        wait_for_driver(kvm1, NIC, "e1000e")
        made(attach(vm, nic))
    wait_until_known(fleet, vm)  # the agent may have ended its task before the host was found again
    assert driver(kvm1, NIC) == "vfio-pci"
    assert device(fleet, NIC)["vmInstanceUuid"] == vm.uuid
    vm.wait_for(NIC_IDS)


def test_a_libvirtd_that_is_killed_while_it_attaches_leaves_nothing_half_done(
    fleet: Fleet, vm: Nested, kvm1: Guest
) -> None:
    nvme = device(fleet, NVME)["uuid"]
    bound = f"[ -e /sys/bus/pci/drivers/vfio-pci/{NVME} ]"
    script = f"while ! {bound}; do :; done; kill -9 $(cat /run/libvirtd.pid)"
    kvm1.run(f"nohup sh -c '{script}; echo killed >/root/killed2' >/dev/null 2>&1 </dev/null & sleep 0.1")
    answer = attach(vm, nvme)
    assert kvm1.run("cat /root/killed2 || true").strip() == "killed", answer
    if answer.status == 200:
        vm.wait_for(NVME_IDS)
        detach(vm, nvme)
    wait_for_driver(kvm1, NVME, "nvme")
    wait_until(lambda: device(fleet, NVME)["status"] == "Active", "the device to be free", TIMEOUT_S)
    made(attach(vm, nvme))
    vm.wait_for(NVME_IDS)
    detach(vm, nvme)


def test_claims_find_their_cards_on_a_host_that_lost_its_power_and_got_them_elsewhere(
    lab: Lab, fleet: Fleet, vm: Nested, kvm1: Guest
) -> None:
    nic = device(fleet, NIC)["uuid"]
    assert driver(kvm1, NIC) == "vfio-pci", "the VM runs and has it"
    kvm1.run("sync")
    lab.boot("kvm1", start=Start(sriov=True, moved=True), keep_disks=True)
    fleet.wait_until("kvm1", "Connected", CONNECTED_TIMEOUT_S)
    wait_until(lambda: vm.state == "Stopped", "the VM to be seen as stopped", TIMEOUT_S)
    wait_until(
        lambda: by_uuid(fleet, nic).get("pciDeviceAddress") == NIC_MOVED, "the card to be found", TIMEOUT_S
    )
    assert by_uuid(fleet, nic)["vmInstanceUuid"] == vm.uuid
    where = (f"hostUuid={fleet.hosts['kvm1']}", f"pciDeviceAddress={NIC}")
    assert fleet.admin.query(DEVICES, *where) == [], "nothing is where it was"
    assert driver(kvm1, NIC_MOVED) == "e1000e"


def functions(fleet: Fleet) -> list[dict[str, Any]]:
    return fleet.admin.query(DEVICES, f"hostUuid={fleet.hosts['kvm1']}", f"physicalFunction={NVME}")


def test_a_virtual_function_is_made_and_given_to_a_vm_with_the_card(
    fleet: Fleet, vm: Nested, kvm1: Guest
) -> None:
    nvme = device(fleet, NVME)
    assert nvme["maxVirtualFunctions"] == 4
    path = f"{DEVICES}/{nvme['uuid']}/actions"
    body = {"updatePciDeviceVirtualFunctions": {"number": 2}}
    assert made(run(fleet.admin, "PUT", path, body))["virtualFunctions"] == 2
    wait_until(lambda: len(functions(fleet)) == 2, "the virtual functions to be devices", TIMEOUT_S)
    one = functions(fleet)[0]
    made(attach(vm, one["uuid"]))
    made(vm.start())
    assert driver(kvm1, one["pciDeviceAddress"]) == "vfio-pci"
    assert driver(kvm1, NIC_MOVED) == "vfio-pci"
    held = run(fleet.admin, "PUT", path, {"updatePciDeviceVirtualFunctions": {"number": 0}})
    assert f"VM {vm.uuid} has the virtual function" in held.error["details"]
    whole = attach(vm, nvme["uuid"])
    assert "virtual functions, which would be lost" in whole.error["details"]


def test_a_vm_that_is_killed_gives_its_devices_back_and_keeps_the_claims(
    fleet: Fleet, vm: Nested, kvm1: Guest
) -> None:
    kvm1.run("kill -9 $(pidof qemu-system-x86_64)")
    wait_until(lambda: vm.state == "Stopped", "the VM to be seen as stopped", TIMEOUT_S)
    wait_for_driver(kvm1, NIC_MOVED, "e1000e")
    one = next(function for function in functions(fleet) if "vmInstanceUuid" in function)
    wait_for_driver(kvm1, one["pciDeviceAddress"], "vfio-pci", other=True)
    assert (device(fleet, NIC_MOVED)["vmInstanceUuid"], one["vmInstanceUuid"]) == (vm.uuid, vm.uuid)
    detach(vm, one["uuid"])


def test_virtual_functions_are_there_again_after_a_boot(fleet: Fleet, kvm1: Guest) -> None:
    kvm1.reboot()
    fleet.wait_until("kvm1", "Connected", CONNECTED_TIMEOUT_S)
    assert kvm1.run(f"cat /sys/bus/pci/devices/{NVME}/sriov_numvfs").strip() == "2"
