"""Other stores as sources of images: only the chunks that are missing here are fetched."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from agentkit.downloads import (
    ATTEMPTS,
    CONNECT_TIMEOUT_S,
    RETRY_FIRST_S,
    RETRY_MOST_S,
    SILENCE_TIMEOUT_S,
    Arrival,
    unavailable,
)
from agentkit.errors import ErrorBody
from agentkit.images import StoredImage
from agentkit.working import in_thread
from storageagent.store.chunks import CHUNK_BYTES, unpacked
from storageagent.store.manifests import Manifest, decode
from storageagent.store.writer import ImageWriter

COPIED_AT_ONCE = 8


class OtherStore:
    """Another storage agent as a source; its certificate is checked against the fleet's CA."""

    def __init__(self, url: str, token: str, ca: Path) -> None:
        self._url = url
        self._token = token
        self._ca = ca
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = await asyncio.to_thread(ssl.create_default_context, cafile=str(self._ca))
        timeout = aiohttp.ClientTimeout(total=SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=COPIED_AT_ONCE), timeout=timeout
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def manifest(self, uuid: str) -> Manifest:
        """Return an image's manifest, checked. Raises HardpointError (SYS.1006) when it cannot be had."""
        content = await self._get(f"manifests/{uuid}")
        try:
            manifest = decode(content)
        except ValueError as error:
            raise unavailable(self._url, f"the manifest of image {uuid} cannot be used: {error}") from error
        manifest.check()
        if manifest.stored.image.uuid != uuid:
            raise unavailable(self._url, f"it gave the manifest of another image than {uuid}")
        return manifest

    async def feed(self, manifest: Manifest, writer: ImageWriter, arrival: Arrival) -> StoredImage:
        """Bring the chunks that are missing here to a writer and make the image."""
        arrival.total = manifest.stored.size_bytes
        for begin in range(0, manifest.count, COPIED_AT_ONCE):
            some = range(begin, min(begin + COPIED_AT_ONCE, manifest.count))
            missing = [number for number in some if not await in_thread(writer.has, manifest.digest(number))]
            found = await asyncio.gather(*(self._chunk(manifest, number) for number in missing))
            for number, stored in zip(missing, found, strict=True):
                await in_thread(writer.take_stored, manifest.digest(number), stored)
            arrival.done = some[-1] * CHUNK_BYTES + manifest.length(some[-1])
        digests = b"".join(manifest.digests())
        await in_thread(writer.publish, manifest.stored, digests)
        return manifest.stored

    async def _chunk(self, manifest: Manifest, number: int) -> bytes:
        stored = await self._get(f"chunks/{manifest.stored.image.uuid}/{number}")
        digest = manifest.digest(number)
        try:
            await in_thread(unpacked, stored, digest)
        except ValueError as error:
            raise unavailable(self._url, f"chunk {digest.hex()} arrived damaged: {error}") from error
        return stored

    async def _get(self, path: str) -> bytes:
        if self._session is None:
            raise AssertionError("the other store is not open")
        reason, pause_s = "", RETRY_FIRST_S
        for _ in range(ATTEMPTS):
            try:
                async with self._session.get(
                    f"{self._url}/{path}", params={"token": self._token}
                ) as response:
                    body = await response.read()
                    if response.status == 200:
                        return body
                    reason = _said(response.status, body)
                    if response.status < 500:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = str(error) or "it does not answer"
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MOST_S)
        raise unavailable(f"{self._url}/{path}", reason)


def _said(status: int, body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=ErrorBody).details
    except (msgspec.DecodeError, ValueError):
        return f"its server answers {status}"
