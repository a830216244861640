"""Devices that are plugged into a real host come into the API by themselves, and go."""

from __future__ import annotations

import pytest

from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.hot_plug import (
    Seconds,
    pci_addresses,
    pci_card_comes_and_goes,
    usb_disk_comes_and_goes,
    usb_serials,
)
from tests.lab.lab import Lab
from tests.node import Rest


@pytest.fixture(scope="module")
def kvm1(lab: Lab, fleet: Fleet) -> Guest:
    del fleet  # brings it up
    return lab.machine("kvm1")


@pytest.fixture(scope="module")
def admin(fleet: Fleet) -> Rest:
    return fleet.admin


@pytest.fixture(scope="module")
def host_uuid(fleet: Fleet) -> str:
    return fleet.hosts["kvm1"]


def test_a_usb_disk_that_is_plugged_is_in_the_api_and_gone_when_it_is_unplugged(
    kvm1: Guest, admin: Rest, host_uuid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "LABUSB1" in usb_serials(admin, host_uuid)
    tell(capsys, "USB", usb_disk_comes_and_goes(kvm1, admin, host_uuid))


def test_a_pci_card_that_is_plugged_is_in_the_api_and_gone_when_it_is_unplugged(
    kvm1: Guest, admin: Rest, host_uuid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert any("01:00.0" in address for address in pci_addresses(admin, host_uuid))
    tell(capsys, "PCI", pci_card_comes_and_goes(kvm1, admin, host_uuid))


def tell(capsys: pytest.CaptureFixture[str], kind: str, took: Seconds) -> None:
    """Print the times; they decide nothing."""
    with capsys.disabled():
        print(
            f"\n{kind}, from QMP to the API: came in {took.came:.2f} s, "
            f"gone {took.went:.2f} s after the guest let it go"
        )
