"""Requests that schemathesis makes up from the API's description, sent to a running node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.node import Node, Rest, admin, node

__all__ = ["admin", "node"]

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {f"{o.method.upper()} {o.path}": o for o in (r.ok() for r in SCHEMA.get_all_operations())}
EXAMPLES = 12
SEED = 20161231


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_is_sent_the_answer_is_a_documented_one(
    admin: Rest, name: str, mode: GenerationMode
) -> None:
    operation = OPERATIONS[name]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
        return  # nothing about it can be wrong

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        case.headers.pop("X-Web-Hook", None)  # nobody asked to be called
        case.headers["Authorization"] = f"OAuth {admin.session}"
        answer = case.call(base_url=f"{admin.url}/zstack/v1")
        assert answer.status_code in (200, 202, 400, 404, 405, 503), answer.text
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] != "SYS.1000"
        if answer.status_code in (404, 405):  # values with slashes and dots are other paths
            assert answer.json()["error"]["details"]
        else:
            case.validate_response(answer, checks=[status_code_conformance, response_schema_conformance])

    send()


def test_nothing_of_it_was_unexpected(admin: Rest, node: Node) -> None:
    for line in admin.query("/audits", "status=202"):
        admin.wait(f"/api-jobs/{line['jobUuid']}")
    assert not admin.query("/audits", "errorCode=SYS.1000")
    assert not admin.query("/audits", "status=500")
    assert "Traceback" not in node.log()
