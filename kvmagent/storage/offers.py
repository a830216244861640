"""Files that other agents may fetch through the agent's second door, each with a token of its own.

An offer is a file of the agent's state directory, so that it outlives a restart of the agent in the middle of
a transfer. What is sent is read by a process of its own: a
storage that hangs holds up only its own transfers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from agentkit.files import remove_durably, write_durably
from agentkit.lean import web
from agentkit.runner import linked_argv
from kvmagent.door import Door, digest_of, shows
from kvmagent.protocol_storage import OfferFile, OfferFileReply, StorageSpec
from kvmagent.storage.children import worker_argv
from kvmagent.storage.disks import Disks
from kvmagent.storage.keeper import StorageKeeper, Watched

log = logging.getLogger(__name__)

PATH = "/v1/files/{uuid}"
_CHUNK = 256 * 1024
_STALL_S = 60.0
_REAP_S = 5.0
_RANGE = re.compile(r"bytes=(\d{1,18})-")
_UUID = re.compile(r"[0-9a-f]{32}")


class _Offer(msgspec.Struct):
    """An offer as it is kept: `token` is the digest of it."""

    storage: StorageSpec
    path: str
    token: str
    size: int
    sha256: str


class Offers:
    """Serves offered files."""

    def __init__(self, keeper: StorageKeeper, disks: Disks, directory: Path, door: Door) -> None:
        self._keeper = keeper
        self._disks = disks
        self._directory = directory
        self._door = door
        door.serve(PATH, self._serve)

    async def offer(self, command: OfferFile) -> OfferFileReply:
        """Let a file be fetched."""
        size, sha256 = await self._disks.digest(command.storage, command.path)
        kept = _Offer(command.storage, command.path, digest_of(command.token), size, sha256)
        await asyncio.to_thread(self._write, command.offer_uuid, kept)
        port = await self._door.open()
        path = PATH.format(uuid=command.offer_uuid)
        return OfferFileReply(port=port, path=path, size=size, sha256=sha256)

    async def withdraw(self, uuid: str) -> None:
        """End an offer."""
        if _UUID.fullmatch(uuid) and self._directory.exists():
            await asyncio.to_thread(remove_durably, self._directory / f"{uuid}.json")

    async def run(self) -> None:
        """Open the door again for offers from before a restart."""
        if self._directory.exists() and any(self._directory.glob("*.json")):
            await self._door.open()
        await asyncio.Event().wait()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        offer = await asyncio.to_thread(self._read, request.match_info["uuid"])
        if offer is None or not shows(request, offer.token):
            raise web.HTTPNotFound
        start = _start(request.headers.get("Range"))
        if start > offer.size:
            raise web.HTTPRequestRangeNotSatisfiable
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = offer.size - start

        async def work(storage: Watched) -> web.StreamResponse:
            async with storage.images.opened(offer.path, shared=True):
                return await _send(request, response, storage.images.path(offer.path), start, offer.size)

        try:
            return await self._keeper.use(offer.storage, work)
        except HardpointError as error:  # the other agent asks again for a while
            log.warning("offered file not sent", extra={"path": offer.path, "reason": error.details})
            raise web.HTTPServiceUnavailable from error

    def _write(self, uuid: str, offer: _Offer) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._directory / f"{uuid}.json", msgspec.json.encode(offer))

    def _read(self, uuid: str) -> _Offer | None:
        if not _UUID.fullmatch(uuid):
            return None
        try:
            return msgspec.json.decode((self._directory / f"{uuid}.json").read_bytes(), type=_Offer)
        except FileNotFoundError:
            return None


async def _send(
    request: web.Request, response: web.StreamResponse, path: str, start: int, length: int
) -> web.StreamResponse:
    process = await asyncio.create_subprocess_exec(
        *linked_argv(worker_argv("send", path, str(start), str(length))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=2 * _CHUNK,
    )
    try:
        await response.prepare(request)
        if process.stdout is None:
            raise AssertionError("the worker has no output")
        while chunk := await process.stdout.read(_CHUNK):
            async with asyncio.timeout(_STALL_S):
                await response.write(chunk)
        return response
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError):  # one that hangs in the kernel ends when it can
            async with asyncio.timeout(_REAP_S):
                await process.wait()


def _start(header: str | None) -> int:
    if header is None:
        return 0
    match = _RANGE.fullmatch(header)
    if match is None:
        raise web.HTTPRequestRangeNotSatisfiable
    return int(match[1])
