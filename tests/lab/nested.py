"""A VM of Hardpoint's on a lab guest, whose kernel tells on its serial line which devices it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.helpers import wait_until
from tests.lab.calls import made, run
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.node import Answer

MB = 2**20
UP_TIMEOUT_S = 900.0
DISK = "/var/lib/lab/nested.qcow2"
GRUB = r"""serial --speed=115200 --unit=0
terminal_output serial
set timeout=0
menuentry nested {
  linux /boot/vmlinuz console=ttyS0 quiet mitigations=off nokaslr no5lvl tsc=reliable no_timer_check
  initrd /boot/nested.cpio
}
"""
# As the lab's own disks, whose first megabyte it takes: boot sector, GRUB, one partition (of 194560 sectors).
MAKE_DISK = f"""set -e
[ -e {DISK} ] && exit 0
d=$(mktemp -d); raw=$d/disk.raw; mkdir -p $d/tree/boot/grub
cp -r /boot/grub/i386-pc $d/tree/boot/grub/
cp /var/lib/lab/vmlinuz /var/lib/lab/nested.cpio $d/tree/boot/
cat >$d/tree/boot/grub/grub.cfg
truncate -s 96M $raw
mkfs.ext4 -q -F -O '^metadata_csum,^64bit' -E offset=1048576 -d $d/tree $raw 96256k
dd if=/dev/vda of=$raw bs=1M count=1 conv=notrunc status=none
printf '\\000\\370\\002\\000' | dd of=$raw bs=1 seek=458 conv=notrunc status=none
qemu-img convert -O qcow2 $raw {DISK}.new; mv {DISK}.new {DISK}; rm -r $d"""


@dataclass
class Nested:
    """A VM on the host `guest`, without an image: it boots from a volume of the host's local storage."""

    fleet: Fleet
    guest: Guest
    storage: str
    uuid: str

    @classmethod
    def make(cls, fleet: Fleet, guest: Guest, storage: str, name: str = "nested") -> Nested:
        """Return a VM that is stopped and has its disk."""
        host = fleet.hosts[guest.name]
        guest.write("/root/nested.cfg", GRUB)
        guest.run(f"({MAKE_DISK}) </root/nested.cfg", 300)
        wanted = {"name": name, "cpuNum": 1, "memorySize": 192 * MB, "hostUuid": host}
        vm = made(run(fleet.admin, "POST", "/vm-instances", {"params": {**wanted, "zoneUuid": fleet.zone}}))
        nested = cls(fleet, guest, storage, vm["uuid"])
        nested.stop()
        wanted = {"name": "disk", "diskSize": 96 * MB, "primaryStorageUuid": storage}
        tags = {"systemTags": [f"localStorage::hostUuid::{host}"]}
        volume = made(run(fleet.admin, "POST", "/volumes/data", {"params": {**wanted, **tags}}))
        path = f"/volumes/{volume['uuid']}/vm-instances/{vm['uuid']}"
        made(run(fleet.admin, "POST", path, {}))
        guest.run(f"cp --sparse=always {DISK} {volume['installPath']}")
        return nested

    def act(self, operation: str, **params: Any) -> Answer:
        return run(self.fleet.admin, "PUT", f"/vm-instances/{self.uuid}/actions", {operation: params})

    def start(self) -> Answer:
        """Start it, and write down what it says.

        The host's storage may be slow to answer while VMs are emulated: it is waited for.
        """
        lost = (f"/primary-storage/{self.storage}", "hostRef.status=Disconnected")
        wait_until(lambda: not self.fleet.admin.query(*lost), "all hosts have the storage", UP_TIMEOUT_S)
        self.fleet.wait_until(self.guest.name, "Connected", UP_TIMEOUT_S)
        answer = self.act("startVmInstance")
        if answer.status == 200:
            self.listen()
        return answer

    def listen(self) -> None:
        """Write down what the VM says on its serial line."""
        name = self.uuid
        self.guest.run(
            f"nohup cat $(virsh ttyconsole {name}) >/root/{name}.log 2>/dev/null </dev/null & sleep 0.1", 60
        )

    def stop(self) -> None:
        assert self.act("stopVmInstance", type="cold").status == 200

    def wait_for(self, what: str, timeout_s: float = UP_TIMEOUT_S) -> None:
        """Wait until the last thing that the VM said of its devices matches a pattern of grep."""
        self.guest.wait_for(f"grep NESTED /root/{self.uuid}.log | tail -n 1 | grep -q '{what}'", timeout_s)

    def wait_without(self, what: str, timeout_s: float = UP_TIMEOUT_S) -> None:
        """Wait until it does not match any more."""
        self.guest.wait_for(f"! grep NESTED /root/{self.uuid}.log | tail -n 1 | grep -q '{what}'", timeout_s)

    @property
    def state(self) -> str:
        (found,) = self.fleet.admin.query(f"/vm-instances/{self.uuid}")
        return str(found["state"])
