"""A Ceph cluster that lab guests are a part of: monitors run in guests, as the distribution's units.

The rest (a monitor, the manager, the OSD) runs beside them, on the lab's network: guests are slow.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from tests.ceph.cluster import MIB, Cluster, Monitor
from tests.ceph.programs import programs
from tests.lab.guest import Guest
from tests.lab.network import BRIDGES, address

NODE_PORT, GUEST_PORT = 3310, 3300
OSD_BYTES = 4096 * MIB
MONITOR_TIMEOUT_S = 300.0
# Guests' clocks are set by whole seconds, and their monitors answer late
TOLERANT = {"mon_clock_drift_allowed": "5", "mon_lease": "15", "mon_election_timeout": "15"}


@dataclass
class LabCluster(Cluster):
    """A cluster with a monitor in each of some guests, which run."""

    guests: dict[str, Guest] = field(default_factory=dict)

    def make_monitor(self, name: str) -> None:
        """Make what a monitor keeps, and what the administrator has on its host."""
        if name not in self.guests:
            super().make_monitor(name)
            return
        guest = self.guests[name]
        guest.write("/etc/ceph/ceph.conf", self.common())
        guest.write("/etc/ceph/ceph.client.admin.keyring", self.keyring.read_text())
        guest.write("/tmp/keys", self.keys.read_text())
        monmap = base64.b64encode(self.monmap.read_bytes()).decode()
        guest.run(
            f"""set -e
chmod 600 /etc/ceph/ceph.client.admin.keyring /tmp/keys
echo {monmap} | base64 -d >/tmp/monmap
chown ceph: /tmp/keys /tmp/monmap
setpriv --reuid ceph --regid ceph --clear-groups \\
  ceph-mon --mkfs -i {name} --monmap /tmp/monmap --keyring /tmp/keys
rm /tmp/keys /tmp/monmap""",
            MONITOR_TIMEOUT_S,
        )

    def start_monitor(self, name: str) -> None:
        """Start a monitor."""
        if name in self.guests:
            self.guests[name].run(f"systemctl start ceph-mon@{name}", MONITOR_TIMEOUT_S)
        else:
            super().start_monitor(name)

    def stop_monitor(self, name: str) -> None:
        """Stop a monitor."""
        if name in self.guests:
            self.guests[name].run(f"systemctl stop ceph-mon@{name}", MONITOR_TIMEOUT_S)
        else:
            super().stop_monitor(name)


def lab_cluster(folder: Path, guests: list[Guest]) -> LabCluster:
    """Return a cluster with monitors beside the lab and in guests; it is not started."""
    return LabCluster(
        folder,
        programs(),
        osd_bytes=OSD_BYTES,
        public_network=f"{address(BRIDGES[0], 0)}/24",
        settings=TOLERANT,
        monitors=[
            Monitor("a", address(BRIDGES[0], 1), NODE_PORT),
            *(Monitor(guest.name, guest.address, GUEST_PORT) for guest in guests),
        ],
        guests={guest.name: guest for guest in guests},
    )
