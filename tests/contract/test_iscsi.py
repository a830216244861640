"""The requests that the manual prints in 4.6, sent with curl, and what it promises beyond them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.conftest import World
from tests.contract.params import ISCSI, new_uuid
from tests.contract.test_manual_chapter3 import authorized, curl
from tests.contract.test_manual_chapter4 import sent

SECRET = "hunter2hunter2"


def add(world: World, **more: Any) -> dict[str, Any]:
    return world.admin.create(ISCSI, **{"ip": world.address(), **more})


def attach_path(world: World, server: str) -> str:
    return f"/clusters/{world.simulator_cluster['uuid']}{ISCSI}/{server}"


def test_the_printed_request_adds_a_server_with_the_printed_name(world: World) -> None:
    body = {"params": {"ip": "10.0.0.201", "port": 3260.0}, "systemTags": [], "userTags": []}
    answer = sent(world, "POST", ISCSI, body)
    assert answer.status == 200, answer
    server = answer.body["inventory"]
    assert (server["name"], server["ip"], server["port"]) == ("iscsi-server-10.0.0.201", "10.0.0.201", 3260)
    assert (server["state"], server["iscsiTargets"], server["iscsiClusterRefs"]) == ("Enabled", [], [])
    again = sent(world, "POST", ISCSI, body)
    assert (again.status, again.error["code"]) == (503, "SYS.1007")
    assert server["uuid"] in again.error["details"]
    other_port = sent(world, "POST", ISCSI, {"params": {"ip": "10.0.0.201", "port": 3261}})
    assert other_port.status == 200
    for uuid in (server["uuid"], other_port.body["inventory"]["uuid"]):
        gone = sent(world, "DELETE", f"{ISCSI}/{uuid}?deleteMode=Permissive", None)
        assert (gone.status, gone.body) == (200, {})


def test_the_printed_queries_list_servers_and_luns(world: World) -> None:
    uuid = world.attached_iscsi_server()
    for path in (ISCSI, "/storage-devices/iscsi", f"{ISCSI}/{uuid}"):
        answer = curl(world.admin, "GET", path, **authorized(world.admin))
        assert answer.status == 200
        assert uuid in [one["uuid"] for one in answer.body["inventories"]]
    (lun, *_) = world.admin.query("/storage-devices/iscsi/luns", f"iscsiTarget.iscsiServerUuid={uuid}")
    answer = curl(world.admin, "GET", f"/storage-devices/iscsi/luns/{lun['uuid']}", **authorized(world.admin))
    assert answer.body["inventory"] == lun


def test_a_server_shows_targets_with_their_luns_and_its_clusters(world: World) -> None:
    (server,) = world.admin.query(f"{ISCSI}/{world.attached_iscsi_server()}")
    (target,) = server["iscsiTargets"]
    assert (target["iscsiServerUuid"], target["state"]) == (server["uuid"], "Enabled")
    assert target["iqn"].startswith("iqn.")
    first, second = target["iscsiLuns"]
    assert {first["iscsiTargetUuid"], second["iscsiTargetUuid"]} == {target["uuid"]}
    assert first["wwid"] != second["wwid"]
    assert (first["type"], first["multipathDeviceUuid"]) == ("mpath", first["wwid"])
    assert (first["wwn"], first["serial"]) == (f"0x{first['wwid'][1:17]}", first["wwid"][1:])
    assert first["path"] == f"ip-{server['ip']}:3260-iscsi-{target['iqn']}-lun-0"
    (cluster,) = server["iscsiClusterRefs"]
    assert cluster["clusterUuid"] == world.simulator_cluster["uuid"]
    assert isinstance(cluster["id"], int)
    answers = {ref["hostUuid"]: ref["status"] for ref in server["iscsiHostRefs"]}
    assert answers[world.simulated_host()] == "Connected"


def test_the_printed_requests_refresh_attach_and_detach(world: World) -> None:
    server = world.attached_iscsi_server()
    for body in ({"params": {}, "systemTags": [], "userTags": []}, {}, None):
        refreshed = sent(world, "POST", f"{ISCSI}/{server}", body)
        assert refreshed.status == 200, refreshed
    assert len(refreshed.body["inventory"]["iscsiTargets"][0]["iscsiLuns"]) == 2
    again = sent(world, "POST", attach_path(world, server), {"params": {}})
    assert (again.status, again.error["code"]) == (503, "SYS.1006")
    kept = sent(world, "DELETE", f"{ISCSI}/{server}?deleteMode=Permissive", None)
    assert (kept.status, kept.error["code"]) == (503, "SYS.1006")
    detached = sent(world, "DELETE", attach_path(world, server), None)
    assert detached.status == 200
    assert (detached.body["inventory"]["iscsiClusterRefs"], detached.body["inventory"]["iscsiHostRefs"]) == (
        [],
        [],
    )
    again = sent(world, "DELETE", attach_path(world, server), None)
    assert (again.status, again.error["code"]) == (503, "SYS.1006")
    alone = sent(world, "POST", f"{ISCSI}/{server}", {})
    assert (alone.status, alone.error["code"]) == (503, "SYS.1006")
    assert "attach it" in alone.error["details"]


def test_enforcing_deletes_a_server_that_is_attached(world: World) -> None:
    server = world.attached_iscsi_server()
    gone = sent(world, "DELETE", f"{ISCSI}/{server}?deleteMode=Enforcing", None)
    assert (gone.status, gone.body) == (200, {})
    assert world.admin.query("/storage-devices/iscsi/luns", f"iscsiTarget.iscsiServerUuid={server}") == []


def test_the_printed_request_updates_a_server(world: World) -> None:
    uuid = add(world, resourceUuid=new_uuid())["uuid"]
    body = {
        "updateIscsiServer": {
            "name": "new",
            "chapUserName": "username",
            "chapUserPassword": "password",
            "state": "Disabled",
            "resourceUuid": uuid,
        },
        "systemTags": [],
        "userTags": [],
    }
    server = sent(world, "PUT", f"{ISCSI}/{uuid}/actions", body).body["inventory"]
    assert (server["name"], server["chapUserName"], server["state"]) == ("new", "username", "Disabled")
    assert server["chapUserPassword"] == "*****"
    refused = sent(world, "POST", attach_path(world, uuid), {})
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    without = {"updateIscsiServer": {"chapUserName": ""}}
    server = sent(world, "PUT", f"{ISCSI}/{uuid}/actions", without).body["inventory"]
    assert not {"chapUserName", "chapUserPassword"} & server.keys()
    half = sent(world, "PUT", f"{ISCSI}/{uuid}/actions", {"updateIscsiServer": {"chapUserName": "half"}})
    assert (half.status, half.error["code"]) == (503, "SYS.1007")


@pytest.mark.parametrize(
    "half",
    [
        {"chapUserName": "x"},
        {"chapUserPassword": SECRET},
        {"chapUserName": "x", "chapUserPassword": f" {SECRET}"},
        {"chapUserName": "x", "chapUserPassword": f"{SECRET}\n"},
        {"mutualChapUserName": "x", "mutualChapUserPassword": SECRET},
    ],
)
def test_half_of_what_chap_takes_is_refused_and_no_secret_shown(world: World, half: dict[str, str]) -> None:
    answer = world.admin.call("POST", ISCSI, {"params": {"ip": world.address(), **half}})
    assert (answer.status, answer.error["code"]) == (400, "SYS.1007")
    assert SECRET not in answer.raw.decode()


def test_secrets_are_never_shown(world: World) -> None:
    names = {"chapUserName": "hosts", "mutualChapUserName": "targets"}
    secrets = {"chapUserPassword": SECRET, "mutualChapUserPassword": f"other{SECRET}"}
    server = add(world, **names, **secrets)
    assert (server["chapUserPassword"], server["mutualChapUserPassword"]) == ("*****", "*****")
    assert SECRET not in str(world.admin.query(f"{ISCSI}/{server['uuid']}"))
    assert world.admin.query(ISCSI, f"chapUserPassword={SECRET}") == []
    assert world.admin.get(ISCSI, "chapSecret=x").status == 400


@pytest.mark.parametrize("ip", ["2001:db8::201", "[2001:DB8:0::202]", "san.example.org"])
def test_portals_are_ipv6_addresses_and_names_as_well(world: World, ip: str) -> None:
    server = add(world, ip=ip)
    assert server["ip"] == ip.strip("[]").lower().replace(":0::", "::")
    assert server["port"] == 3260
