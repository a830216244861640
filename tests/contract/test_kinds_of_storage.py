"""What one kind of storage alone can do is refused for another one by its name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.conftest import World
from tests.contract.params import new_uuid


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/primary-storage/ceph/{}/actions", {"rotateCephPrimaryStorageKey": {}}),
        ("POST", "/primary-storage/ceph/{}/pools", {"params": {"poolName": "p", "type": "Data"}}),
    ],
)
def test_a_local_storage_is_no_ceph_storage(
    world: World, method: str, path: str, body: dict[str, Any]
) -> None:
    for uuid in (world.storage["uuid"], new_uuid()):
        answer = world.admin.run(method, path.format(uuid), body)
        assert (answer.status, answer.error["code"]) == (503, "SYS.1003")
        assert f"there is no CephPrimaryStorage with the uuid {uuid}" in answer.error["details"]
        assert "QueryCephPrimaryStorage" in answer.error["details"]
