from __future__ import annotations

from typing import Any

import pytest

from tests.contract.catalogue import CREATES, JOBS, WITH_BODY, Operation, Parameter
from tests.contract.conftest import World, fill
from tests.contract.params import new_uuid

WRONG: dict[str, list[Any]] = {
    "String": [5, 1.5, True, [], {}],
    "int": ["22", "many", True, 1.5, [], {}],
    "Integer": ["22", "many", True, 1.5, [], {}],
    "boolean": ["true", 1, [], {}],
    "List": ["text", 5, {}, [5], [None], [[]]],
    "Set": ["text", 5, {}, [5], [None], [[]]],
}
IN_BODY = [(o, p) for o in WITH_BODY for p in o.params if p.place == "body"]
REQUIRED = [(o, p) for o, p in IN_BODY if p.required]
WHOLE = [(o, p) for o, p in IN_BODY if p.type in ("int", "Integer")]
CLOSED = [(o, p) for o, p in IN_BODY if p.enum]
NAMED = [o for o in CREATES if any(p.name == "name" for p in o.params)]
CHANGES_OF_STATE = [o for o in WITH_BODY if any(p.name == "stateEvent" for p in o.params)]
DELETES = [o for o in JOBS if o.name.startswith("Delete") and o.paths[0].endswith("{uuid}")]
WITH_MODE = [o for o in DELETES if any(p.name == "deleteMode" for p in o.params)]
WRONG_CASES = [(o, p, value) for o, p in IN_BODY for value in WRONG[p.type]]


def _ids(cases: list[tuple[Any, ...]]) -> list[str]:
    return [" ".join([o.name, p.name, *map(repr, rest)]) for o, p, *rest in cases]


def _refused(world: World, operation: Operation, params: dict[str, Any], name: str) -> str:
    answer = world.call(operation, params)
    assert answer.status == 400, answer
    assert answer.error["code"] == "SYS.1007"
    details: str = answer.error["details"]
    assert details.startswith(f"{operation.name}: parameter ")
    assert f"'{name}'" in details
    return details


@pytest.mark.parametrize(("operation", "parameter"), REQUIRED, ids=_ids(REQUIRED))
def test_a_required_parameter_that_is_missing_is_named(
    world: World, operation: Operation, parameter: Parameter
) -> None:
    params = world.harmless_params(operation)
    del params[parameter.name]
    assert f"'{parameter.name}' is missing: give " in _refused(world, operation, params, parameter.name)


@pytest.mark.parametrize(("operation", "parameter"), REQUIRED, ids=_ids(REQUIRED))
@pytest.mark.parametrize("empty", [None, "", "   "])
def test_an_empty_value_is_no_value(
    world: World, operation: Operation, parameter: Parameter, empty: str | None
) -> None:
    if empty == "   " and parameter.name in ("password", "script"):
        return  # blanks may be a password, and are a script
    params = {**world.harmless_params(operation), parameter.name: empty}
    _refused(world, operation, params, parameter.name)


@pytest.mark.parametrize("operation", [o for o in WITH_BODY if o.required_in_body()], ids=lambda o: o.name)
def test_all_missing_parameters_are_named_at_once(world: World, operation: Operation) -> None:
    details = world.call(operation, {}).error["details"]
    assert all(f"'{p.name}' is missing" in details for p in operation.required_in_body())


@pytest.mark.parametrize(("operation", "parameter", "value"), WRONG_CASES, ids=_ids(WRONG_CASES))
def test_a_parameter_of_another_json_type_is_named_with_what_would_be_right(
    world: World, operation: Operation, parameter: Parameter, value: object
) -> None:
    params = {**world.harmless_params(operation), parameter.name: value}
    assert ": give " in _refused(world, operation, params, parameter.name)


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda o: o.name)
@pytest.mark.parametrize("tags", ["text", 5, {}, [5], [""]], ids=repr)
def test_tags_are_lists_of_texts(world: World, operation: Operation, tags: object) -> None:
    for key in ("systemTags", "userTags"):
        _refused(world, operation, {**world.harmless_params(operation), key: tags}, key)
        beside = world.call(operation, world.harmless_params(operation), {key: tags})
        if tags != {}:  # an empty object beside the wrapper is as good as none
            assert beside.status == 400, key


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda o: o.name)
def test_empty_tags_and_unknown_parameters_are_left_aside(world: World, operation: Operation) -> None:
    params = {**world.harmless_params(operation), "systemTags": [], "noSuchParameter": {"a": 1}}
    assert world.call(operation, params, {"systemTags": [], "userTags": [], "more": 1}).status == 202


@pytest.mark.parametrize(("operation", "parameter"), CLOSED, ids=_ids(CLOSED))
def test_the_values_of_an_enumeration_are_taken_and_others_refused(
    world: World, operation: Operation, parameter: Parameter
) -> None:
    for value in parameter.enum:
        params = {**world.harmless_params(operation), parameter.name: value}
        assert world.call(operation, params).status == 202, value
    any_case = parameter.name == "stateEvent"  # as the manual's examples have it
    for value in ("Nonsense", "" if any_case else parameter.enum[0].swapcase()):
        details = _refused(
            world, operation, {**world.harmless_params(operation), parameter.name: value}, parameter.name
        )
        assert all(right in details for right in parameter.enum)


@pytest.mark.parametrize(("operation", "parameter"), WHOLE, ids=_ids(WHOLE))
def test_a_whole_float_is_a_whole_number(world: World, operation: Operation, parameter: Parameter) -> None:
    params = {**world.harmless_params(operation), parameter.name: 22.0}
    assert world.call(operation, params).status == 202


@pytest.mark.parametrize("port", [0, -1, 65536, 2**63, 1e300])
def test_a_port_out_of_range_is_refused_with_the_range(world: World, port: float) -> None:
    operation = next(o for o in WITH_BODY if o.name == "AddKVMHost")
    params = {**world.harmless_params(operation), "sshPort": port}
    assert "from 1 to 65535" in _refused(world, operation, params, "sshPort")


@pytest.mark.parametrize("operation", NAMED, ids=lambda o: o.name)
def test_names_and_descriptions_are_as_long_as_documented(world: World, operation: Operation) -> None:
    good = {**world.harmless_params(operation), "name": "n" * 255}
    assert world.call(operation, {**good, "description": "d" * 2048}).status == 202
    _refused(world, operation, {**good, "name": "n" * 256}, "name")
    if any(parameter.name == "description" for parameter in operation.params):
        _refused(world, operation, {**good, "description": "d" * 2049}, "description")


def test_names_are_trimmed_and_may_be_of_any_script(world: World) -> None:
    zone = world.admin.create("/zones", name="  区域 \U0001f5a5 'x' \\ %_  ")
    assert zone["name"] == "区域 \U0001f5a5 'x' \\ %_"
    assert world.admin.query(f"/zones/{zone['uuid']}")[0]["name"] == zone["name"]


@pytest.mark.parametrize(
    "address", ["", "a b", "-a", "999.1.1.1", "1.2.3", "http://h", "h:22", "a" * 300, "::g", "h/24"]
)
def test_what_is_no_address_is_refused(world: World, address: str) -> None:
    operation = next(o for o in WITH_BODY if o.name == "AddKVMHost")
    params = {**world.params(operation), "managementIp": address}
    assert "an IPv4 or IPv6 address or a host name" in _refused(world, operation, params, "managementIp")


@pytest.mark.parametrize("secret", [["hunter2"], {"a": "hunter2"}])
def test_a_password_of_a_wrong_type_is_not_shown(world: World, secret: object) -> None:
    operation = next(o for o in WITH_BODY if o.name == "AddKVMHost")
    params = {**world.harmless_params(operation), "password": secret}
    assert "hunter2" not in _refused(world, operation, params, "password")


@pytest.mark.parametrize("operation", CREATES, ids=lambda o: o.name)
@pytest.mark.parametrize(
    "malformed",
    [
        "36c27e8f-f05c-4780-bf6d-2fa65700f22e",
        "36C27E8FF05C4780BF6D2FA65700F22E",
        "36c27e8ff05c4780bf6d2fa65700f22",
        "36c27e8ff05c4780bf6d2fa65700f22ee",
        "36c27e8ff05c0780bf6d2fa65700f22e",
        "36c27e8ff05c4780cf6d2fa65700f22e",
        "g6c27e8ff05c4780bf6d2fa65700f22e",
        "x",
        "36c27e8ff05c4780bf6d2fa65700f22e\n36c27e8ff05c4780bf6d2fa65700f22e",
    ],
)
def test_a_malformed_resource_uuid_is_refused(world: World, operation: Operation, malformed: str) -> None:
    params = {**world.harmless_params(operation), "resourceUuid": malformed}
    _refused(world, operation, params, "resourceUuid")


@pytest.mark.parametrize("operation", CREATES, ids=lambda o: o.name)
def test_the_uuid_that_a_caller_chose_is_taken_once(world: World, operation: Operation) -> None:
    chosen = new_uuid()
    made = world.admin.wait(
        world.call(operation, {**world.params(operation), "resourceUuid": chosen}).location
    )
    assert made.status == 200
    assert made.body["inventory"]["uuid"] == chosen
    again = world.admin.wait(
        world.call(operation, {**world.params(operation), "resourceUuid": chosen}).location
    )
    assert again.status == 503
    assert again.error["code"] == "SYS.1007"
    assert chosen in again.error["details"]


@pytest.mark.parametrize("operation", CHANGES_OF_STATE, ids=lambda o: o.name)
@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("enable", "Enabled"),
        ("Enabled", "Enabled"),
        ("disable", "Disabled"),
        ("DISABLED", "Disabled"),
        ("Disable", "Disabled"),
    ],
)
def test_a_state_event_may_be_written_as_in_the_examples(
    world: World, operation: Operation, event: str, state: str
) -> None:
    params = {**world.params(operation), "stateEvent": event}
    changed = world.admin.wait(world.call(operation, params).location).body["inventory"]
    assert (changed["uuid"], changed["state"]) == (params["uuid"], state)


@pytest.mark.parametrize("operation", CHANGES_OF_STATE, ids=lambda o: o.name)
@pytest.mark.parametrize("event", ["maintain", "deleting"])
def test_a_state_event_that_the_resource_does_not_know_is_refused(
    world: World, operation: Operation, event: str
) -> None:
    if any(event in p.enum for p in operation.params):
        return  # hosts and storages can be maintained
    answer = world.call(operation, {**world.params(operation), "stateEvent": event})
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert "'stateEvent'" in answer.error["details"]
    assert "enable or disable" in answer.error["details"]


@pytest.mark.parametrize("operation", DELETES, ids=lambda o: o.name)
@pytest.mark.parametrize("uuid", ["x", "36c27e8f-f05c-4780-bf6d-2fa65700f22e", "%27", "G" * 32])
def test_a_malformed_uuid_is_not_deleted(world: World, operation: Operation, uuid: str) -> None:
    answer = world.admin.call("DELETE", fill(operation.paths[0], uuid))
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert "'uuid'" in answer.error["details"]


@pytest.mark.parametrize("operation", WITH_MODE, ids=lambda o: o.name)
def test_a_delete_mode_is_permissive_or_enforcing(world: World, operation: Operation) -> None:
    for mode in ("Permissive", "Enforcing"):
        assert world.call(operation, {"uuid": new_uuid(), "deleteMode": mode}).status == 202
    for mode in ("permissive", "Nonsense", ""):
        answer = world.call(operation, {"uuid": new_uuid(), "deleteMode": mode})
        assert answer.status == 400
        assert "one of Permissive, Enforcing" in answer.error["details"]


def test_a_version_3_uuid_may_be_chosen_too(world: World) -> None:
    chosen = "d59c027b81fe3bbc9d78ef45f574febb"
    assert world.admin.create("/zones", name="v3", resourceUuid=chosen)["uuid"] == chosen
