"""Ranges of a content that is served (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from agentkit.lean import web

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def byte_range(headers: Mapping[str, str], size: int, tag: str) -> tuple[int, int]:
    """Return the first byte that is asked for and the one after the last; 416 when there are none.

    `tag` is the content's ETag: a range of another content is answered with the whole one.
    """
    given = headers.get("Range")
    if given is None or headers.get("If-Range", tag) != tag:
        return 0, size
    found = _RANGE.fullmatch(given.replace(" ", ""))
    if found is None or found.group(1, 2) == ("", ""):
        return 0, size
    first, last = found.group(1, 2)
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start < end:
        return start, end
    raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
