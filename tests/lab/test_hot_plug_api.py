"""Devices that are plugged into a real host come into the API by themselves, and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.helpers import wait_until
from tests.lab.guest import Guest
from tests.lab.hosts import add_host, make_cluster
from tests.lab.lab import Lab
from tests.node import Node, Rest, run_node

PCI = "/pci-device/pci-devices"
USB = "/usb-device/usb-devices"
SEEN_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def kvm1(lab: Lab) -> Guest:
    return lab.guest("kvm1")


@pytest.fixture(scope="module")
def node(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture(scope="module")
def admin(node: Node) -> Rest:
    return node.rest().logged_in()


@pytest.fixture(scope="module")
def host_uuid(admin: Rest, kvm1: Guest) -> str:
    return str(add_host(admin, make_cluster(admin), kvm1)["uuid"])


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    """Wait for a condition and return how long it took; the time is told, it decides nothing."""
    begin = time.monotonic()
    wait_until(condition, what, SEEN_TIMEOUT_S)
    return time.monotonic() - begin


def test_a_usb_disk_that_is_plugged_is_in_the_api_and_gone_when_it_is_unplugged(
    kvm1: Guest, admin: Rest, host_uuid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def serials() -> list[str]:
        return [device.get("iSerial", "") for device in admin.query(USB, f"hostUuid={host_uuid}")]

    assert "LABUSB1" in serials()
    kvm1.add_disk("hot")
    kvm1.plug("usb-storage", "hotusb", bus="xhci.0", port="5", drive="hot", serial="HOTUSB1")
    came = seconds_until(lambda: "HOTUSB1" in serials(), "the USB disk is in the API")
    kvm1.unplug("hotusb")
    went = seconds_until(lambda: "HOTUSB1" not in serials(), "the USB disk is out of the API")
    with capsys.disabled():
        print(
            f"\nUSB, from QMP to the API: came in {came:.2f} s, gone {went:.2f} s after the guest let it go"
        )


def test_a_pci_card_that_is_plugged_is_in_the_api_and_gone_when_it_is_unplugged(
    kvm1: Guest, admin: Rest, host_uuid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def addresses() -> list[str]:
        devices = admin.query(PCI, f"hostUuid={host_uuid}")
        return [device.get("pciDeviceAddress", "") for device in devices]  # what is gone has none

    def at_root_port_7() -> bool:
        return any("07:00.0" in address for address in addresses())

    assert any("01:00.0" in address for address in addresses())
    kvm1.plug("e1000e", "hotnic", bus="rp7", mac="52:54:00:99:0e:07")
    came = seconds_until(at_root_port_7, "the network card is in the API")
    kvm1.unplug("hotnic")
    went = seconds_until(lambda: not at_root_port_7(), "the network card is out of the API")
    with capsys.disabled():
        print(
            f"\nPCI, from QMP to the API: came in {came:.2f} s, gone {went:.2f} s after the guest let it go"
        )
