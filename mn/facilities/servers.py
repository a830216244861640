"""What the links to servers that are no hosts see: those of image stores, those beside Ceph's monitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from agentkit.errors import HardpointError
from mn.db.engine import Database
from mn.fleet.client import Endpoint


class ServerObserver:
    """Writes what the links to servers see, by the functions of who has the servers' rows."""

    def __init__(
        self,
        db: Database,
        set_status: Callable[[Connection, str, str], object],
        save_endpoint: Callable[[Connection, Endpoint], object],
        save_report: Callable[[Connection, str, Any], object],
    ) -> None:
        self._db = db
        self._set_status = set_status
        self._save_endpoint = save_endpoint
        self._save_report = save_report

    async def connected(self, host_uuid: str) -> None:
        """The server answers."""
        await self._db.write(self._set_status, host_uuid, "Connected")

    async def lost(self, host_uuid: str, reason: HardpointError) -> None:
        """The server does not answer, or what it serves is gone."""
        await self._db.write(self._set_status, host_uuid, "Disconnected")

    async def moved(self, host_uuid: str, endpoint: Endpoint) -> None:
        """The agent listens elsewhere now."""
        await self._db.write(self._save_endpoint, endpoint)

    async def inventory(self, host_uuid: str, inventory: Any) -> None:
        """What the server has."""
        await self._db.write(self._save_report, host_uuid, inventory)

    async def device(self, host_uuid: str, event: Any, before: str) -> bool:
        """What the server has changed: the event carries all of it."""
        await self._db.write(self._save_report, host_uuid, event.inventory)
        return True

    async def vm(self, host_uuid: str, event: object) -> None:
        """Nothing: such a server has no VMs that anybody is told of."""

    async def storage(self, host_uuid: str, event: object) -> None:
        """Nothing: nor does it use primary storages."""

    async def iscsi(self, host_uuid: str, event: object) -> None:
        """Nothing: nor does it log in to iSCSI servers."""
