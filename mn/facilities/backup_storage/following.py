"""Commands to the agents of backup storages: done once, and followed while an image comes."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from agentkit.errors import HardpointError
from agentkit.images import StoredImage, TransferProgress
from agentkit.wire import Command
from mn.db.schema import new_uuid
from mn.facilities.backup_storage.driver import Tell
from mn.facilities.backup_storage.tables import Store
from mn.rest.services import Services

PROGRESS_EVERY_S = 2.0

R = TypeVar("R")


async def done(services: Services, store: Store, command: Command[R], task_uuid: str) -> R:
    """Have the agent of a backup storage do something."""
    reply = await services.fleet.call(store.endpoint, command, task_uuid)
    services.fleet.acknowledge(store.endpoint, task_uuid)
    return reply


async def followed(
    services: Services,
    store: Store,
    command: Command[StoredImage],
    progress: Command[TransferProgress],
    task_uuid: str,
    tell: Tell,
) -> StoredImage:
    """Have an image brought in and tell how far it is, as `progress` asks."""
    watching = asyncio.create_task(_watch(services, store, progress, tell))
    try:
        return await done(services, store, command, task_uuid)
    finally:
        watching.cancel()


async def _watch(services: Services, store: Store, progress: Command[TransferProgress], tell: Tell) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        try:
            found = await done(services, store, progress, new_uuid())
        except HardpointError:
            continue  # the import itself finds out whether the agent stays away
        if found.total_bytes:
            tell(100 * found.done_bytes // found.total_bytes)
