from __future__ import annotations

from collections.abc import Sequence

import pytest

from mnclient.description import merge, parse, shipped
from mnclient.shell.complete import Named, Need, complete
from mnclient.shell.repl import COMMANDS, page

ZONES = (Named("a" * 32, "zone1"), Named("b" * 32, "zone two"), Named("c" * 32, "other"))


def _live(need: Need) -> Sequence[Named] | None:
    return ZONES if need.resource == "Zone" else ()


def _texts(line: str) -> list[str]:
    return [c.text for c in complete(line, shipped(), _live, COMMANDS).candidates]


def test_the_first_word_is_an_operation_whatever_its_case() -> None:
    assert _texts("QueryZo") == ["QueryZone"]
    assert _texts("queryzo") == ["QueryZone"]
    assert {"CreateZone", "help"} <= set(_texts(""))


def test_an_operation_that_the_node_does_not_serve_is_not_offered() -> None:
    raw = {"version": "1", "operations": {}, "resources": {}}
    assert complete("QueryZo", merge(shipped(), parse(raw))).candidates == []


def test_a_query_offers_joins_fields_tags_and_parameters() -> None:
    found = complete("QueryHost ", shipped()).candidates
    assert {c.text for c in found if c.join} >= {"zone.", "cluster."}
    assert {"name=", "managementIp=", "__systemTag__=", "count=", "timeout="} <= {c.text for c in found}
    assert "conditions=" not in {c.text for c in found}


def test_joins_go_to_any_depth() -> None:
    assert "cluster.zone." in _texts("QueryHost cluster.")
    assert "cluster.name=" in _texts("QueryHost cluster.")
    assert _texts("QueryHost cluster.zone.nam") == ["cluster.zone.name="]
    assert _texts("QueryPciDevice host.cluster.zone.cluster.nam") == ["host.cluster.zone.cluster.name="]
    assert _texts("QueryHost moon.") == []


def test_a_whole_field_offers_its_operators() -> None:
    assert {"name=", "name!=", "name~=", "name?=", "name!?="} <= set(_texts("QueryHost name"))
    assert sorted(_texts("QueryHost name!")) == ["name!=", "name!?=", "name!~="]


def test_an_action_offers_required_parameters_first_and_none_twice() -> None:
    found = complete("CreateCluster ", shipped()).candidates
    assert [c.text for c in found[:3]] == ["hypervisorType=", "name=", "zoneUuid="]
    assert "name=" not in _texts("CreateCluster name=a ")
    assert "systemTags=" in _texts("CreateCluster systemTags=a ")


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("CreateCluster hypervisorType=", ["hypervisorType=KVM", "hypervisorType=Simulator"]),
        ("CreateCluster hypervisorType=k", ["hypervisorType=KVM"]),
        ("QueryHost state=E", ["state=Enabled"]),
        ("QueryHost cluster.hypervisorType!=S", ["cluster.hypervisorType!=Simulator"]),
        ("QueryHost status?=Connected,C", ["status?=Connected,Connecting"]),
        ("QueryHost count=t", ["count=true"]),
        ("QueryHost sortDirection=", ["sortDirection=asc", "sortDirection=desc"]),
        ("QueryZone fields=name,uu", ["fields=name,uuid"]),
        ("QueryZone sortBy=nam", ["sortBy=name"]),
        ("output j", ["json"]),
        ("help QueryZ", ["QueryZone"]),
        ("output json ", []),
        ("Unheard of", []),
    ],
)
def test_values_are_offered(line: str, texts: list[str]) -> None:
    assert _texts(line) == texts


def test_live_resources_are_offered_by_uuid_and_found_by_name() -> None:
    assert _texts("CreateCluster zoneUuid=") == [f"zoneUuid={zone.uuid}" for zone in ZONES]
    assert _texts("CreateCluster zoneUuid=zone1") == [f"zoneUuid={'a' * 32}"]
    assert _texts("CreateCluster zoneUuid=bbb") == [f"zoneUuid={'b' * 32}"]
    assert _texts("QueryHost zone.uuid=o") == [f"zone.uuid={'c' * 32}"]
    assert _texts("QueryCluster zoneUuid?=" + "a" * 32 + ",oth") == [f"zoneUuid?={'a' * 32},{'c' * 32}"]


def test_live_names_are_offered_and_quoted_when_they_hold_blanks() -> None:
    assert _texts("QueryZone name=zone") == ["name=zone1", 'name="zone two"']
    assert _texts('QueryZone name="zone t') == ['name="zone two"']
    assert _texts("QueryHost cluster.zone.name=o") == ["cluster.zone.name=other"]


def test_what_is_not_known_yet_is_asked_for_and_not_waited_for() -> None:
    found = complete("CreateCluster zoneUuid=zo", shipped(), lambda _need: None)
    assert found.candidates == []
    assert found.needs == [Need("Zone", "zo")]


def test_the_common_beginning_is_what_tab_inserts() -> None:
    assert complete("QueryHost total", shipped()).common() == "total"
    assert complete("QueryHost sortD", shipped()).common() == "sortDirection="
    assert complete("QueryHost sortD", shipped()).start == len("QueryHost ")


def test_the_page_is_that_of_the_manual() -> None:
    lines = page(complete("QueryCluster ", shipped()).candidates, width=80).splitlines()
    assert lines[0] == "[Query Conditions:]"
    end = lines.index("")
    assert {"host.", "zone."} <= set(" ".join(lines[1:end]).split())
    assert lines[end + 1].split()[:2] == ["__systemTag__=", "__userTag__="]
    assert "[Parameters:]" in lines
    assert all(len(line) <= 80 for line in lines)
