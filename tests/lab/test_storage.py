"""The storage that the `san` guest serves, as the hosts see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import storage
from tests.lab.guest import Guest
from tests.lab.lab import Lab


@pytest.fixture
def kvm1(lab: Lab) -> Iterator[Guest]:
    guest = lab.guest("kvm1")
    yield guest
    storage.iscsi_logout(guest)


@pytest.mark.parametrize("password", [None, "wrongsecret123"])
def test_iscsi_lets_nobody_in_without_the_right_secret(lab: Lab, kvm1: Guest, password: str | None) -> None:
    assert storage.iscsi_login(kvm1, lab.guest("san"), password) == 24  # authorization failure
    assert "No active sessions" in kvm1.try_run("iscsiadm -m session").stderr


def test_iscsi_has_two_portals_and_luns_that_multipath_tells_apart(lab: Lab, kvm1: Guest) -> None:
    san = lab.guest("san")
    assert storage.iscsi_login(kvm1, san) == 0
    sessions = kvm1.run("iscsiadm -m session")
    assert san.address in sessions
    assert san.second_address in sessions
    kvm1.run("systemctl start multipathd; udevadm settle -t 30 || true")
    kvm1.wait_for("[ $(multipath -ll | grep -c 'active ready running') = 4 ]", 90)
    maps = kvm1.run("multipath -ll")
    assert all(f"3{storage.wwid(lun)}" in maps for lun in range(storage.LUNS)), maps
    kvm1.run("systemctl stop multipathd")
    kvm1.try_run("multipath -F")  # udev may have a map open


def test_both_hosts_share_files_over_nfs(lab: Lab) -> None:
    san, hosts = lab.guest("san"), [lab.guest("kvm1"), lab.guest("kvm2")]
    for host in hosts:
        storage.mount_nfs(host, san)
        host.run(f"echo {host.name} >/mnt/nfs/{host.name}")
    for host in hosts:
        assert host.run("cat /mnt/nfs/kvm1 /mnt/nfs/kvm2").split() == ["kvm1", "kvm2"]
        host.run("umount /mnt/nfs")
