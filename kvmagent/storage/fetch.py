"""Fetching a file by HTTPS, resumed where it broke off; standard library only, as `worker`."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from kvmagent.storage.sparse import Writer, open_writer

_CHUNK = 1024 * 1024
TIMEOUT_S = 30.0
AWAY_S = 60.0
"""A server may be away for so long before the transfer is given up."""
_PAUSE_S = 0.5


class InterruptedTransferError(Exception):
    """A transfer that cannot be finished; what has arrived is kept for the next attempt where it is right."""


def fetch_file(url: str, ca: str, partial: str, size: int, sha256: str, token: str | None) -> None:
    """Fetch `url` to `partial`, which may hold the beginning; `ca` are authorities (PEM).

    Raises InterruptedTransferError when the server refuses, stays away, or sends anything else.
    """
    context = ssl.create_default_context(cadata=ca)
    with open_writer(partial) as writer:
        digest = hashlib.sha256()
        done = _digest_beginning(writer, digest, min(writer.length, size))
        writer.begin(done)
        heard = time.monotonic()
        while done < size:
            try:
                came = _fetch_part(url, context, token, writer, digest, done, size)
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() - heard > AWAY_S:
                    raise InterruptedTransferError(
                        f"{_named(url)}: {error or type(error).__name__}"
                    ) from error
                time.sleep(_PAUSE_S)
                came = 0
            if came:
                heard = time.monotonic()
            done += came
        if digest.hexdigest() != sha256:
            writer.begin(0)
            raise InterruptedTransferError(
                f"{_named(url)} has the SHA-256 {digest.hexdigest()}, not {sha256}"
            )


def _digest_beginning(writer: Writer, digest: Any, length: int) -> int:
    at = 0
    while at < length:
        chunk = writer.read(at, min(_CHUNK, length - at))
        digest.update(chunk)
        at += len(chunk)
    return at


def _fetch_part(
    url: str,
    context: ssl.SSLContext,
    token: str | None,
    writer: Writer,
    digest: Any,
    at: int,
    size: int,
) -> int:
    """Write what the server sends from `at` on; return how much that was. A break is no error of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=context
    )
    with closing(connection):
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        headers = {"Range": f"bytes={at}-"} if at else {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        _check(url, response, at, size)
        came = 0
        while at + came < size:
            try:
                chunk = response.read(min(_CHUNK, size - at - came))
            except (OSError, http.client.HTTPException):
                break
            if not chunk:
                break
            digest.update(chunk)
            writer.write(chunk)
            came += len(chunk)
        if not came:
            raise ConnectionResetError("the server hangs up")
        return came


def _check(url: str, response: http.client.HTTPResponse, at: int, size: int) -> None:
    if response.status in (502, 503, 504):
        raise ConnectionResetError(f"the server answers {response.status}")
    if response.status != (206 if at else 200):
        raise InterruptedTransferError(
            f"{_named(url)}: the server answers {response.status} {response.reason}"
        )
    length = response.getheader("Content-Length")
    if length is not None and int(length) != size - at:
        raise InterruptedTransferError(f"{_named(url)} has {int(length) + at} bytes, not {size}")


def _named(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 443}{parts.path}"
