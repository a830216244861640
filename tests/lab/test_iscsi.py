"""iSCSI on real kernels: a SAN with two portals, CHAP and multipath, and what is left in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.lab import storage
from tests.lab.calls import made, run
from tests.lab.guest import Guest
from tests.lab.hosts import Fleet
from tests.lab.lab import Lab
from tests.lab.san import LUNS as LUNS_SERVED
from tests.lab.san import backstore, remember, serve_again, targetcli
from tests.node import Answer

pytestmark = pytest.mark.takes(minutes=20)

SERVERS = "/storage-devices/iscsi/servers"
LUNS = "/storage-devices/iscsi/luns"
TIMEOUT_S = 240.0
GROUP = f"/sys/kernel/config/target/iscsi/{storage.TARGET}/tpgt_1"
MB = 1024 * 1024
WRITER = """
rm -f /tmp/io.*
cat >/tmp/io.sh <<'END'
while dd if=/dev/zero of=/dev/mapper/{wwid} bs=4k count=1 oflag=direct 2>/tmp/io.error; do
  echo >>/tmp/io.done
  sleep 0.3
done
touch /tmp/io.failed
END
setsid sh /tmp/io.sh </dev/null >/dev/null 2>&1 & echo $! >/tmp/io.pid
"""


@dataclass
class San:
    """The SAN and its two portals as servers of the API; `servers` are their uuids."""

    fleet: Fleet
    guest: Guest
    hosts: list[Guest]
    servers: list[str]

    def attach(self, server: str) -> Answer:
        path = f"/clusters/{self.fleet.cluster}{SERVERS}/{server}"
        return run(self.fleet.admin, "POST", path, {})

    def refresh(self) -> Answer:
        for server in self.servers:
            answer = run(self.fleet.admin, "POST", f"{SERVERS}/{server}", {})
        return answer

    def show(self, server: str) -> dict[str, Any]:
        (found,) = self.fleet.admin.query(f"{SERVERS}/{server}")
        return found

    def statuses(self) -> list[set[str]]:
        """Return how hosts have each server."""
        return [{ref["status"] for ref in self.show(server)["iscsiHostRefs"]} for server in self.servers]

    def wait_until(self, *statuses: str) -> None:
        """Wait until all hosts have each server so."""
        wanted = [{status} for status in statuses]
        wait_until(lambda: self.statuses() == wanted, f"the SAN to be {statuses}", TIMEOUT_S)

    def wait_for_issues(self, field: str, *values: str) -> None:
        """Wait until issues tell of lost servers so: what checks found is answered again for a second."""

        def found() -> set[str]:
            issues = self.fleet.admin.query("/issues", "code=ISCSI.DISCONNECTED")
            return {issue[field] for issue in issues}

        wait_until(lambda: found() == set(values), f"issues whose {field} is {values}", TIMEOUT_S)

    def luns(self) -> dict[str, int]:
        """Return sizes by WWID."""
        return {lun["wwid"]: lun["size"] for lun in self.fleet.admin.query(LUNS)}


def wwid(lun: int) -> str:
    return f"3{storage.wwid(lun)}"


def sessions(host: Guest) -> list[str]:
    return host.run("ls /sys/class/iscsi_session 2>/dev/null || true").split()


def maps(host: Guest) -> set[str]:
    """Return the WWIDs of the multipath maps that a host has."""
    return set(host.run("dmsetup info -c --noheadings -o uuid 2>/dev/null | sed -n s/^mpath-//p").split())


def records(host: Guest) -> str:
    return host.run("find /etc/iscsi/nodes /etc/iscsi/send_targets -type f 2>/dev/null || true")


@pytest.fixture(scope="module")
def san(lab: Lab, fleet: Fleet) -> San:
    guest, hosts = lab.machine("san"), [lab.machine(name) for name in fleet.hosts]
    return San(fleet, guest, hosts, [])


@pytest.fixture
def writing(san: San) -> Iterator[Guest]:
    """The first host while it writes to the first LUN all the time."""
    host = san.hosts[0]
    host.run(WRITER.format(wwid=wwid(0)))
    host.wait_for("[ -s /tmp/io.done ]")
    yield host
    host.try_run("kill -- -$(cat /tmp/io.pid)")


def goes_on(host: Guest) -> None:
    """See that what is written gets there."""
    before = host.run("wc -l </tmp/io.done").strip()
    host.wait_for(f"[ $(wc -l </tmp/io.done) -gt {before} ]")


def test_hosts_get_in_with_the_right_secret_only_which_nobody_sees(san: San) -> None:
    admin = san.fleet.admin
    server = admin.create(SERVERS, ip=san.guest.address)["uuid"]
    for chap in ({}, {"chapUserName": storage.CHAP_USER, "chapUserPassword": "wrongsecret123"}):
        made(run(admin, "PUT", f"{SERVERS}/{server}/actions", {"updateIscsiServer": chap}))
        refused = san.attach(server)
        assert (refused.status, refused.error["code"]) == (503, "SYS.1006"), refused
        assert "refuses this CHAP name or secret" in refused.error["details"]
        assert "wrongsecret" not in refused.raw.decode()
        assert san.show(server)["iscsiClusterRefs"] == []
        assert [(sessions(host), records(host)) for host in san.hosts] == [([], "")] * 2
    chap = {"chapUserName": storage.CHAP_USER, "chapUserPassword": storage.CHAP_PASSWORD}
    made(run(admin, "PUT", f"{SERVERS}/{server}/actions", {"updateIscsiServer": chap}))
    attached = made(san.attach(server))
    san.servers.append(server)
    (target,) = attached["iscsiTargets"]
    assert target["iqn"] == storage.TARGET
    assert {lun["wwid"] for lun in target["iscsiLuns"]} == {wwid(0), wwid(1)}
    assert {lun["size"] for lun in target["iscsiLuns"]} == {storage.LUN_MB * MB}
    assert {ref["status"] for ref in attached["iscsiHostRefs"]} == {"Connected"}
    for host in san.hosts:
        assert len(sessions(host)) == 1
        assert maps(host) == {wwid(0), wwid(1)}
        assert set(host.run("stat -c %a $(find /etc/iscsi/nodes -type f)").split()) == {"600"}
        said = host.try_run(f"journalctl --no-pager | grep -c {storage.CHAP_PASSWORD}").stdout
        assert said.strip() == "0"


def test_a_second_portal_is_a_second_path(san: San) -> None:
    chap = {"chapUserName": storage.CHAP_USER, "chapUserPassword": storage.CHAP_PASSWORD}
    server = san.fleet.admin.create(SERVERS, ip=san.guest.second_address, **chap)["uuid"]
    made(san.attach(server))
    san.servers.append(server)
    assert len(san.luns()) == 2
    assert {lun["type"] for lun in san.fleet.admin.query(LUNS)} == {"mpath"}
    for host in san.hosts:
        assert len(sessions(host)) == 2
        host.wait_for("[ $(multipath -ll | grep -c 'active ready running') = 4 ]")


def test_luns_come_grow_and_go_and_two_of_one_wwid_are_refused(san: San) -> None:
    serial = "00000009-1111-4222-8333-444444444444"
    san.guest.run("lvcreate -q -Wn -L100M -n extra luns; lvcreate -q -Wn -L100M -n twin luns")
    add = f"{LUNS_SERVED} create /backstores/block/{{}} lun={{}}"
    targetcli(san.guest, backstore("extra", serial), add.format("extra", 7))
    extra = f"36001405{serial.replace('-', '')[:25]}"
    made(san.refresh())
    assert san.luns()[extra] == 100 * MB
    assert all(extra in maps(host) for host in san.hosts)
    san.guest.run("lvextend -q -L200M luns/extra")
    made(san.refresh())
    assert san.luns()[extra] == 200 * MB
    for host in san.hosts:
        assert int(host.run(f"blockdev --getsize64 /dev/mapper/{extra}")) == 200 * MB
    twin = serial[:-4] + "5555"  # of the serial only the beginning is in the WWID
    targetcli(san.guest, backstore("twin", twin), add.format("twin", 8))
    refused = san.refresh()
    assert (refused.status, refused.error["cause"]["code"]) == (503, "ISCSI.1002"), refused
    assert "LUN 7 of" in refused.error["details"]
    assert "LUN 8 of" in refused.error["details"]
    targetcli(san.guest, f"{LUNS_SERVED} delete 8", f"{LUNS_SERVED} delete 7")
    made(san.refresh())
    assert set(san.luns()) == {wwid(0), wwid(1)}
    for host in san.hosts:
        assert maps(host) == {wwid(0), wwid(1)}
        assert len(host.run("ls -d /sys/block/sd*/device/vpd_pg80 | xargs grep -la 4444").split()) == 4


def test_a_path_goes_and_comes_back_under_io(san: San, writing: Guest) -> None:
    san.guest.link(1, up=False)
    try:
        san.wait_until("Connected", "Disconnected")
        san.wait_for_issues("resourceUuid", san.servers[1])
        goes_on(writing)
    finally:
        san.guest.link(1, up=True)
    san.wait_until("Connected", "Connected")
    goes_on(writing)
    san.wait_for_issues("resourceUuid")
    assert "failed" not in writing.run("ls /tmp/io.*")


def test_a_target_that_stops_for_20_seconds_is_waited_for(san: San, writing: Guest) -> None:
    san.guest.run(f"echo 0 >{GROUP}/enable")
    time.sleep(20)
    san.guest.run(f"echo 1 >{GROUP}/enable")
    san.wait_until("Connected", "Connected")
    goes_on(writing)
    assert "failed" not in writing.run("ls /tmp/io.*")


def test_an_agent_that_is_killed_finds_its_sessions_and_logs_in_again(san: San) -> None:
    host = san.hosts[0]
    before = sessions(host)
    host.run("systemctl kill -s KILL hardpoint-kvmagent; iscsiadm -m session -r 1 -u || true")
    host.run(f"iscsiadm -m node -T {storage.TARGET} -p {san.guest.second_address} -u || true")
    lost = set(before) - set(sessions(host))
    assert lost
    san.fleet.wait_until(host.name, "Connected", TIMEOUT_S)
    wait_until(lambda: len(sessions(host)) == 2, "the session to be there again", TIMEOUT_S)
    host.wait_for("[ $(multipath -ll | grep -c 'active ready running') = 4 ]", TIMEOUT_S)
    san.wait_until("Connected", "Connected")


def test_a_san_that_is_gone_fails_io_and_is_back_after_its_reboot(lab: Lab, san: San) -> None:
    host = san.hosts[0]
    host.run(WRITER.format(wwid=wwid(0)))
    host.wait_for("[ -s /tmp/io.done ]")
    remember(san.guest)
    san.guest.power_off()
    lab.boot("san", keep_disks=True)
    san.wait_until("Disconnected", "Disconnected")
    san.wait_for_issues("severity", "Critical")
    host.wait_for("[ -e /tmp/io.failed ]", TIMEOUT_S)  # no path for too long: nothing hangs for ever
    serve_again(san.guest)
    san.wait_until("Connected", "Connected")
    host.wait_for("[ $(multipath -ll | grep -c 'active ready running') = 4 ]", TIMEOUT_S)
    host.run(WRITER.format(wwid=wwid(0)))
    host.wait_for("[ -s /tmp/io.done ]")
    host.try_run("kill -- -$(cat /tmp/io.pid)")


def test_nothing_is_left_when_servers_are_detached_which_waits_for_who_uses_a_disk(san: San) -> None:
    admin, host = san.fleet.admin, san.hosts[1]
    first, second = (f"/clusters/{san.fleet.cluster}{SERVERS}/{server}" for server in san.servers)
    assert run(admin, "DELETE", second, None).status == 200
    for guest in san.hosts:
        assert maps(guest) == {wwid(0), wwid(1)}  # one path is left to each
        assert len(sessions(guest)) == 1
    host.run(f"mkfs.ext4 -q /dev/mapper/{wwid(1)}; mkdir -p /mnt/lun; mount /dev/mapper/{wwid(1)} /mnt/lun")
    refused = run(admin, "DELETE", first, None)
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    assert "is mounted at /mnt/lun" in refused.error["details"]
    host.run("umount /mnt/lun")
    assert run(admin, "DELETE", first, None).status == 200
    for server in san.servers:
        assert run(admin, "DELETE", f"{SERVERS}/{server}", None).status == 200
    assert admin.query(LUNS) == []
    for guest in san.hosts:
        assert (sessions(guest), maps(guest), records(guest)) == ([], set(), "")
        assert storage.wwid(0) not in guest.run("cat /etc/multipath/conf.d/hardpoint.conf")
        # What multipath forgets it leaves there as a comment.
        assert guest.try_run(f"grep ^/3{storage.wwid(0)}/ /etc/multipath/wwids").returncode == 1
        assert guest.run("ls /dev/disk/by-path | grep -c iscsi || true").strip() == "0"
