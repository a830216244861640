"""How replies look: JSON bodies, and errors in the manual's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from agentkit.errors import HardpointError

JSON = "application/json"


def error_code(error: HardpointError) -> dict[str, Any]:
    """Return an error as the API's ErrorCode; `details` ends with what to do."""
    details = error.details
    if error.remedy:
        details = f"{details.rstrip('.')}; {_decapitalised(error.remedy)}"
    code: dict[str, Any] = {"code": error.code, "description": error.summary, "details": details}
    if error.cause:
        code["cause"] = error_code(error.cause)
    return code


def reply(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    return raw_reply(msgspec.json.encode(body), status, headers)


def raw_reply(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a response whose body is JSON already."""
    return web.Response(body=body, status=status, headers=headers, content_type=JSON, charset="utf-8")


def file_reply(path: Path, name: str) -> web.FileResponse:
    """Return the bytes of a file, or the range of them that is asked for, as a download."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return web.FileResponse(path, headers=headers)


def error_reply(error: HardpointError, status: int, headers: dict[str, str] | None = None) -> web.Response:
    """Return the response of an error."""
    return reply({"error": error_code(error)}, status, headers)


def _decapitalised(sentence: str) -> str:
    """Return a sentence as the second half of one; names and abbreviations keep their capitals."""
    return sentence[0].lower() + sentence[1:] if sentence[1:2].islower() else sentence
