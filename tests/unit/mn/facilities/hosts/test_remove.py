"""A host that is deleted has no link afterwards, wherever the node was killed meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from mn.db.vault import Vault
from mn.facilities.hosts.remove import Leaving, remove_host
from mn.facilities.hosts.tables import SEALED_FOR, change_host
from mn.fleet.deploy import Target
from mn.rest.services import Job
from tests.unit.mn.facilities.fleet import HOST, new_connection
from tests.unit.mn.facilities.hosts_double import HostsDouble

JOURNALLED = ("load_leaving", "unfollow_host", "disable_host", "forget_host", "undeploy_host")


class Started(HostsDouble):
    """The services of a node that was just started: it follows the host, whose row is there."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, {})
        self.vault = Vault(bytes(32))
        self.followed = {HOST}
        change_host(connection, HOST, password=self.vault.seal("secret", SEALED_FOR))

    async def untrack(self, uuid: str) -> None:
        self.followed.discard(uuid)

    async def undeploy(self, target: Target) -> None:
        assert target.host_uuid not in self.followed, "its link would bring the agent back"


class Resumed:
    """A job of which so many steps are journalled: they are not done again."""

    def __init__(self, started: Started, steps: int) -> None:
        self.services = started.services
        self._known: dict[str, object] = dict.fromkeys(JOURNALLED[:steps])
        if steps:
            self._known["load_leaving"] = Leaving("Enabled", None)

    async def step(self, fn: Callable[..., Awaitable[Any]], *args: object, undo: object = None) -> Any:
        return self._known[fn.__name__] if fn.__name__ in self._known else await fn(*args)

    async def transact(self, fn: Callable[..., Any], *args: object, undo: object = None) -> Any:
        if fn.__name__ in self._known:
            return self._known[fn.__name__]
        return await self.services.db.read(fn, *args)


@pytest.mark.parametrize("steps", range(1, len(JOURNALLED) + 1))
async def test_a_deletion_that_is_resumed_leaves_no_link_to_the_host(steps: int) -> None:
    with new_connection() as connection:
        started = Started(connection)
        await remove_host(cast("Job", Resumed(started, steps)), HOST, "Permissive")
    assert started.followed == set()
