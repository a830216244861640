"""What is served to whoever has a token: images, with ranges."""

from __future__ import annotations

import contextlib
import logging

from agentkit.errors import HardpointError
from agentkit.grants import Use
from agentkit.http_ranges import byte_range
from agentkit.lean import web
from cephagent.context import Context
from cephagent.pipes import blocks

log = logging.getLogger(__name__)

_POOL, _UUID = r"{pool:[A-Za-z0-9_.+-]+}", "{uuid:[0-9a-f]{32}}"


class Public:
    """The routes; `context` has the cluster."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes."""
        return [web.get(f"/images/{_POOL}/{_UUID}/{{name}}", self.image)]

    async def image(self, request: web.Request) -> web.StreamResponse:
        """Send an image or a range of it."""
        pool, uuid = request.match_info["pool"], request.match_info["uuid"]
        self._context.grants.check(Use.DOWNLOAD, f"{pool}/{uuid}", request.query.get("token", ""))
        stored = await self._context.images.stored(pool, uuid)
        tag, size = f'"{stored.sha256}"', stored.size_bytes
        start, end = byte_range(request.headers, size, tag)
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": tag,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
        }
        whole = (start, end) == (0, size)
        if not whole:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=200 if whole else 206, headers=headers)
        await response.prepare(request)
        if request.method != "HEAD":
            await self._send(request, response, f"{uuid}@{uuid}", start, end)
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, name: str, start: int, end: int
    ) -> None:
        pool = request.match_info["pool"]
        try:
            async with contextlib.aclosing(blocks(self._context.ceph, pool, name, start, end)) as found:
                async for block in found:
                    await response.write(block)
        except HardpointError as error:
            # The head has gone out: all that can be done is to end before the promised length.
            log.error("image not sent", extra={"path": request.path, "reason": error.details})  # noqa: TRY400
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
