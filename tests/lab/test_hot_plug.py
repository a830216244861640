"""Devices plugged and unplugged while a guest runs."""

from __future__ import annotations

from tests.lab.lab import Lab


def test_a_usb_disk_comes_and_goes(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1")
    link = "/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_HOTUSB1-0:0"
    for _ in range(2):
        kvm1.add_disk("hot")
        kvm1.plug("usb-storage", "hotusb", bus="xhci.0", port="5", drive="hot", serial="HOTUSB1")
        kvm1.wait_for(f"[ -e {link} ]")
        kvm1.unplug("hotusb")
        kvm1.wait_for(f"[ ! -e {link} ]")
        kvm1.remove_disk("hot")


def test_a_pci_card_comes_and_goes(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1")
    kvm1.plug("e1000e", "hotnic", bus="rp7", mac="52:54:00:99:0e:07")
    kvm1.wait_for("grep -qi 52:54:00:99:0e:07 /sys/class/net/*/address")
    kvm1.wait_for("[ -e /sys/bus/pci/devices/0000:07:00.0/iommu_group ]")
    kvm1.unplug("hotnic")
    kvm1.wait_for("[ ! -e /sys/bus/pci/devices/0000:07:00.0 ]")
