"""Operations on one resource that is there, that is not, and that never could be."""

from __future__ import annotations

import pytest

from tests.contract.catalogue import CREATES, JOBS, OPERATIONS, Operation
from tests.contract.conftest import World, fill, new_uuid
from tests.contract.test_sessions import ADMIN_UUID, DIGEST
from tests.node import Rest

ON_ONE = [operation for operation in JOBS if "{uuid}" in operation.paths[0]]
CHANGES_OF_STATE = [o for o in ON_ONE if any(p.name == "stateEvent" for p in o.params)]
DELETES = [operation for operation in ON_ONE if operation.method == "DELETE"]


@pytest.mark.parametrize("operation", ON_ONE, ids=lambda o: o.name)
def test_what_does_not_exist_cannot_be_changed_and_is_deleted_already(
    world: World, operation: Operation
) -> None:
    absent = new_uuid()
    body = {operation.wrapper: world.params(operation)} if operation.wrapper else None
    answer = world.admin.run(operation.method, fill(operation.paths[0], absent), body)
    if operation.method == "DELETE":
        assert (answer.status, answer.body) == (200, {})
    else:
        assert (answer.status, answer.error["code"]) == (503, "SYS.1003")
        assert absent in answer.error["details"]


@pytest.mark.parametrize("operation", CHANGES_OF_STATE, ids=lambda o: o.name)
@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("disable", "Disabled"),
        ("enable", "Enabled"),
        ("DISABLED", "Disabled"),
        ("Enabled", "Enabled"),
    ],
)
def test_a_state_event_may_be_written_as_in_the_examples(
    world: World, operation: Operation, event: str, state: str
) -> None:
    changed = world.admin.wait(world.call(operation, {"stateEvent": event}).location).body["inventory"]
    assert (changed["uuid"], changed["state"]) == (world.target(operation), state)


@pytest.mark.parametrize("operation", CHANGES_OF_STATE, ids=lambda o: o.name)
@pytest.mark.parametrize("event", ["maintain", "deleting"])
def test_a_state_event_that_the_resource_does_not_know_is_refused(
    world: World, operation: Operation, event: str
) -> None:
    answer = world.call(operation, {"stateEvent": event})
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert answer.error["details"].endswith(f"'stateEvent' is '{event}'; give enable or disable")


@pytest.mark.parametrize("operation", DELETES, ids=lambda o: o.name)
@pytest.mark.parametrize("uuid", ["x", "36c27e8f-f05c-4780-bf6d-2fa65700f22e", "%27", "G" * 32])
def test_a_malformed_uuid_is_not_deleted(world: World, operation: Operation, uuid: str) -> None:
    answer = world.admin.call("DELETE", fill(operation.paths[0], uuid))
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert "'uuid'" in answer.error["details"]


@pytest.mark.parametrize("operation", DELETES, ids=lambda o: o.name)
def test_a_delete_mode_is_permissive_or_enforcing(world: World, operation: Operation) -> None:
    path = fill(operation.paths[0])
    for mode in ("Permissive", "Enforcing"):
        assert world.admin.call("DELETE", f"{path}?deleteMode={mode}").status == 202
    for mode in ("permissive", "Nonsense", "", "Permissive&deleteMode=Enforcing"):
        answer = world.admin.call("DELETE", f"{path}?deleteMode={mode}")
        assert answer.status == 400
        assert "one of Permissive, Enforcing" in answer.error["details"]


@pytest.mark.parametrize("operation", CREATES, ids=lambda o: o.name)
def test_user_tags_are_kept_wherever_they_stand_in_the_body(world: World, operation: Operation) -> None:
    params = {**world.params(operation), "userTags": ["inside"]}
    body = {operation.wrapper: params, "userTags": ["beside"]}
    created = world.admin.run(operation.method, world.path(operation), body)
    uuid = created.body["inventory"]["uuid"]
    tags = world.admin.query("/user-tags", f"resourceUuid={uuid}")
    assert sorted(tag["tag"] for tag in tags) == ["beside", "inside"]


def test_a_change_of_nothing_leaves_everything(world: World) -> None:
    zone = world.admin.query("/zones", f"uuid={world.spare_zone['uuid']}")[0]
    answer = world.admin.wait(world.call(OPERATIONS["UpdateZone"], {}).location)
    assert answer.body == {"inventory": zone}


@pytest.mark.parametrize("password", ["plain", DIGEST[:-1], DIGEST + "0", "g" * 128])
def test_a_new_password_that_could_not_be_logged_in_with_is_refused(admin: Rest, password: str) -> None:
    body = {"updateAccount": {"password": password}}
    answer = admin.call("PUT", f"/accounts/{ADMIN_UUID}", body)
    assert answer.status == 400
    assert "'password' is no SHA-512" in answer.error["details"]
    assert password not in answer.raw.decode()
    assert Rest(admin.url).log_in().status == 200
