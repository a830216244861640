"""The IOMMU of a host that boots by GRUB is enabled by the API, active after a reboot, and disabled again."""

from __future__ import annotations

import pytest

from tests.helpers import wait_until
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab
from tests.lab.machine import GRUB, Start
from tests.node import Answer

CONNECTED_TIMEOUT_S = 180.0
UPDATE_TIMEOUT_S = 600.0
WRITTEN = ("/etc/default/grub.d/90-hardpoint-iommu.cfg", "/etc/modules-load.d/hardpoint-vfio.conf")


class Host:
    """A host that has booted by GRUB, as real ones do."""

    def __init__(self, fleet: Fleet, guest: Guest) -> None:
        self.fleet, self.guest = fleet, guest
        self.admin, self.uuid = fleet.admin, fleet.hosts[guest.name]

    def update(self, state: str) -> Answer:
        path = f"/pci-device/hosts/{self.uuid}/actions"
        accepted = self.admin.call("PUT", path, {"updateHostIommuState": {"state": state}})
        return self.admin.wait(accepted.location, UPDATE_TIMEOUT_S)

    def state(self) -> str:
        return str(self.admin.get(f"/pci-device/hosts/state/{self.uuid}").body["state"])

    def status(self) -> Answer:
        return self.admin.get(f"/pci-device/hosts/status/{self.uuid}")

    def reboot(self) -> None:
        self.guest.reboot()
        self.wait_until_connected()

    def wait_until_connected(self) -> None:
        boot = self.guest.run("cat /proc/sys/kernel/random/boot_id").strip()
        wait_until(
            lambda: self.fleet.status(self.guest.name) == "Connected" and self.status().status == 200,
            f"it is connected after the boot {boot}",
            CONNECTED_TIMEOUT_S,
        )

    def assignable(self) -> list[str]:
        """The PCI devices that could be given to a VM."""
        devices = self.admin.query("/pci-device/pci-devices", f"hostUuid={self.uuid}", "status=Active")
        return [device["pciDeviceAddress"] for device in devices]

    def files(self) -> str:
        """What the boot loader reads, and what is loaded at boot."""
        return self.guest.run(
            "cd /; find boot/grub/grub.cfg etc/default etc/modules-load.d -type f | sort | xargs sha256sum"
        )


@pytest.fixture(scope="module")
def guest(lab: Lab, fleet: Fleet) -> Guest:
    lab.machine("kvm1").run("sync")
    (guest,) = lab.boot("kvm1", start=Start(loader=GRUB), keep_disks=True)
    return guest


@pytest.fixture(scope="module")
def host(fleet: Fleet, guest: Guest) -> Host:
    host = Host(fleet, guest)
    host.wait_until_connected()
    return host


def test_enabled_is_active_after_a_reboot_and_disabled_is_as_it_was(host: Host, guest: Guest) -> None:
    assert "intel_iommu" not in guest.run("cat /proc/cmdline")
    guest.run("update-grub", 300)  # the image's menu was made elsewhere
    before = host.files()
    assert host.state() == "Disabled"
    assert host.status().body == {"status": "Inactive"}

    assert host.update("Enabled").body == {"state": "Enabled"}
    assert host.state() == "Enabled"
    assert host.status().body == {"status": "Inactive"}
    assert "reboot needed" in host.status().headers["X-Hardpoint-Notice"]
    assert "intel_iommu=on" in guest.run("cat /boot/grub/grub.cfg")
    assert guest.run(f"ls {' '.join(WRITTEN)}").split() == list(WRITTEN)

    host.reboot()
    assert "intel_iommu=on" in guest.run("cat /proc/cmdline").split()
    wait_until(lambda: host.status().body == {"status": "Active"}, "it is active", CONNECTED_TIMEOUT_S)
    assert "X-Hardpoint-Notice" not in host.status().headers
    wait_until(lambda: bool(host.assignable()), "devices may be given to VMs", CONNECTED_TIMEOUT_S)
    assert "vfio_pci" in guest.run("lsmod")

    assert host.update("Disabled").body == {"state": "Disabled"}
    assert host.files() == before
    assert host.status().body == {"status": "Active"}
    assert "disabled from the next boot" in host.status().headers["X-Hardpoint-Notice"]

    host.reboot()
    wait_until(lambda: host.status().body == {"status": "Inactive"}, "it is off again", CONNECTED_TIMEOUT_S)
    assert "intel_iommu" not in guest.run("cat /proc/cmdline")


def test_a_menu_that_cannot_be_made_changes_nothing(host: Host, guest: Guest) -> None:
    before = host.files()
    guest.write("/etc/grub.d/99_fails", "#!/bin/sh\necho no room on /boot >&2\nexit 1")
    guest.run("chmod +x /etc/grub.d/99_fails")
    failed = host.update("Enabled")
    guest.run("rm /etc/grub.d/99_fails")
    assert (failed.status, failed.error["code"]) == (503, "SYS.1006")
    assert "no room on /boot" in failed.error["details"]
    assert host.state() == "Disabled"
    assert host.files() == before
