from __future__ import annotations

from typing import Any

import pytest

from tests.contract.catalogue import CREATES, JOBS, OPERATIONS, Operation
from tests.contract.conftest import NOBODY, World
from tests.contract.params import new_uuid
from tests.contract.test_replies import faults

REFERENCES = [
    (operation, parameter.name)
    for operation in JOBS
    for parameter in operation.params
    if parameter.required and parameter.name in ("zoneUuid", "clusterUuid", "hostUuids")
]


def _failed(world: World, called: str, /, **changed: Any) -> dict[str, Any]:
    """Return the error with which a job of an operation fails; it is checked to be a proper one."""
    operation = OPERATIONS[called]
    answer = world.admin.wait(world.call(operation, {**world.params(operation), **changed}).location)
    assert answer.status == 503, answer
    error: dict[str, Any] = answer.error
    assert not list(faults(error, "ErrorCode", "error"))
    return error


@pytest.mark.parametrize(("operation", "parameter"), REFERENCES, ids=lambda x: getattr(x, "name", x))
def test_a_reference_to_nothing_is_sys_1003_and_names_the_uuid(
    world: World, operation: Operation, parameter: str
) -> None:
    absent = new_uuid()
    error = _failed(world, operation.name, **{parameter: [absent] if parameter.endswith("s") else absent})
    assert error["code"] == "SYS.1003"
    assert absent in error["details"]


def test_a_host_added_to_an_unknown_cluster_leaves_no_trace(world: World) -> None:
    address = world.address()
    _failed(world, "AddKVMHost", clusterUuid=new_uuid(), managementIp=address)
    assert not world.admin.query("/hosts", f"managementIp={address}")


def test_a_kvm_host_does_not_fit_into_a_cluster_of_simulators(world: World) -> None:
    error = _failed(world, "AddKVMHost", clusterUuid=world.simulator_cluster["uuid"])
    assert error["code"] == "SYS.1006"
    assert "hypervisor mismatch" in error["details"]
    assert "Simulator" in error["details"]


@pytest.mark.parametrize("address", ["127.0.0.1", "[127.0.0.1]", " 127.0.0.1 "])
def test_an_address_is_taken_by_one_host_only(world: World, address: str) -> None:
    error = _failed(world, "AddKVMHost", managementIp=address)
    assert error["code"] == "SYS.1007"
    assert "127.0.0.1" in error["details"]
    assert world.host["uuid"] in error["details"]


def test_a_refused_addition_leaves_the_host_that_is_there_alone(world: World) -> None:
    params = {**world.params("AddKVMHost"), "resourceUuid": new_uuid()}
    host = world.admin.create("/hosts/kvm", **params)
    assert _failed(world, "AddKVMHost", **params)["code"] == "SYS.1007"
    assert world.admin.query(f"/hosts/{host['uuid']}") == [host]
    assert world.admin.query("/pci-device/pci-devices", f"hostUuid={host['uuid']}")


def test_a_host_that_cannot_be_reached_is_not_added_and_the_cause_is_given(world: World) -> None:
    error = _failed(world, "AddKVMHost", managementIp=NOBODY, name="far away")
    assert (error["code"], error["description"]) == ("HOST.1000", "Unable to add host")
    assert error["details"].startswith(f"host far away ({NOBODY}) was not added: ")
    assert error["cause"]["code"] == "HOST.1003"
    assert f"@{NOBODY}:" in error["cause"]["details"]
    assert not world.admin.query("/hosts", f"managementIp={NOBODY}")


@pytest.mark.parametrize("name", ["AddCephPrimaryStorage", "AddCephBackupStorage"])
def test_a_monitor_that_cannot_be_reached_is_named_and_nothing_is_left_to_undo(
    world: World, name: str
) -> None:
    params = world.harmless_params(name)
    error = _failed(world, name, **params)
    assert (error["code"], error["cause"]["code"]) == ("SYS.1002", "HOST.1003")
    assert f"@{NOBODY}:" in error["details"]
    assert "undone" not in error["details"]
    assert not world.admin.query(OPERATIONS[name].queried_at, f"name={params['name']}")


def test_one_unknown_host_among_known_ones_stops_the_script_for_all(world: World) -> None:
    absent = new_uuid()
    error = _failed(world, "KvmRunShell", hostUuids=[world.host["uuid"], absent])
    assert error["code"] == "SYS.1003"
    assert absent in error["details"]


@pytest.mark.parametrize("operation", CREATES, ids=lambda o: o.name)
def test_a_system_tag_that_the_resource_may_not_have_is_refused_and_nothing_is_made(
    world: World, operation: Operation
) -> None:
    chosen = new_uuid()
    error = _failed(world, operation.name, systemTags=["no::such"], resourceUuid=chosen)
    assert error["code"] == "SYS.1007"
    assert "no::such" in error["details"]
    assert not world.admin.query(operation.queried_at, f"uuid={chosen}")


@pytest.mark.parametrize("operation", CREATES, ids=lambda o: o.name)
def test_user_tags_are_kept_wherever_they_stand_in_the_body(world: World, operation: Operation) -> None:
    params = {**world.params(operation), "userTags": ["inside"]}
    created = world.admin.wait(world.call(operation, params, {"userTags": ["beside"]}).location)
    uuid = created.body["inventory"]["uuid"]
    tags = world.admin.query("/user-tags", f"resourceUuid={uuid}")
    assert sorted(tag["tag"] for tag in tags) == ["beside", "inside"]


@pytest.mark.parametrize("operation", [o for o in JOBS if "{uuid}" in o.paths[0]], ids=lambda o: o.name)
def test_what_does_not_exist_cannot_be_changed_and_is_deleted_already(
    world: World, operation: Operation
) -> None:
    params = {**world.harmless_params(operation), "uuid": new_uuid()}
    answer = world.admin.wait(world.call(operation, params).location)
    if operation.method == "DELETE" and not operation.reply:
        assert (answer.status, answer.body) == (200, {})
    else:
        assert (answer.status, answer.error["code"]) == (503, "SYS.1003")
        assert params["uuid"] in answer.error["details"]
