from __future__ import annotations

import copy
import json
from typing import Any

from mnclient.description import SHIPPED, Description, merge, parse, shipped


def _raw() -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(SHIPPED.read_text())
    return copy.deepcopy(raw)


def _of_a_node(change: dict[str, Any] | None = None, *, without: str = "") -> Description:
    raw = _raw()
    raw["operations"].update(change or {})
    raw["operations"].pop(without, None)
    return parse({"version": "9.9", **raw})


def test_an_operation_that_only_the_node_knows_is_known_after_the_merge() -> None:
    new = {**_raw()["operations"]["CreateZone"], "paths": ["/moons"]}
    merged = merge(shipped(), _of_a_node({"CreateMoon": new}))
    assert merged.operations["CreateMoon"].paths == ("/moons",)
    assert merged.operations["CreateMoon"].served
    assert merged.version == "9.9"


def test_an_operation_that_the_node_does_not_know_is_marked() -> None:
    merged = merge(shipped(), _of_a_node(without="CreateZone"))
    assert not merged.operations["CreateZone"].served
    assert merged.operations["QueryZone"].served


def test_where_both_know_an_operation_the_nodes_word_counts() -> None:
    changed = copy.deepcopy(_raw()["operations"]["CreateZone"])
    changed["parameters"].append({"name": "isDefault", "type": "Boolean", "unheardOf": 1})
    merged = merge(shipped(), _of_a_node({"CreateZone": changed}))
    assert merged.operations["CreateZone"].parameters["isDefault"].type == "Boolean"


def test_a_parameter_tells_whose_uuid_it_holds() -> None:
    known = shipped()
    create, query = known.operations["CreateCluster"], known.operations["QueryHost"]
    assert known.referred(create, "zoneUuid") == "Zone"
    assert known.referred(known.operations["UpdateAccount"], "uuid") == "Account"
    assert known.referred(known.operations["KvmRunShell"], "hostUuids") == "Host"
    assert known.referred(create, "resourceUuid") is None
    assert known.referred(create, "name") is None
    assert known.named_by("lastHost") == "Host"
    assert query.reply == "Host"


def test_joins_are_followed_to_any_depth() -> None:
    known = shipped()
    found = known.follow("PciDevice", ["host", "cluster", "zone"])
    assert found is not None
    assert found.name == "Zone"
    assert known.follow("PciDevice", ["host", "moon"]) is None
