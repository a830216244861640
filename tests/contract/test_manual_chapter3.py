"""Every request that chapter 3 of the manual prints, sent with curl: it gets the printed kind of answer."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import Any

import pytest

from tests.contract.conftest import World
from tests.contract.params import ABSENT
from tests.integration.rest.receiver import Receiver
from tests.node import Answer, Rest

VM = "/vm-instances"
PASSWORD = (
    "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb9"
    "80b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86"
)
SESSION_KEYS = {"uuid", "accountUuid", "userUuid", "expiredDate", "createDate"}
ZONE_KEYS = {"uuid", "name", "description", "state", "type", "createDate", "lastOpDate"}
NEW_VM = {
    "params": {
        "l3NetworkUuids": ["37a701c7fe4a40758da15593aedd8aff"],
        "defaultL3NetworkUuid": "37a701c7fe4a40758da15593aedd8aff",
        "dataDiskOfferingUuids": [],
        "name": "TestVm",
        "description": "Test",
        "systemTags": [],
        "instanceOfferingUuid": "dd53f94b58924510b0122e40799a4114",
        "type": "UserVm",
        "imageUuid": "cc7b56780879409f98c1f992b75a12b0",
    }
}
VM_REQUESTS: list[tuple[str, str, object, int]] = [
    ("GET", f"{VM}?condition=state=Running", None, 200),
    (
        "PUT",
        f"{VM}/f97143d60f1042c9badd9a1336d3c105/actions",
        {"startVmInstance": {"hostUuid": ABSENT}},
        202,
    ),
    ("POST", VM, NEW_VM, 202),
    ("GET", f"{VM}?condition=name!=web-vm&condition=cluster.name=cluster1", None, 200),
    ("GET", f"{VM}/56f0fd314a2647ffb4f9565f6d05858e", None, 200),
    ("DELETE", f"{VM}/56f0fd314a2647ffb4f9565f6d05858e", None, 202),
    ("PUT", f"{VM}/d46841bd4ebd47f8bf0bed85c3bdf0db/actions", {"startVmInstance": {}}, 202),
    ("PUT", f"{VM}/d46841bd4ebd47f8bf0bed85c3bdf0db/actions", {"stopVmInstance": {}}, 202),
    ("GET", f"{VM}?q=name=vm1", None, 200),
    ("GET", f"{VM}?q=name=vm1&q=state=Running", None, 200),
    ("GET", f"{VM}?q=vmNics.ip=192.168.10.100", None, 200),
    ("GET", f"{VM}?q=host.managementIp=10.10.20.3", None, 200),
    ("GET", f"{VM}?q=cpuNum>5", None, 200),
    ("GET", f"{VM}?q=hypervisorType=KVM&fields=uuid&fields=name", None, 200),
    ("GET", f"{VM}?q=vmNics.ip=192.168.0.100", None, 200),
    ("GET", f"{VM}?q=vmNics.eip.ip=192.168.0.100", None, 400),  # there are no EIPs here: the refusal says so
]
"""Requests of virtual machines with the status that is printed or that their kind has."""

ON_HOSTS = [
    "condition=state=Running",
    "condition=name!=web-vm&condition=cluster.name=cluster1",
    "q=name=vm1&q=state=Running",
    "q=managementIp=10.10.20.3",
    "q=cpuNum>5",
    "q=totalMemoryCapacity>2000",
    "q=hypervisorType=KVM&fields=uuid&fields=name",
    "fields=name,uuid",
    "q=uuid=bfa67f956afb430890aa49db14b85153",
    "q=clusterUuid!=c4981689088b40f98d2ade2548c323da",
    "q=uuid?=25506342d1384c07b7342373a57475b9,bc58d68090ac42358c0cb0fe72e3287f",
    "q=name!?=VM1,VM2",
    "q=name~=IntelCore%",
    "q=name~=IntelCore_7",
    "q=name!~=IntelCore_7",
    "q=description%20is%20null",
    "q=description%20not%20null",
    "q=description=null",
    "q=description!=null",
    "sort=+name",
    "sort=-name",
    "count=true",
    "start=0&limit=100&replyWithCount=true",
    "q=zone.cluster.name=cluster1",
]
"""The conditions and parameters of 3.9, of hosts where the manual takes virtual machines."""


def curl(rest: Rest, method: str, path: str, body: object = None, **headers: str) -> Answer:
    """Send a request as the manual prints it: `zstack/v1/...` behind the node's address."""
    url = path if path.startswith("http") else f"{rest.url}/zstack/v1{path}"
    argv = ["curl", "-s", "-S", "-g", "-X", method, "-w", "\n%{http_code}", url]
    for name, value in headers.items():
        argv += ["-H", f"{name.replace('_', '-')}: {value}"]
    if body is not None:
        argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    printed = subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout
    raw, _, status = printed.rpartition(b"\n")
    return Answer(int(status), {}, raw)


def authorized(rest: Rest) -> dict[str, str]:
    return {"Authorization": f"OAuth {rest.session}"}


@pytest.fixture(scope="module")
def served(admin: Rest) -> set[str]:
    return set(admin.call("GET", "/openapi.json").body["paths"])


def test_the_flow_of_3_7(admin: Rest) -> None:
    credentials = {"loginByAccount": {"password": PASSWORD, "accountName": "admin"}}
    login = curl(admin, "PUT", "/accounts/login", credentials)
    assert login.status == 200
    assert set(login.body["inventory"]) == SESSION_KEYS
    header = {"Authorization": f"OAuth {login.body['inventory']['uuid']}"}

    created = curl(admin, "POST", "/zones", {"params": {"name": "Zone1", "description": "Test"}}, **header)
    assert created.status == 202
    assert set(created.body) == {"location"}
    zone = _polled(admin, created.location, header)
    assert set(zone["inventory"]) == ZONE_KEYS
    assert (zone["inventory"]["state"], zone["inventory"]["type"]) == ("Enabled", "zstack")

    shown = curl(admin, "GET", f"/zones/{zone['inventory']['uuid']}", **header)
    assert (shown.status, shown.body["inventory"]) == (200, zone["inventory"])

    logout = curl(admin, "DELETE", f"/accounts/sessions/{login.body['inventory']['uuid']}")
    assert logout.status == 200
    assert curl(admin, "GET", "/zones", **header).error["code"] == "ID.1001"


def _polled(rest: Rest, location: str, header: dict[str, str]) -> Any:
    while (answer := curl(rest, "GET", location, **header)).status == 202:
        assert answer.body == {"location": location}
    assert answer.status == 200
    return answer.body


def test_the_web_hook_of_3_8(admin: Rest) -> None:
    receiver = Receiver()
    receiver.start()
    job = uuid.uuid4().hex
    try:
        headers = {
            **authorized(admin),
            "X_Job_UUID": job,
            "X_Web_Hook": f"http://127.0.0.1:{receiver.port}/rest-webhook",
        }
        body = {"params": {"name": "Zone1", "description": "Test"}}
        answer = curl(admin, "POST", "/zones", body, **headers)
        assert answer.status == 202
        assert answer.location.endswith(f"/api-jobs/{job}")
        receiver.wait(lambda: bool(receiver.calls))
    finally:
        receiver.stop()
    (call,) = receiver.calls
    assert call.path == "/rest-webhook"
    assert (call.headers["X-Job-UUID"], call.headers["X-Job-Success"]) == (job, "true")
    assert set(json.loads(call.body)["inventory"]) == ZONE_KEYS


def test_the_tags_of_3_6_may_stand_beside_the_parameters(admin: Rest) -> None:
    body = {"params": {"name": "TestZone", "description": "test zone"}, "systemTags": [], "userTags": []}
    assert curl(admin, "POST", "/zones", body, **authorized(admin)).status == 202


@pytest.mark.parametrize("name", ["d825b1a26f4e474b8c59306081920ff2", "967a26b7431c49c0b1d50d709ef1aef3"])
def test_the_job_uuids_of_3_3_are_looked_at_by_their_version(admin: Rest, name: str) -> None:
    answer = curl(admin, "POST", "/zones", {"params": {"name": "z"}}, X_Job_UUID=name, **authorized(admin))
    assert answer.status == (202 if name[12] == "4" and name[16] in "89ab" else 400)


@pytest.mark.parametrize(("method", "path", "body", "status"), VM_REQUESTS, ids=lambda v: str(v)[:60])
def test_requests_of_virtual_machines(
    admin: Rest, served: set[str], method: str, path: str, body: object, status: int
) -> None:
    answer = curl(admin, method, path, body, **authorized(admin))
    if VM not in served:  # they are no hardware; while they are not served, that is said
        assert answer.status == 404
        assert VM in answer.error["details"]
        return
    assert answer.status == status
    if status == 200:
        assert isinstance(answer.body["inventories"], list)
    elif status == 400:
        assert "VmNic has no relation 'eip'" in answer.error["details"]
    else:
        assert set(answer.body) == {"location"}


@pytest.mark.parametrize("query", ON_HOSTS)
def test_queries_of_3_9(world: World, query: str) -> None:
    answer = curl(world.admin, "GET", f"/hosts?{query}", **authorized(world.admin))
    assert answer.status == 200
    if query == "count=true":
        assert answer.body == {"total": len(world.admin.query("/hosts"))}
        return
    assert isinstance(answer.body["inventories"], list)
    assert ("total" in answer.body) == ("replyWithCount" in query)
    if "fields=" in query:
        assert all(set(found) == {"uuid", "name"} for found in answer.body["inventories"])


def test_a_condition_with_spaces_is_the_wrong_one_that_the_manual_warns_of(admin: Rest) -> None:
    answer = curl(admin, "GET", "/zones?q=uuid%20=%2025506342d1384c07b7342373a57475b9", **authorized(admin))
    assert answer.status == 400
    assert "space" in answer.error["details"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/zone", 404),
        ("GET", f"/api-jobs/{ABSENT}", 404),
        ("PUT", "/zones", 405),
    ],
)
def test_the_statuses_of_3_4(admin: Rest, method: str, path: str, status: int) -> None:
    assert curl(admin, method, path, **authorized(admin)).status == status
