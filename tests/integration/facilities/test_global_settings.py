"""Global settings hold at once, survive a restart and refuse what is out of range."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import Answer, Node, Rest, run_node

ALL = "/global-configurations"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield from run_node(tmp_path / "state")


def change(admin: Rest, category: str, name: str, value: str | None) -> Answer:
    given = {} if value is None else {"value": value}
    return admin.run("PUT", f"{ALL}/{category}/{name}/actions", {"updateGlobalConfig": given})


def test_a_setting_holds_at_once_and_after_a_restart_until_it_is_given_back(node: Node) -> None:
    admin = node.rest().logged_in()
    changed = change(admin, "identity", "session.maxConcurrent", "2")
    assert changed.body["inventory"]["value"] == "2"
    assert changed.body["inventory"]["defaultValue"] == "500"
    node.rest().logged_in()
    refused = node.rest().log_in()
    assert (refused.status, refused.error["code"]) == (503, "ID.1006")
    node.restart()
    admin = Rest(node.url, admin.session)
    assert node.rest().log_in().error["code"] == "ID.1006"
    assert change(admin, "identity", "session.maxConcurrent", None).body["inventory"]["value"] == "500"
    assert node.rest().log_in().status == 200


def test_every_setting_says_its_unit_and_range(node: Node) -> None:
    settings = node.rest().logged_in().query(ALL)
    assert {s["category"] for s in settings} == {
        "backupStorage",
        "ceph",
        "cluster",
        "host",
        "identity",
        "image",
        "kvm",
        "mevoco",
        "pciDevice",
        "primaryStorage",
        "rest",
        "sharedBlock",
        "vm",
        "volume",
    }
    for setting in settings:
        if setting["defaultValue"] in ("true", "false"):
            assert setting["description"].endswith("; true or false"), setting
        elif setting["defaultValue"].isalpha():
            words = setting["description"].rpartition("; ")[2].split(" or ")
            assert setting["defaultValue"] in words, setting
        else:
            assert " from " in setting["description"], setting
            assert " of " in setting["description"], setting
        assert setting["value"] == setting["defaultValue"]


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "1e9", "nan"])
def test_a_value_out_of_range_is_refused_with_the_range(node: Node, value: str) -> None:
    answer = change(node.rest().logged_in(), "identity", "session.maxConcurrent", value)
    assert answer.status == 503
    assert answer.error["code"] == "SYS.1007"
    assert "whole number of sessions from 1 to 100000" in answer.error["details"]


def test_a_switch_is_true_or_false(node: Node) -> None:
    admin, name = node.rest().logged_in(), "connection.autoReconnectOnError"
    assert change(admin, "host", name, "FALSE").body["inventory"]["value"] == "false"
    assert change(admin, "host", name, None).body["inventory"]["value"] == "true"
    refused = change(admin, "host", name, "0")
    assert (refused.error["code"], refused.error["details"][-20:]) == ("SYS.1007", "; give true or false")


def test_an_unknown_setting_is_named_with_those_there_are(node: Node) -> None:
    answer = change(node.rest().logged_in(), "identity", "nonsense", "1")
    assert answer.error["code"] == "SYS.1003"
    assert "identity session.timeout" in answer.error["details"]
