from __future__ import annotations

import json
import os
import re
from pathlib import Path

from mn import facilities
from mn.rest.operation import registry
from tests.contract.catalogue import BESIDE_THE_MANUAL, OPERATIONS, SERVED, TYPES
from tests.contract.distil import DISTILLED, distil, render

CATALOG = os.environ.get("HARDPOINT_CATALOG")

if CATALOG:  # no test at all where there is no catalogue to compare with

    def test_distilling_the_catalogue_again_gives_the_committed_file() -> None:
        distilled = render(distil(json.loads(Path(CATALOG).read_text())))
        assert distilled == DISTILLED.read_text()


def test_the_catalogue_has_all_110_operations_each_with_a_path_and_a_verb() -> None:
    assert len(OPERATIONS) == 110
    for operation in OPERATIONS.values():
        assert operation.paths, operation.name
        assert operation.method in {"GET", "POST", "PUT", "DELETE"}, operation.name
        if operation.method == "PUT" or operation.required_in_body():
            assert operation.wrapper, operation.name


def test_every_type_that_a_reply_holds_is_described_or_is_simple() -> None:
    kinds = {kind for operation in OPERATIONS.values() for kind in operation.reply.values()}
    kinds |= {kind for fields in TYPES.values() for kind in fields.values()}
    inventories = {kind.removesuffix("[]") for kind in kinds if "Inventory" in kind or "Struct" in kind}
    assert inventories <= set(TYPES)


def test_every_operation_of_the_manual_is_served() -> None:
    facilities.load()
    assert len(OPERATIONS) == 110
    assert set(OPERATIONS) == SERVED
    assert set(registry) >= SERVED
    assert set(registry) - set(OPERATIONS) == BESIDE_THE_MANUAL


def test_the_code_declares_the_documented_verbs_paths_and_wrappers() -> None:
    facilities.load()
    for name in sorted(SERVED):
        documented, spec = OPERATIONS[name], registry[name].spec
        assert spec.kind.method == documented.method, name
        assert spec.kind.is_job == documented.is_job, name
        assert {_positional(p) for p in documented.paths} <= {
            _positional(p) for p in (*spec.paths, *spec.also_at)
        }, name
        assert (documented.wrapper in spec.wrappers) or not documented.wrapper, name


def _positional(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path).rstrip("/")
