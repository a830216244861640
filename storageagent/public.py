"""What is served to whoever has a token: images with ranges, what another store copies, uploads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from agentkit.downloads import blocks_of
from agentkit.errors import HardpointError
from agentkit.grants import Use
from agentkit.http_ranges import byte_range
from agentkit.images import StoredImage
from agentkit.lean import web
from storageagent.context import Context
from storageagent.protocol import UPLOAD_OFFSET

log = logging.getLogger(__name__)

_UUID = "{uuid:[0-9a-f]{32}}"


class Public:
    """The routes; `context` holds the store."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes."""
        return [
            web.get(f"/images/{_UUID}/{{name}}", self.image),
            web.get(f"/manifests/{_UUID}", self.manifest),
            web.get(f"/chunks/{_UUID}/{{number:\\d+}}", self.chunk),
            web.head(f"/uploads/{_UUID}", self.upload_offset),
            web.put(f"/uploads/{_UUID}", self.upload),
        ]

    async def image(self, request: web.Request) -> web.StreamResponse:
        """Send an image or a range of it."""
        uuid = self._checked(request, Use.DOWNLOAD)
        repository = self._context.repository()
        stored = await asyncio.to_thread(repository.manifests.read, uuid)
        start, end = byte_range(request.headers, stored.size_bytes, _tag(stored))
        whole = (start, end) == (0, stored.size_bytes)
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": _tag(stored),
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
        }
        if not whole:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size_bytes}"
        response = web.StreamResponse(status=200 if whole else 206, headers=headers)
        await response.prepare(request)
        if request.method != "HEAD":
            await self._send(request, response, repository.read(uuid, start, end))
        return response

    async def manifest(self, request: web.Request) -> web.Response:
        """Send an image's manifest as it is on disk."""
        uuid = self._checked(request, Use.DOWNLOAD)
        path = self._context.repository().manifests.path(uuid)
        try:
            return web.Response(body=await asyncio.to_thread(path.read_bytes))
        except FileNotFoundError:
            raise web.HTTPNotFound from None

    async def chunk(self, request: web.Request) -> web.Response:
        """Send a chunk of an image as it is on disk."""
        uuid = self._checked(request, Use.DOWNLOAD)
        number = int(request.match_info["number"])
        try:
            body = await asyncio.to_thread(self._context.repository().stored_chunk, uuid, number)
        except (FileNotFoundError, IndexError):
            raise web.HTTPNotFound from None
        return web.Response(body=body)

    async def upload_offset(self, request: web.Request) -> web.Response:
        """Say how far an upload is."""
        uuid = self._checked(request, Use.UPLOAD)
        return _at(await self._context.transfers.upload_offset(uuid))

    async def upload(self, request: web.Request) -> web.Response:
        """Take in what comes after the offset that the request names; 409 names the right one."""
        uuid = self._checked(request, Use.UPLOAD)
        given = request.headers.get(UPLOAD_OFFSET, "0")
        blocks = blocks_of(request.content.iter_any())
        offset, taken = await self._context.transfers.take_upload(
            uuid, int(given) if given.isdecimal() else -1, blocks
        )
        return _at(offset, 200 if taken else 409)

    def _checked(self, request: web.Request, use: Use) -> str:
        uuid = request.match_info["uuid"]
        self._context.grants.check(use, uuid, request.query.get("token", ""))
        return uuid

    async def _send(
        self, request: web.Request, response: web.StreamResponse, pieces: Iterator[bytes]
    ) -> None:
        try:
            while piece := await asyncio.to_thread(next, pieces, b""):
                await response.write(piece)
        except HardpointError as error:
            # The head has gone out: all that can be done is to end before the promised length.
            log.error("image not sent", extra={"path": request.path, "reason": error.details})  # noqa: TRY400
            response.force_close()
            if request.transport is not None:
                request.transport.abort()


def _at(offset: int, status: int = 200) -> web.Response:
    return web.Response(status=status, headers={UPLOAD_OFFSET: str(offset)})


def _tag(stored: StoredImage) -> str:
    return f'"{stored.sha256}"'
