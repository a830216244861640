"""Zones, clusters, hosts: changes reach what is below, deletions take it along or leave all as it was."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node import Node, Rest, run_node

UNKNOWN = "0" * 32


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture
def admin(node: Node) -> Rest:
    return node.rest().logged_in()


def make_tree(admin: Rest, address: str | None = None) -> tuple[dict[str, Any], ...]:
    zone = admin.create("/zones", name="zone")
    cluster = admin.create("/clusters", name="cluster", zoneUuid=zone["uuid"], hypervisorType="KVM")
    if address is None:
        return zone, cluster
    host = admin.create(
        "/hosts/kvm",
        name="host",
        clusterUuid=cluster["uuid"],
        managementIp=address,
        username="root",
        password="unset",
    )
    return zone, cluster, host


def act(admin: Rest, path: str, action: str, **parameters: Any) -> dict[str, Any]:
    answer = admin.run("PUT", f"{path}/actions", {action: parameters})
    assert answer.status == 200, answer
    inventory: dict[str, Any] = answer.body["inventory"]
    return inventory


def states(admin: Rest, *paths: str) -> list[str]:
    return [admin.get(path).body["inventory"]["state"] for path in paths]


def agent_process(node: Node, host: dict[str, Any]) -> Path:
    ready = json.loads((node.state / "agents" / host["uuid"] / "ready.json").read_text())
    return Path(f"/proc/{ready['pid']}")


def test_a_zones_state_reaches_its_clusters_and_hosts(admin: Rest) -> None:
    zone, cluster, host = make_tree(admin, "127.0.3.1")
    paths = f"/zones/{zone['uuid']}", f"/clusters/{cluster['uuid']}", f"/hosts/{host['uuid']}"
    assert act(admin, paths[0], "changeZoneState", stateEvent="disable")["state"] == "Disabled"
    assert states(admin, *paths) == ["Disabled"] * 3
    assert act(admin, paths[1], "changeClusterState", stateEvent="Enabled")["state"] == "Enabled"
    assert states(admin, *paths) == ["Disabled", "Enabled", "Enabled"]
    act(admin, paths[0], "changeZoneState", stateEvent="ENABLE")
    assert states(admin, *paths) == ["Enabled"] * 3


@pytest.mark.parametrize("event", ["maintain", "deleting", "Nonsense", ""])
def test_a_state_event_that_a_zone_does_not_know_is_refused(admin: Rest, event: str) -> None:
    zone, _ = make_tree(admin)
    body = {"changeZoneState": {"stateEvent": event}}
    answer = admin.call("PUT", f"/zones/{zone['uuid']}/actions", body)
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert "stateEvent" in answer.error["details"]
    assert "enable" in answer.error["details"]


def test_an_update_changes_what_is_given_and_nothing_else(admin: Rest) -> None:
    zone, _ = make_tree(admin)
    path = f"/zones/{zone['uuid']}"
    assert act(admin, path, "updateZone", description="new") == {
        **zone,
        "description": "new",
        "lastOpDate": admin.get(path).body["inventory"]["lastOpDate"],
    }
    before = admin.get(path).body["inventory"]
    assert act(admin, path, "updateZone") == before
    assert act(admin, path, "updateZone", name=before["name"]) == before


@pytest.mark.parametrize(
    ("path", "action"),
    [("zones", "updateZone"), ("clusters", "updateCluster"), ("zones", "changeZoneState")],
)
def test_a_change_of_something_unknown_says_so(admin: Rest, path: str, action: str) -> None:
    parameters = {"stateEvent": "enable"} if "State" in action else {"name": "new"}
    answer = admin.run("PUT", f"/{path}/{UNKNOWN}/actions", {action: parameters})
    assert answer.status == 503
    assert answer.error["code"] == "SYS.1003"
    assert UNKNOWN in answer.error["details"]


def test_deleting_a_zone_takes_clusters_hosts_devices_tags_and_agents_along(node: Node, admin: Rest) -> None:
    zone, cluster, host = make_tree(admin, "127.0.3.2")
    process = agent_process(node, host)
    tag = {"resourceType": "HostVO", "resourceUuid": host["uuid"], "tag": "rack 7"}
    admin.create("/user-tags", **tag)
    answer = admin.run("DELETE", f"/zones/{zone['uuid']}", None)
    assert (answer.status, answer.body) == (200, {})
    assert not process.exists()
    assert not (node.state / "agents" / host["uuid"]).exists()
    for path, condition in [
        ("/zones", f"uuid={zone['uuid']}"),
        ("/clusters", f"uuid={cluster['uuid']}"),
        ("/hosts", f"uuid={host['uuid']}"),
        ("/pci-device/pci-devices", f"hostUuid={host['uuid']}"),
        ("/user-tags", f"resourceUuid={host['uuid']}"),
    ]:
        assert admin.query(path, condition) == [], path
    again = admin.run("DELETE", f"/zones/{zone['uuid']}", None)
    assert (again.status, again.body) == (200, {}), "what is gone is deleted already"


def test_a_deleted_host_can_be_added_again_at_once(admin: Rest) -> None:
    _, cluster, _ = make_tree(admin, "127.0.3.3")
    admin.run("DELETE", f"/clusters/{cluster['uuid']}?deleteMode=Permissive", None)
    *_, host = make_tree(admin, "127.0.3.3")
    assert host["status"] == "Connected"


def test_a_host_that_cannot_be_released_stops_a_permissive_deletion_and_not_an_enforcing_one(
    node: Node, admin: Rest
) -> None:
    zone, cluster, host = make_tree(admin, "127.0.3.4")
    home = node.state / "agents" / host["uuid"]
    owner = json.loads((home / "owner.json").read_text())
    (home / "owner.json").write_text(json.dumps({**owner, "fleetUuid": "f" * 32}))
    os.kill(int(agent_process(node, host).name), signal.SIGKILL)

    refused = admin.run("DELETE", f"/zones/{zone['uuid']}", None)
    assert refused.status == 503
    assert refused.error["code"] == "SYS.1004"
    assert "deleteMode=Enforcing" in refused.error["details"]
    assert refused.error["cause"]["code"] == "HOST.1003"
    kept = [f"/zones/{zone['uuid']}", f"/clusters/{cluster['uuid']}", f"/hosts/{host['uuid']}"]
    assert all(admin.get(path).body["inventories"] for path in kept)

    assert admin.run("DELETE", f"/zones/{zone['uuid']}?deleteMode=Enforcing", None).status == 200
    assert not any(admin.get(path).body["inventories"] for path in kept)
    assert not home.exists()


def test_a_deletion_goes_on_after_the_node_was_killed_in_it(tmp_path: Path) -> None:
    node = Node(tmp_path / "state")
    node.start()
    try:
        admin = node.rest().logged_in()
        zone, *_ = make_tree(admin, "127.0.3.5")
        accepted = admin.call("DELETE", f"/zones/{zone['uuid']}", None)
        node.kill()
        node.start()
        again = Rest(node.url, admin.session)
        job = accepted.location.rpartition("/")[2]
        assert again.wait(f"{node.url}/zstack/v1/api-jobs/{job}").status == 200
        assert again.query("/zones") == again.query("/clusters") == again.query("/hosts") == []
        assert list((node.state / "agents").iterdir()) == []
    finally:
        node.stop()


@pytest.mark.parametrize("path", ["/zones/nonsense", "/clusters/" + "G" * 32])
def test_a_deletion_of_what_is_no_uuid_is_refused(admin: Rest, path: str) -> None:
    answer = admin.call("DELETE", path)
    assert answer.status == 400
    assert "uuid" in answer.error["details"]


def test_another_delete_mode_is_refused_with_the_two(admin: Rest) -> None:
    answer = admin.call("DELETE", f"/zones/{UNKNOWN}?deleteMode=Sometimes")
    assert answer.status == 400
    assert "Permissive, Enforcing" in answer.error["details"]
