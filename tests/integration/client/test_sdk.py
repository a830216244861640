from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mnclient import sdk
from mnclient.actions import (
    CreateClusterAction,
    CreateZoneAction,
    GetApiDescriptionAction,
    GetHypervisorTypesAction,
    QueryClusterAction,
    QueryZoneAction,
)
from mnclient.description import parse, shipped
from tests.node import Node

NEVER_S = 300.0


@pytest.fixture
def connection(node: Node) -> Iterator[sdk.Connection]:
    where = urlsplit(node.url)
    made = sdk.configure(where.hostname or "", where.port or 0)
    sdk.log_in("admin", "password")
    yield made
    sdk.log_out()
    sdk.configure()


def test_the_manuals_example_runs(node: Node) -> None:
    where = urlsplit(node.url)
    sdk.configure(where.hostname or "", where.port or 0)
    action = CreateZoneAction()
    action.name = "TestZone"
    action.description = "test zone"
    action.sessionId = node.rest().logged_in().session
    res: CreateZoneAction.Result = action.call()
    assert res.error is None
    assert res.value.inventory.name == "TestZone"
    assert res.value.inventory.state == "Enabled"


def test_zones_and_clusters_are_created_and_queried(connection: sdk.Connection) -> None:
    zone = CreateZoneAction(name="z-sdk").call().value.inventory
    CreateClusterAction(name="c-sdk", zoneUuid=zone.uuid, hypervisorType="KVM").call().throw_if_error()
    clusters = QueryClusterAction(conditions=["zone.name=z-sdk"]).call().value.inventories
    assert [cluster.name for cluster in clusters] == ["c-sdk"]
    assert QueryZoneAction(conditions=["name=z-sdk"], count=True).call().value.total == 1
    assert GetHypervisorTypesAction().call().value.hypervisorTypes == ["KVM", "Simulator"]


def test_a_refusal_is_in_the_result(connection: sdk.Connection) -> None:
    result = CreateClusterAction(name="c", zoneUuid="0" * 32, hypervisorType="KVM").call()
    assert result.error is not None
    assert result.error.code == "SYS.1003"
    assert "take a uuid from QueryZone" in result.error.details


async def test_many_calls_at_once_on_an_event_loop(connection: sdk.Connection) -> None:
    actions = [CreateZoneAction(name=f"async-{i}") for i in range(10)]
    results = await asyncio.gather(*(action.call_async() for action in actions))
    assert {result.value.inventory.name for result in results} == {f"async-{i}" for i in range(10)}
    found = await QueryZoneAction(conditions=["name~=async-%"], replyWithCount=True).call_async()
    assert found.value.total == 10
    await connection.close()


def test_the_same_job_uuid_is_the_same_job(connection: sdk.Connection) -> None:
    job = uuid.uuid4().hex
    uuids = {CreateZoneAction(name="once", jobUuid=job).call().value.inventory.uuid for _ in range(2)}
    assert len(uuids) == 1


def test_the_node_serves_the_description_that_the_client_ships(connection: sdk.Connection) -> None:
    served = parse(GetApiDescriptionAction().call().value.to_dict())
    assert served.operations == shipped().operations
    assert served.resources == shipped().resources
    assert connection.learn().version


def test_a_session_that_does_not_exist_is_an_error(connection: sdk.Connection) -> None:
    result = QueryZoneAction(sessionId="0" * 32).call()
    assert result.error is not None
    assert result.error.code == "ID.1001"


@pytest.mark.parametrize("loop", ["blocking", "asyncio"])
def test_a_web_hook_brings_the_result(node: Node, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnclient.protocol.HOOK_POLL_S", NEVER_S)
    where = urlsplit(node.url)
    connection = sdk.configure(where.hostname or "", where.port or 0, webHook=True)
    sdk.log_in("admin", "password")
    refused = CreateClusterAction(name="c", zoneUuid="0" * 32, hypervisorType="KVM")
    begun = time.monotonic()
    if loop == "asyncio":
        results = asyncio.run(_both(connection, CreateZoneAction(name="hooked"), refused))
    else:
        results = CreateZoneAction(name="hooked").call(), refused.call()
    assert results[0].value.inventory.name == "hooked"
    assert results[1].error is not None
    assert results[1].error.code == "SYS.1003"
    assert time.monotonic() - begun < NEVER_S, "the results came by polling"
    sdk.configure()


async def _both(
    connection: sdk.Connection, *actions: CreateZoneAction | CreateClusterAction
) -> list[sdk.Result[Any]]:
    results = await asyncio.gather(*(action.call_async() for action in actions))
    await connection.close()
    return list(results)
