"""An observer that notes what links tell it."""

import asyncio
from collections.abc import Callable

from agentkit.errors import HardpointError
from kvmagent.protocol import DeviceEvent, Inventory
from kvmagent.protocol_storage import StorageEvent
from kvmagent.protocol_vms import VmEvent
from mn.fleet.client import Endpoint

DEADLINE_S = 60.0


class Notes:
    def __init__(self) -> None:
        self._notes: dict[str, list[str]] = {}

    def of(self, host_uuid: str) -> list[str]:
        return self._notes.get(host_uuid, [])

    def _note(self, host_uuid: str, what: str) -> None:
        self._notes.setdefault(host_uuid, []).append(what)

    async def connected(self, host_uuid: str) -> None:
        self._note(host_uuid, "connected")

    async def lost(self, host_uuid: str, reason: HardpointError) -> None:
        self._note(host_uuid, "lost")

    async def inventory(self, host_uuid: str, inventory: Inventory) -> None:
        self._note(host_uuid, "inventory")

    async def device(self, host_uuid: str, event: DeviceEvent, before: str) -> bool:
        self._note(host_uuid, f"device {event.action}")
        return True

    async def vm(self, host_uuid: str, event: VmEvent) -> None:
        self._note(host_uuid, f"vm {event.uuid}")

    async def storage(self, host_uuid: str, event: StorageEvent) -> None:
        self._note(host_uuid, f"storage {event.answering}")

    async def iscsi(self, host_uuid: str, event: object) -> None:
        self._note(host_uuid, "iscsi")

    async def moved(self, host_uuid: str, endpoint: Endpoint) -> None:
        self._note(host_uuid, "moved")


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)
