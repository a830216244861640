"""DeleteHost: the agent gives the host back and goes, and everything of the host with it."""

from __future__ import annotations

import signal

import psutil

from tests import postgres
from tests.helpers import wait_until
from tests.integration.hosts.conftest import TIMEOUT_S, Place

LEFT = ("host", "host_address", "pci_device", "usb_device", "block_device", "tag")


def left(place: Place) -> dict[str, int]:
    """Return how many rows of hosts there are."""
    return {t: int(postgres.rows(place.node.state, f"SELECT count(*) FROM {t}")[0][0]) for t in LEFT}


def add_disk(place: Place) -> None:
    disk = place.machine / "sys/devices/pci0000:00/0000:00:05.0/virtio2/block/vda"
    disk.mkdir(parents=True)
    (disk / "size").write_text("2048\n")
    (disk / "dev").write_text("254:0\n")
    function = disk.parents[2]
    for name, text in {"vendor": "0x1af4", "device": "0x1001", "class": "0x010000"}.items():
        (function / name).write_text(f"{text}\n")
    bus = place.machine / "sys/bus/pci/devices"
    bus.mkdir(parents=True)
    (bus / function.name).symlink_to(f"../../../devices/pci0000:00/{function.name}")
    (place.machine / "sys/class/block").mkdir(parents=True)
    (place.machine / "sys/class/block/vda").symlink_to(
        "../../devices/pci0000:00/0000:00:05.0/virtio2/block/vda"
    )
    (place.machine / "sys/block").mkdir(parents=True)
    (place.machine / "sys/block/vda").symlink_to("../devices/pci0000:00/0000:00:05.0/virtio2/block/vda")


def test_a_deleted_host_leaves_nothing_and_can_be_added_again_at_once(place: Place) -> None:
    add_disk(place)
    before = left(place)
    host = place.added("127.5.0.1", systemTags=["reservedMemory::1G"], userTags=["mine"])["uuid"]
    devices = place.admin.query("/pci-device/pci-devices", f"hostUuid={host}")
    wanted = {"resourceType": "PciDeviceVO", "resourceUuid": devices[0]["uuid"], "tag": "mine too"}
    place.admin.create("/user-tags", **wanted)
    assert left(place)["block_device"] > 0
    agent = place.agent(host)
    answer = place.delete(host)
    assert (answer.status, answer.body) == (200, {})
    assert left(place) == before
    assert not place.home(host).exists()
    assert not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE
    assert place.added("127.5.0.1", resourceUuid=host)["status"] == "Connected"


def test_deleting_what_is_not_there_is_no_fault(place: Place) -> None:
    assert place.delete("0" * 8 + "4" * 24).body == {}
    host = place.added("127.5.0.1")["uuid"]
    assert [place.delete(host).status for _ in range(2)] == [200, 200]


def test_a_host_whose_agent_cannot_be_removed_stays_unless_it_is_forced(place: Place) -> None:
    host = place.added("127.5.0.1")["uuid"]
    owner = place.home(host) / "owner.json"
    agent = place.agent(host)
    place.node.kill()  # no kept connection takes the Release to an agent that reads it when it goes on
    place.node.start()
    place.restarted()
    place.wait_for(host, status="Connected")
    agent.send_signal(signal.SIGSTOP)  # it holds its port and never answers
    try:
        answer = place.delete(host)
        assert (answer.status, answer.error["code"]) == (503, "SYS.1004")
        assert answer.error["cause"]["code"] == "HOST.1003"
        assert "deleteMode=Enforcing" in answer.error["details"]
        assert place.host(host)["state"] == "Enabled"
        assert owner.exists()
    finally:
        agent.send_signal(signal.SIGCONT)
    place.wait_for(host, status="Connected")  # it is followed again
    agent.send_signal(signal.SIGSTOP)
    assert place.delete(host, "Enforcing").status == 200
    assert place.admin.query("/hosts") == []


def test_a_cluster_goes_with_its_hosts(place: Place) -> None:
    hosts = [place.added(f"127.5.0.{n}")["uuid"] for n in (1, 2)]
    answer = place.admin.run("DELETE", f"/clusters/{place.cluster}?deleteMode=Permissive", None)
    assert answer.status == 200
    assert place.admin.query("/hosts") == []
    assert not any(place.home(host).exists() for host in hosts)


def test_the_agent_of_a_deleted_host_no_longer_answers(place: Place) -> None:
    host = place.added("127.5.0.1")["uuid"]
    agent = place.agent(host)
    place.delete(host)
    wait_until(
        lambda: not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE, "the agent's end", TIMEOUT_S
    )
