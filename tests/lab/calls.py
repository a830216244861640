"""Calls of the API that take long on emulated hosts, and what tests of several kinds ask for alike."""

from __future__ import annotations

from typing import Any

from tests.lab.hosts import ADD_TIMEOUT_S
from tests.node import Answer, Rest

MB = 1024 * 1024


def run(admin: Rest, method: str, path: str, body: Any) -> Answer:
    """Have something done; returns how it ended."""
    return admin.wait(admin.call(method, path, body).location, ADD_TIMEOUT_S)


def made(answer: Answer) -> dict[str, Any]:
    """Return the inventory of what must have gone well."""
    assert answer.status == 200, answer
    inventory: dict[str, Any] = answer.body["inventory"]
    return inventory


def added(admin: Rest, cluster: str, kind: str, url: str, tags: list[str] | None = None) -> str:
    """Add a primary storage and attach it to the cluster; returns its uuid."""
    (row,) = admin.query(f"/clusters/{cluster}")
    params = {"name": url, "url": url, "zoneUuid": row["zoneUuid"], "systemTags": tags or []}
    uuid: str = admin.create(f"/primary-storage/{kind}", **params)["uuid"]
    made(run(admin, "POST", f"/clusters/{cluster}/primary-storage/{uuid}", {}))
    return uuid


def gone(admin: Rest, cluster: str, *uuids: str) -> None:
    """Detach and delete primary storages."""
    for uuid in uuids:
        assert run(admin, "DELETE", f"/clusters/{cluster}/primary-storage/{uuid}", None).status == 200
        assert run(admin, "DELETE", f"/primary-storage/{uuid}", None).status == 200


def volume(admin: Rest, storage: str, *tags: str) -> dict[str, Any]:
    """Make a data volume of 64 MB on a primary storage; returns its inventory."""
    wanted = {"name": "v", "diskSize": 64 * MB, "primaryStorageUuid": storage, "systemTags": list(tags)}
    return made(run(admin, "POST", "/volumes/data", {"params": wanted}))


def purge(admin: Rest, of: dict[str, Any]) -> None:
    """Delete a volume and what is left of it."""
    assert run(admin, "DELETE", f"/volumes/{of['uuid']}", None).status == 200
    assert run(admin, "PUT", f"/volumes/{of['uuid']}/actions", {"expungeDataVolume": {}}).status == 200
