"""Where images come from: http and https with resumption, files of the agent's own server."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from agentkit.errors import Blame, HardpointError
from agentkit.working import in_thread

BLOCK_BYTES = 4 * 1024 * 1024
CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 15.0, 60.0
ATTEMPTS = 8
"""So often in a row a source may break off without having sent anything."""
RETRY_FIRST_S, RETRY_MOST_S = 0.2, 10.0
_FORBIDDEN = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/lib/hardpoint", "/var/log")
"""Folders of the server whose files are no images."""


@dataclass
class Arrival:
    """How far an image is, in bytes; nobody may know how many come."""

    done: int = 0
    total: int | None = None


class Sink(Protocol):
    """Takes in one image. Its coroutines are called one at a time."""

    @property
    def offset(self) -> int:
        """How many bytes have been taken in."""

    @property
    def tag(self) -> str:
        """What tells that the source is still the same, as `begin` was given it."""

    async def begin(self, tag: str) -> None:
        """Forget what has arrived and begin."""

    async def write(self, block: bytes) -> None:
        """Take in what comes next. Raises HardpointError (SYS.1006) for what cannot be an image."""


class BrokenOffError(Exception):
    """A source broke off; it is asked again."""


def without_login(url: str) -> str:
    """Return a URL without the user and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def feed_from_url(url: str, sink: Sink, arrival: Arrival, authority: Path | None = None) -> None:
    """Bring the content of a URL to a sink. Raises HardpointError (SYS.1006) when it cannot be had.

    The server's certificate is checked by `authority` (a PEM file), by the system's authorities without one.
    """
    if urlsplit(url).scheme == "file":
        await _feed_from_file(unquote(urlsplit(url).path), sink, arrival)
        return
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S)
    # The trust store is read when it is needed: the agent itself does without (agentkit.lean).
    context = await asyncio.to_thread(
        ssl.create_default_context, cafile=str(authority) if authority else None
    )
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await _feed_patiently(session, url, sink, arrival)


async def _feed_patiently(session: aiohttp.ClientSession, url: str, sink: Sink, arrival: Arrival) -> None:
    attempts, pause_s = 0, RETRY_FIRST_S
    while True:
        before = sink.offset
        try:
            await _feed_from_http(session, url, sink, arrival)
            return
        except (aiohttp.ClientError, TimeoutError, BrokenOffError) as error:
            attempts = 1 if sink.offset > before else attempts + 1
            if attempts >= ATTEMPTS:
                raise unavailable(url, str(error) or type(error).__name__) from error
        except ValueError as error:  # aiohttp's InvalidURL is one
            raise unavailable(url, f"it is no URL: {error}") from error
        pause_s = RETRY_FIRST_S if attempts == 1 else min(pause_s * 2, RETRY_MOST_S)
        await asyncio.sleep(pause_s)


async def _feed_from_http(session: aiohttp.ClientSession, url: str, sink: Sink, arrival: Arrival) -> None:
    headers = {"Accept-Encoding": "identity"}
    if sink.offset and sink.tag:
        headers |= {"Range": f"bytes={sink.offset}-", "If-Range": sink.tag}
    async with session.get(url, headers=headers) as response:
        if response.status == 416 and response.headers.get("Content-Range") == f"bytes */{sink.offset}":
            return
        _check_status(url, response)
        if response.status != 206 or not _continues(response, sink.offset):
            await sink.begin(_tag(response))
        length = response.content_length
        arrival.done = sink.offset
        arrival.total = sink.offset + length if length is not None else None
        async for block in blocks_of(response.content.iter_any()):
            await sink.write(block)
            arrival.done = sink.offset


def _check_status(url: str, response: aiohttp.ClientResponse) -> None:
    if response.status in (200, 206):
        return
    answer = f"its server answers {response.status} {response.reason or ''}".rstrip()
    if response.status >= 500 or response.status in (416, 429):
        raise BrokenOffError(answer)
    raise unavailable(url, answer)


def _continues(response: aiohttp.ClientResponse, offset: int) -> bool:
    return bool(re.match(rf"bytes {offset}-", response.headers.get("Content-Range", "")))


def _tag(response: aiohttp.ClientResponse) -> str:
    """Return what If-Range takes: a strong ETag, else the date; empty when there is none."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


async def blocks_of(parts: AsyncIterator[bytes], size: int = BLOCK_BYTES) -> AsyncIterator[bytes]:
    """Yield what arrives in blocks of at least `size`, and what is left when it breaks off."""
    block = bytearray()
    try:
        async for part in parts:
            block += part
            if len(block) >= size:
                yield bytes(block)
                block.clear()
    except (aiohttp.ClientError, TimeoutError):
        if block:
            yield bytes(block)
        raise
    if block:
        yield bytes(block)


async def _feed_from_file(path: str, sink: Sink, arrival: Arrival) -> None:
    try:
        descriptor = await asyncio.to_thread(_open_file, path)
    except OSError as error:
        raise unavailable(f"file://{path}", error.strerror or str(error)) from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        seen = os.fstat(descriptor)
        tag = f"{seen.st_dev} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns}"
        if sink.tag != tag:
            await sink.begin(tag)
        file.seek(sink.offset)
        arrival.total = seen.st_size
        try:
            while block := await in_thread(file.read, BLOCK_BYTES):
                await sink.write(block)
                arrival.done = sink.offset
        except OSError as error:
            if error.filename is None and error.errno == errno.EIO:
                raise unavailable(f"file://{path}", error.strerror or str(error)) from error
            raise


def _open_file(path: str) -> int:
    """Open an image on this server. Raises OSError, or HardpointError for a file that is no image."""
    real = Path(path).resolve(strict=True)
    if any(real.is_relative_to(folder) for folder in _FORBIDDEN):
        raise unavailable(f"file://{path}", f"no image is taken from below {' '.join(_FORBIDDEN)}")
    descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise unavailable(f"file://{path}", "it is no regular file")
    return descriptor


def unavailable(source: str, reason: str) -> HardpointError:
    """Return the error of an image that cannot be had."""
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the image cannot be had from {without_login(source)}: {reason}",
        remedy="see that the backup storage's server can read it there, then add the image again",
        blame=Blame.CALLER,
    )
