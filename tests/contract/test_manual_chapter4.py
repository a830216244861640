"""Every request that the manual prints in 4.1 and 4.2.1 to 4.2.6, sent with curl, on the printed uuids."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.contract.conftest import World
from tests.contract.test_manual_chapter3 import authorized, curl
from tests.node import Answer

DATE = re.compile(r"[A-Z][a-z]{2} \d{1,2}, \d{4} \d{1,2}:\d\d:\d\d [AP]M")
ZONE = {
    "name": "TestZone",
    "description": "test zone",
    "state": "Enabled",
    "type": "zstack",
}
CLUSTER = {
    "name": "cluster1",
    "description": "test",
    "state": "Enabled",
    "hypervisorType": "KVM",
    "type": "zstack",
}
IN_ZONE = "e1fb7d87073b397c857eaeab16243103"
ZONE_REQUESTS: list[tuple[str, str | None, str, object, dict[str, Any] | None]] = [
    ("POST", None, "/zones", {"params": {"name": "TestZone", "description": "test zone"}}, ZONE),
    ("DELETE", "d3483ca440334af3acc09d8631e814c6", "/zones/{}?deleteMode=Permissive", None, None),
    (
        "PUT",
        "3fc9a2d76b043ead90c537561edcb50e",
        "/zones/{}/actions",
        {"updateZone": {"name": "TestZone2", "description": "test second zone"}},
        {**ZONE, "name": "TestZone2", "description": "test second zone"},
    ),
    (
        "PUT",
        "af28b8e014ba35619ab68739fe72c2a3",
        "/zones/{}/actions",
        {"changeZoneState": {"stateEvent": "enable"}},
        ZONE,
    ),
]
CLUSTER_REQUESTS: list[tuple[str, str | None, str, object, dict[str, Any] | None]] = [
    (
        "POST",
        None,
        "/clusters",
        {
            "params": {
                "zoneUuid": IN_ZONE,
                "name": "cluster1",
                "description": "test",
                "hypervisorType": "KVM",
            }
        },
        CLUSTER,
    ),
    ("DELETE", "a5bb7e5ca83f41748538d953709ba3c3", "/clusters/{}?deleteMode=Permissive", None, None),
    (
        "PUT",
        "851a3783e1503de2a1b9222014c843c4",
        "/clusters/{}/actions",
        {"updateCluster": {"name": "cluster1", "description": "test"}},
        CLUSTER,
    ),
    (
        "PUT",
        "652ee5e996203bfbb5eb75e750720093",
        "/clusters/{}/actions",
        {"changeClusterState": {"stateEvent": "disable"}},
        {**CLUSTER, "state": "Disabled"},
    ),
    (
        "PUT",
        "31c4951f39ae38969802e833448369ae",
        "/clusters/{}/actions",
        {"updateClusterOS": {"excludePackages": ["kernel", "systemd*"]}},
        {
            "jobName": "APIUpdateClusterOSMsg",
            "targetResourceUuid": "31c4951f39ae38969802e833448369ae",
        },
    ),
]
QUERIES = [
    ("/zones?q=name=TestZone&q=state=Enabled", None),
    ("/zones/9276d05c7d7545d6b61bfc50f017b86c", "9276d05c7d7545d6b61bfc50f017b86c"),
    ("/clusters?q=hypervisorType=KVM", None),
    ("/clusters/a8d5ea1ceda34616a26bec2fce3b4d8a", "a8d5ea1ceda34616a26bec2fce3b4d8a"),
    ("/hosts?q=uuid=66547f0fc9fd45d98f6b8482488f2993", "66547f0fc9fd45d98f6b8482488f2993"),
    ("/hosts/bb582f21cfad4f61a2ab1ec062131b4a", "bb582f21cfad4f61a2ab1ec062131b4a"),
]


@pytest.fixture(scope="module")
def in_zone(world: World) -> str:
    world.admin.create("/zones", name="zone of the manual's clusters", resourceUuid=IN_ZONE)
    return IN_ZONE


def sent(world: World, method: str, path: str, body: object) -> Answer:
    """Send a request with curl and follow its job as the manual says."""
    answer = curl(world.admin, method, path, body, **authorized(world.admin))
    assert answer.status == 202
    while answer.status == 202:
        answer = curl(world.admin, "GET", answer.location, **authorized(world.admin))
    return answer


def check(answer: Answer, expected: dict[str, Any] | None) -> None:
    assert answer.status == 200
    if expected is None:
        assert answer.body == {}
        return
    inventory = answer.body["inventory"]
    assert {key: inventory[key] for key in expected} == expected
    assert DATE.fullmatch(inventory["createDate"])
    assert DATE.fullmatch(inventory["lastOpDate"])


@pytest.mark.parametrize(("method", "uuid", "path", "body", "expected"), ZONE_REQUESTS)
def test_a_printed_request_of_zones_gets_the_printed_kind_of_answer(
    world: World, method: str, uuid: str | None, path: str, body: object, expected: dict[str, Any] | None
) -> None:
    if uuid:
        world.admin.create("/zones", name="TestZone", description="test zone", resourceUuid=uuid)
    check(sent(world, method, path.format(uuid), body), expected)


@pytest.mark.parametrize(("method", "uuid", "path", "body", "expected"), CLUSTER_REQUESTS)
def test_a_printed_request_of_clusters_gets_the_printed_kind_of_answer(
    world: World,
    in_zone: str,
    method: str,
    uuid: str | None,
    path: str,
    body: object,
    expected: dict[str, Any] | None,
) -> None:
    if uuid:
        world.admin.create(
            "/clusters", name="c", description="d", zoneUuid=in_zone, hypervisorType="KVM", resourceUuid=uuid
        )
        if method == "PUT" and "State" in str(body):
            named = {"updateCluster": {"name": "cluster1", "description": "test"}}
            world.admin.run("PUT", path.format(uuid), named)
    check(sent(world, method, path.format(uuid), body), expected)


@pytest.mark.parametrize(("path", "uuid"), QUERIES)
def test_a_printed_query_gets_the_printed_kind_of_answer(world: World, path: str, uuid: str | None) -> None:
    if path.startswith("/zones?"):
        world.admin.create("/zones", name="TestZone")
    answer = curl(world.admin, "GET", path, **authorized(world.admin))
    assert answer.status == 200
    found = answer.body["inventories"]
    assert isinstance(found, list)
    if uuid is None:
        assert found, "the world has such zones and clusters"
    else:
        assert found == []


HOST = {"hypervisorType": "KVM", "status": "Connected"}
ADDED_TO = "9adf394ca46432afb1218d220bf2925e"
HOST_REQUESTS: list[tuple[str, str | None, str, object, dict[str, Any] | None]] = [
    ("DELETE", "bb2e5125ac2c4b3680463d7aeaf57773", "/hosts/{}?deleteMode=Permissive", None, None),
    (
        "PUT",
        "fe98e821991a3c96af96fc7e458d2020",
        "/hosts/{}/actions",
        {"updateHost": {"name": "example", "description": "example", "managementIp": "192.168.0.1"}},
        {**HOST, "name": "example", "description": "example", "managementIp": "192.168.0.1"},
    ),
    (
        "PUT",
        "70e37940fe263e858a151850a312143f",
        "/hosts/{}/actions",
        {"changeHostState": {"stateEvent": "enable"}},
        {**HOST, "state": "Enabled"},
    ),
    ("PUT", "26caa95d6fb53d08ad6716ef03bf4b28", "/hosts/{}/actions", {"reconnectHost": {}}, HOST),
    (
        "PUT",
        "477399a02a343bf2971d86c531053f9e",
        "/hosts/kvm/{}/actions",
        {"updateKVMHost": {"username": "userName", "password": "password", "sshPort": 22.0}},
        {**HOST, "username": "userName", "sshPort": 22},
    ),
]


@pytest.fixture(scope="module")
def added_to(world: World, in_zone: str) -> str:
    """The cluster that the manual adds a host to."""
    params = {"name": "hosts", "zoneUuid": in_zone, "hypervisorType": "KVM", "resourceUuid": ADDED_TO}
    world.admin.create("/clusters", **params)
    return ADDED_TO


@pytest.mark.parametrize(("method", "uuid", "path", "body", "expected"), HOST_REQUESTS)
def test_a_printed_request_of_hosts_gets_the_printed_kind_of_answer(
    world: World,
    added_to: str,
    method: str,
    uuid: str,
    path: str,
    body: object,
    expected: dict[str, Any] | None,
) -> None:
    params = {**world.params("AddKVMHost"), "clusterUuid": added_to, "resourceUuid": uuid}
    world.admin.create("/hosts/kvm", **params)
    check(sent(world, method, path.format(uuid), body), expected)
    if expected is not None:
        back = {"updateHost": {"managementIp": params["managementIp"]}}  # where its agent is
        world.admin.run("PUT", f"/hosts/{uuid}/actions", back)
        world.admin.run("DELETE", f"/hosts/{uuid}", None)
    assert world.admin.query("/hosts", f"uuid={uuid}") == []


def test_the_printed_request_that_adds_a_host_is_understood(world: World, added_to: str) -> None:
    """Its address, 127.0.0.1, is that of a host already, whose cluster is another one."""
    params = {
        "username": "userName",
        "password": "password",
        "sshPort": 22,
        "name": "newHost",
        "managementIp": "127.0.0.1",
        "clusterUuid": added_to,
    }
    refused = sent(world, "POST", "/hosts/kvm", {"params": params})
    assert refused.error["code"] == "SYS.1007"
    assert f"belongs to host host ({world.host['uuid']}) already" in refused.error["details"]
    free = {**params, "managementIp": world.address()}
    added = sent(world, "POST", "/hosts/kvm", {"params": free, "systemTags": [], "userTags": []})
    check(added, {**HOST, "name": "newHost", "clusterUuid": added_to, "state": "Enabled"})
    world.admin.run("DELETE", f"/hosts/{added.body['inventory']['uuid']}", None)


@pytest.mark.parametrize(
    ("path", "key", "some"),
    [
        ("/hosts/allocators/strategies", "strategies", "DefaultHostAllocatorStrategy"),
        ("/hosts/allocators/strategies", "hostAllocatorStrategies", "DefaultHostAllocatorStrategy"),
        ("/hosts/hypervisor-types", "hypervisorTypes", "KVM"),
        ("/hosts/hypervisor-types", "hypervisorTypes", "Simulator"),
    ],
)
def test_a_printed_list_of_hosts_has_what_the_manual_names(
    world: World, path: str, key: str, some: str
) -> None:
    answer = curl(world.admin, "GET", path, **authorized(world.admin))
    assert answer.status == 200
    assert some in answer.body[key]
