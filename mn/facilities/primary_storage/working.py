"""Steps of jobs that have an agent work on a storage: sent once, undone by what is given."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from agentkit.errors import HardpointError
from agentkit.wire import Command
from kvmagent.protocol_storage import DiskReply, OfferFile, OfferFileReply, RemoveFiles, WithdrawOffer
from mn.db.schema import new_uuid
from mn.facilities.primary_storage.connecting import HostPlace
from mn.rest.services import Job, Services

log = logging.getLogger(__name__)

Undo = Callable[[Services, HostPlace, Command[DiskReply], str], Awaitable[None]]


async def work_on_disk(
    services: Services, at: HostPlace, command: Command[DiskReply], task: str
) -> DiskReply:
    """Have an agent do something with an image."""
    return await services.fleet.call(at.endpoint, command, task)


async def on_disk(
    job: Job, at: HostPlace, command: Command[DiskReply], undo: Undo | None = None
) -> DiskReply:
    """Do that as a step of a job."""
    task = job.task_uuid()
    reply = await job.step(work_on_disk, job.services, at, command, task, undo=undo)
    job.services.fleet.acknowledge(at.endpoint, task)
    return reply


async def remove_made(services: Services, at: HostPlace, command: Command[DiskReply], _task: str) -> None:
    """Undo the making of a file, which may have been begun only."""
    path = str(getattr(command, "path", ""))
    await remove_files(services, at, [path, f"{path}.partial"], None)


async def remove_files(services: Services, at: HostPlace, paths: list[str], trash: str | None) -> None:
    """Have files removed, or moved to the trash; removed already, nothing happens."""
    await remove_what_can_go(services, at, paths, trash)


async def remove_what_can_go(
    services: Services, at: HostPlace, paths: list[str], trash: str | None
) -> list[str]:
    """Do that; return the cached images that stay in the trash, as something there stands on them."""
    task = new_uuid()
    command = RemoveFiles(storage=at.storage, paths=paths, trash=trash)
    reply = await services.fleet.call(at.endpoint, command, task)
    services.fleet.acknowledge(at.endpoint, task)
    return reply.kept


async def try_to_remove(services: Services, at: HostPlace, paths: list[str], trash: str | None) -> None:
    """Do that after the point of no return: files that stay take room, and are told of in the log."""
    try:
        await remove_files(services, at, paths, trash)
    except HardpointError as error:
        extra = {"host": at.host_uuid, "storage": at.storage.uuid, "paths": paths, "reason": error.details}
        log.warning("files are left on a storage", extra=extra)


async def offer_file(
    services: Services, at: HostPlace, path: str, offer_uuid: str, secret: str
) -> OfferFileReply:
    """Have an agent offer a file to another one; `secret` is what the token is made of."""
    task = new_uuid()
    token = token_of(services, secret)
    command = OfferFile(storage=at.storage, path=path, offer_uuid=offer_uuid, token=token)
    reply = await services.fleet.call(at.endpoint, command, task)
    services.fleet.acknowledge(at.endpoint, task)
    return reply


async def withdraw_offer(
    services: Services, at: HostPlace, _path: str, offer_uuid: str, _secret: str
) -> None:
    """End an offer; an agent that does not answer gives out nothing either."""
    task = new_uuid()
    try:
        await services.fleet.call(at.endpoint, WithdrawOffer(offer_uuid=offer_uuid), task)
    except HardpointError as error:
        log.warning("offer not withdrawn", extra={"host": at.host_uuid, "reason": error.details})
        return
    services.fleet.acknowledge(at.endpoint, task)


def token_of(services: Services, secret: str) -> str:
    """Return a token that can be made again and is kept nowhere."""
    return services.vault.digest(f"transfer {secret}".encode())
