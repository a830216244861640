"""UpdateHost, UpdateKVMHost and ChangeHostState: what they write, what they refuse, what follows."""

from __future__ import annotations

from typing import Any

import pytest

from tests import postgres
from tests.helpers import wait_until
from tests.integration.hosts.conftest import TIMEOUT_S, Place

STUCK = "a volume cannot be moved"


def test_names_and_descriptions_are_changed_by_both_updates(place: Place) -> None:
    host = place.added("127.4.0.1", description="old")["uuid"]
    changed = place.act(host, "updateHost", name="new").body["inventory"]
    assert (changed["name"], changed["description"]) == ("new", "old")
    changed = place.act(host, "updateKVMHost", name="newer", description="newest").body["inventory"]
    assert (changed["name"], changed["description"]) == ("newer", "newest")
    assert place.act(host, "updateHost").body["inventory"] == changed


def test_a_new_address_holds_from_the_next_reconnect_on(place: Place) -> None:
    host = place.added("127.4.0.1")["uuid"]
    changed = place.act(host, "updateHost", managementIp="127.4.0.2").body["inventory"]
    assert (changed["managementIp"], changed["status"]) == ("127.4.0.2", "Connected")
    assert place.deployments("127.4.0.2") == 0
    assert place.act(host, "reconnectHost").body["inventory"]["status"] == "Connected"
    assert place.deployments("127.4.0.2") == 1
    place.wait_for(host, status="Connected", managementIp="127.4.0.2")
    assert place.added("127.4.0.1")["status"] == "Connected"  # the old address is free


@pytest.mark.parametrize("operation", ["updateHost", "updateKVMHost"])
def test_an_address_of_another_host_is_refused(place: Place, operation: str) -> None:
    place.added("127.4.0.1")
    host = place.added("127.4.0.2")["uuid"]
    error = place.act(host, operation, managementIp="::ffff:127.4.0.1").error
    assert error["code"] == "SYS.1007"
    assert "belongs to host host 127.4.0.1" in error["details"]
    assert place.host(host)["managementIp"] == "127.4.0.2"
    assert place.act(host, operation, managementIp="127.4.0.2").status == 200


def test_the_login_is_written_and_the_password_sealed(place: Place) -> None:
    host = place.added("127.4.0.1")["uuid"]
    changed = place.act(host, "updateKVMHost", username="admin", password="s3cret!", sshPort=2222)
    inventory = changed.body["inventory"]
    assert (inventory["username"], inventory["sshPort"]) == ("admin", 2222)
    assert "s3cret!" not in changed.raw.decode()
    assert "password" not in inventory
    ((kept,),) = postgres.rows(place.node.state, f"SELECT password FROM host WHERE uuid = '{host}'")
    assert kept
    assert "s3cret!" not in str(kept)
    assert "s3cret!" not in place.node.log()


def test_a_host_is_disabled_and_enabled(place: Place) -> None:
    host = place.added("127.4.0.1")["uuid"]
    for event, state in [("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")]:
        inventory = place.act(host, "changeHostState", stateEvent=event).body["inventory"]
        assert (inventory["state"], inventory["status"]) == (state, "Connected")


@pytest.mark.parametrize("event", ["preMaintain", "deleting", "", "on"])
def test_an_event_that_hosts_do_not_have_is_refused_at_once(place: Place, event: str) -> None:
    answer = place.admin.call("PUT", f"/hosts/{'0' * 32}/actions", {"changeHostState": {"stateEvent": event}})
    assert (answer.status, answer.error["code"]) == (400, "SYS.1007")


def test_a_host_in_maintenance_is_left_alone_until_it_leaves(place: Place) -> None:
    host = place.added("127.4.0.1")["uuid"]
    maintained = place.act(host, "changeHostState", stateEvent="maintain").body["inventory"]
    assert (maintained["state"], maintained["status"]) == ("Maintenance", "Connected")
    assert place.act(host, "changeHostState", stateEvent="maintain").status == 200
    error = place.act(host, "reconnectHost").error
    assert (error["code"], error["cause"]["code"]) == ("HOST.1002", "SYS.1006")
    assert "in the state Maintenance; enable or disable it first" in error["details"]
    for path, event in [(f"/clusters/{place.cluster}", "disable"), (f"/zones/{place.zone}", "enable")]:
        operation = "changeClusterState" if "clusters" in path else "changeZoneState"
        assert place.admin.run("PUT", f"{path}/actions", {operation: {"stateEvent": event}}).status == 200
    assert place.host(host)["state"] == "Maintenance"


@pytest.mark.parametrize(("event", "state"), [("enable", "Enabled"), ("disable", "Disabled")])
def test_a_host_that_leaves_maintenance_is_reconnected(place: Place, event: str, state: str) -> None:
    host = place.added("127.4.0.1")["uuid"]
    place.act(host, "changeHostState", stateEvent="maintain")
    place.kill_agent(host)  # the machine was switched off, say
    left = place.act(host, "changeHostState", stateEvent=event).body["inventory"]
    assert left["state"] == state
    assert left["status"] in ("Connecting", "Connected")
    place.wait_for(host, state=state, status="Connected")
    assert place.deployments("127.4.0.1") == 2


def test_a_host_that_does_not_answer_is_not_taken_into_maintenance(place: Place) -> None:
    host = place.added("127.4.0.1")["uuid"]
    place.kill_agent(host)
    error = place.act(host, "changeHostState", stateEvent="maintain").error
    assert error["code"] == "SYS.1006"
    assert "is Disconnected: only a Connected host" in error["details"]
    assert place.host(host)["state"] == "Enabled"


@pytest.mark.parametrize("event", ["enable", "disable"])
def test_a_host_that_something_cannot_leave_keeps_its_state(place: Place, event: str) -> None:
    host = place.added("127.4.0.1")["uuid"]
    before = place.act(host, "changeHostState", stateEvent=event).body["inventory"]["state"]
    stuck = place.node.state / "stuck" / host
    stuck.parent.mkdir(exist_ok=True)
    stuck.write_text(STUCK)
    error = place.act(host, "changeHostState", stateEvent="maintain").error
    assert (error["code"], error["cause"]["code"]) == ("HOST.1001", "SYS.1006")
    assert STUCK in error["details"]
    assert place.host(host)["state"] == before
    stuck.unlink()
    assert place.act(host, "changeHostState", stateEvent="maintain").status == 200


PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("updateHost", {"name": "n"}),
    ("updateKVMHost", {"name": "n"}),
    ("changeHostState", {"stateEvent": "enable"}),
    ("changeHostState", {"stateEvent": "maintain"}),
]


@pytest.mark.parametrize(("operation", "params"), PLAIN)
def test_a_host_that_does_not_exist_is_named(place: Place, operation: str, params: dict[str, Any]) -> None:
    error = place.act("0" * 32, operation, **params).error
    assert error["code"] == "SYS.1003"
    assert "0" * 32 in error["details"]


def test_what_the_system_knows_of_a_host_is_in_its_tags(place: Place) -> None:
    host = place.added("127.4.0.1", systemTags=["reservedMemory::1G", "reservedCpu::2"])["uuid"]
    tags = place.tags(host)
    (connected,) = [tag for tag in tags if tag.startswith("ConnectedTime::")]
    assert tags - {connected} == {
        "reservedMemory::1G",
        "reservedCpu::2",
        "os::distribution::debian",
        "os::release::bookworm",
        "os::version::12",
        "hvm::vmx",
        "ept::true",
        "cpuModelName::Intel(R) Xeon(R) CPU E5-2630 v3 @ 2.40GHz",
        "hostCpuModelName::Intel(R) Xeon(R) CPU E5-2630 v3 @ 2.40GHz",
        "cpuGHz::2.40",
        "cpuProcessorNum::4",
        "systemProductName::R730",
        "systemSerialNumber::ABC123",
        "libvirt::version::9.0.0",
        "iscsiInitiatorName::iqn.2016-04.com.example:machine",
    }
    found = place.admin.query("/hosts", "__systemTag__=os::version::12")
    assert [h["uuid"] for h in found] == [host]


def test_tags_follow_the_machine_at_a_reconnect_and_keep_those_of_users(place: Place) -> None:
    host = place.added("127.4.0.1", systemTags=["reservedMemory::1G"])["uuid"]
    before = {t["tag"]: t["uuid"] for t in place.admin.query("/system-tags", f"resourceUuid={host}")}
    release = place.machine / "etc/os-release"
    release.write_text(release.read_text().replace("12", "13"))
    (place.machine / "etc/iscsi/initiatorname.iscsi").unlink()
    assert place.act(host, "reconnectHost").status == 200
    after = {t["tag"]: t["uuid"] for t in place.admin.query("/system-tags", f"resourceUuid={host}")}
    assert after["os::version::13"] == before["os::version::12"]
    assert "reservedMemory::1G" in after
    assert not any(tag.startswith("iscsiInitiatorName") for tag in after)
    assert [t for t in after if t.startswith("Conn")] != [t for t in before if t.startswith("Conn")]


def test_tags_that_the_system_keeps_are_kept(place: Place) -> None:
    host = place.added("127.4.0.1")["uuid"]
    (tag,) = place.admin.query("/system-tags", f"resourceUuid={host}", "tag=os::version::12")
    assert tag["inherent"] is True
    path = f"/system-tags/{tag['uuid']}/actions"
    changed = place.admin.run("PUT", path, {"updateSystemTag": {"tag": "os::version::7"}})
    assert changed.error["code"] == "SYS.1006"
    deleted = place.admin.run("DELETE", f"/tags/{tag['uuid']}", None)
    assert deleted.error["code"] == "SYS.1006"
    wanted = {"resourceType": "HostVO", "resourceUuid": host, "tag": "os::version::7"}
    created = place.admin.run("POST", "/system-tags", {"params": wanted})
    assert created.error["code"] == "SYS.1007"
    assert "written by the system" in created.error["details"]
    refused = place.add("127.4.0.2", systemTags=["hvm::vmx"])
    assert refused.error["code"] == "SYS.1007"
    assert "os::version::12" in place.tags(host)
    wait_until(lambda: len(place.admin.query("/hosts")) == 1, "the refused host to be gone", TIMEOUT_S)
