"""Logging of every daemon: the standard library's, one JSON document a line on stderr, secrets masked.

No structlog on purpose: importing it pulls rich, which costs an agent several megabytes.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

MASK = "*****"
BAD_REQUESTS = "aiohttp.http_exceptions"
"""Where the exceptions for what is no HTTP come from: aiohttp answers 400, and logs it as a fault."""
REASON_MOST = 300
_SECRET_NAME = re.compile(r"passw(or)?d|passphrase|secret|token|credential|(^|_|-|[a-z])key$", re.IGNORECASE)
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(component: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send the root logger's records of `level` and above to stderr (or `stream`) as JSON lines.

    Each line has `time` (ISO 8601, UTC, milliseconds), `level`, `component`, `event` (the message), what
    `extra=` gave and, with an exception, `exception` (the traceback as one string).
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter(component))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON document."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": self._component,
            "event": record.getMessage(),
        }
        if record.name != "root":
            line["logger"] = record.name
        for name, value in vars(record).items():
            if name not in _OWN and name not in line:
                line[name] = redact(name, value)
        if record.exc_info and type(record.exc_info[1]).__module__ == BAD_REQUESTS:
            line |= {
                "level": "info",
                "event": "no HTTP request",
                "reason": str(record.exc_info[1])[:REASON_MOST],
            }
        elif record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def redact(name: str, value: Any) -> Any:
    """Return `value` with everything masked that stands under a name of a secret, at any depth."""
    if value is not None and _SECRET_NAME.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): redact(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact("", inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value
