"""Devices plugged and unplugged while a guest runs."""

from __future__ import annotations

from tests.lab.guest import Guest
from tests.lab.lab import Lab

WITHIN = "for n in $(seq 200); do {condition} && exit 0; sleep 0.1; done; {show}; exit 1"


def seen(guest: Guest, condition: str, show: str) -> None:
    """Wait until a condition holds in the guest."""
    guest.run(WITHIN.format(condition=condition, show=show))


def test_a_usb_disk_comes_and_goes(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1")
    link = "/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_HOTUSB1-0:0"
    for _ in range(2):
        kvm1.add_disk("hot")
        kvm1.plug("usb-storage", "hotusb", bus="xhci.0", port="5", drive="hot", serial="HOTUSB1")
        seen(kvm1, f"[ -e {link} ]", "ls /dev/disk/by-id; lsusb")
        kvm1.unplug("hotusb")
        seen(kvm1, f"[ ! -e {link} ]", "ls /dev/disk/by-id; lsusb")
        kvm1.remove_disk("hot")


def test_a_pci_card_comes_and_goes(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1")
    kvm1.plug("e1000e", "hotnic", bus="rp7", mac="52:54:00:99:0e:07")
    seen(kvm1, "grep -qi 52:54:00:99:0e:07 /sys/class/net/*/address", "lspci; ip link")
    seen(kvm1, "[ -e /sys/bus/pci/devices/0000:07:00.0/iommu_group ]", "lspci")
    kvm1.unplug("hotnic")
    seen(kvm1, "[ ! -e /sys/bus/pci/devices/0000:07:00.0 ]", "lspci")
