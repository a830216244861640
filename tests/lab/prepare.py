"""What is done to guests after they have booted, before their snapshot is taken; and after it is restored."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab import storage
from tests.lab.guest import Guest

CAPABILITIES_TIMEOUT_S = 120.0


def before_snapshot(guests: Sequence[Guest]) -> None:
    """Make the san serve; have libvirt ask its QEMU what it can do, which takes long and is remembered."""
    for guest in guests:
        if guest.name == "san":
            storage.serve(guest)
        elif guest.role.image == "full":
            guest.run("virsh capabilities >/dev/null", CAPABILITIES_TIMEOUT_S)


def plug_spares(guest: Guest) -> None:
    """Plug what a snapshot cannot hold: an NVMe disk and a device without driver."""
    if guest.name != "kvm1" or guest.start_as.sriov:
        return
    guest.open_disk("nvme")
    guest.plug("nvme", "nvme0", bus="rp2", serial="LABNVME1", drive="nvme")
    guest.plug("edu", "edu0", bus="rp3")
