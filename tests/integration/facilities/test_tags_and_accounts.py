"""Tags go with their resources; accounts that are no administrators may change themselves and no more."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node import Node, Rest, run_node

CPU_TAG = "host::reservedCpu::2"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture
def admin(node: Node) -> Rest:
    return node.rest().logged_in()


@pytest.fixture
def zone(admin: Rest) -> dict[str, Any]:
    return admin.create("/zones", name="zone")


def sha512(password: str) -> str:
    return hashlib.sha512(password.encode()).hexdigest()


def tags(admin: Rest, kind: str, uuid: str) -> list[str]:
    return [t["tag"] for t in admin.query(f"/{kind}-tags", f"resourceUuid={uuid}")]


@pytest.mark.parametrize("inside", [True, False])
def test_tags_beside_and_inside_the_parameters_are_written_with_the_resource(
    admin: Rest, inside: bool
) -> None:
    given = {"systemTags": [CPU_TAG], "userTags": ["my own", "my own"]}
    body = {"params": {"name": "z", **given}} if inside else {"params": {"name": "z"}, **given}
    uuid = admin.run("POST", "/zones", body).body["inventory"]["uuid"]
    assert tags(admin, "system", uuid) == [CPU_TAG]
    assert tags(admin, "user", uuid) == ["my own"]
    admin.run("DELETE", f"/zones/{uuid}", None)
    assert tags(admin, "system", uuid) == tags(admin, "user", uuid) == []


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("host::reservedCpu::many", "no whole number"),
        ("host::reservedMemory::big", "no size such as"),
        ("something::else", "host::reservedCpu::{capacity}"),
        ("host::reservedCpu::", "host::reservedCpu::{capacity}"),
    ],
)
def test_a_system_tag_must_be_of_a_known_kind_with_a_right_value(
    admin: Rest, zone: dict[str, Any], tag: str, said: str
) -> None:
    wanted = {"resourceType": "ZoneVO", "resourceUuid": zone["uuid"], "tag": tag}
    answer = admin.run("POST", "/system-tags", {"params": wanted})
    assert answer.status == 503
    assert answer.error["code"] == "SYS.1007"
    assert said in answer.error["details"]


def test_a_system_tag_is_created_changed_found_and_deleted(admin: Rest, zone: dict[str, Any]) -> None:
    wanted = {"resourceType": "ZoneVO", "resourceUuid": zone["uuid"]}
    tag = admin.create("/system-tags", **wanted, tag=CPU_TAG)
    assert (tag["type"], tag["inherent"], tag["tag"]) == ("System", False, CPU_TAG)
    second = admin.run("POST", "/system-tags", {"params": {**wanted, "tag": "host::reservedCpu::4"}})
    assert second.error["code"] == "TAG.1000"
    assert CPU_TAG in second.error["details"]
    path = f"/system-tags/{tag['uuid']}/actions"
    changed = admin.run("PUT", path, {"updateSystemTag": {"tag": "host::reservedCpu::4"}})
    assert changed.body["inventory"]["tag"] == "host::reservedCpu::4"
    other_kind = admin.run("PUT", path, {"updateSystemTag": {"tag": "host::reservedMemory::1G"}})
    assert other_kind.error["code"] == "SYS.1007"
    assert admin.query("/user-tags", f"uuid={tag['uuid']}") == []
    for _ in range(2):
        assert admin.run("DELETE", f"/tags/{tag['uuid']}", None).body == {}
    assert tags(admin, "system", zone["uuid"]) == []


def test_a_tag_needs_a_known_type_and_a_resource(admin: Rest, zone: dict[str, Any]) -> None:
    def refused(kind: str, uuid: str) -> dict[str, Any]:
        params = {"resourceType": kind, "resourceUuid": uuid, "tag": "t"}
        return admin.run("POST", "/user-tags", {"params": params}).error

    unknown_type = refused("ZonVO", zone["uuid"])
    assert unknown_type["code"] == "SYS.1007"
    assert "did you mean 'ZoneVO'?" in unknown_type["details"]
    assert refused("ZoneVO", "0" * 32)["code"] == "SYS.1003"


def test_an_account_is_created_logs_in_and_is_kept_to_itself(node: Node, admin: Rest) -> None:
    account = admin.create("/accounts", name="operator", password=sha512("one"))
    assert account["type"] == "Normal"
    assert set(account) == {"uuid", "name", "type", "createDate", "lastOpDate"}
    login = node.rest().log_in("operator", "one")
    mine = Rest(node.url, login.body["inventory"]["uuid"])
    for denied in (
        mine.get("/zones"),
        mine.call("POST", "/zones", {"params": {"name": "z"}}),
        mine.get("/hosts"),
    ):
        assert (denied.status, denied.error["code"]) == (503, "ID.1002")
    other = admin.query("/accounts", "name=admin")[0]["uuid"]
    stolen = mine.call("PUT", f"/accounts/{other}", {"updateAccount": {"password": sha512("x")}})
    assert stolen.error["code"] == "ID.1002"
    changed = mine.call("PUT", f"/accounts/{account['uuid']}", {"updateAccount": {"password": sha512("two")}})
    assert changed.status == 202
    assert admin.wait(changed.location).status == 200
    assert mine.get("/zones").error["code"] == "ID.1001", "a new password ends the account's sessions"
    assert node.rest().log_in("operator", "one").error["code"] == "ID.1000"
    assert node.rest().log_in("operator", "two").status == 200


def test_a_deleted_accounts_sessions_are_over(node: Node, admin: Rest) -> None:
    account = admin.create("/accounts", name="leaver", password=sha512("p"), type="SystemAdmin")
    theirs = Rest(node.url, node.rest().log_in("leaver", "p").body["inventory"]["uuid"])
    assert theirs.get("/zones").status == 200
    assert admin.run("DELETE", f"/accounts/{account['uuid']}", None).body == {}
    assert theirs.get("/zones").error["code"] == "ID.1001"
    assert node.rest().log_in("leaver", "p").error["code"] == "ID.1000"


def test_what_an_account_cannot_be_is_refused(admin: Rest) -> None:
    plain = admin.call("POST", "/accounts", {"params": {"name": "n", "password": "plain"}})
    assert plain.status == 400
    assert "SHA-512" in plain.error["details"]
    assert "plain" not in plain.error["details"]
    admin.create("/accounts", name="twice", password=sha512("p"))
    twice = admin.run("POST", "/accounts", {"params": {"name": "twice", "password": sha512("p")}})
    assert twice.error["code"] == "SYS.1007"
    me = admin.query("/accounts", "name=admin")[0]["uuid"]
    assert admin.run("DELETE", f"/accounts/{me}", None).error["code"] == "SYS.1006"
