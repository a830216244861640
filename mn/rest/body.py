"""The body of a request: JSON that is checked before anything looks at it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from aiohttp import web

from agentkit.errors import Blame, HardpointError
from mn.rest.parameters import bad_request, whole_numbers

DEPTH_MAX = 64
"""Objects and lists within each other."""

TAG_KEYS = ("systemTags", "userTags")


async def read_json(request: web.Request, timeout_s: float) -> dict[str, Any]:
    """Return the body, `{}` when there is none. Raises HardpointError (SYS.1007; SYS.1001 when too slow)."""
    try:
        async with asyncio.timeout(timeout_s):
            raw = await request.read()
    except TimeoutError as error:
        raise HardpointError(
            "SYS.1001",
            "A message or a operation timeout",
            f"the body did not arrive within {timeout_s:g} s",
            remedy="send it in one go",
            blame=Blame.CALLER,
        ) from error
    return parse_json(raw)


def parse_json(raw: bytes) -> dict[str, Any]:
    """Return a JSON object with whole floats as integers (`22.0` is 22), as some clients write all numbers.

    Raises HardpointError (SYS.1007): for what is no JSON object, for keys that come twice, since nobody could
    say which one counts, and for more levels than DEPTH_MAX.
    """
    if not raw.strip():
        return {}
    try:
        msgspec.json.decode(
            raw
        )  # stricter than the library's: no NaN, no infinities, no halves of characters
        body = json.loads(raw, object_pairs_hook=_object)
        _check_depth(body, DEPTH_MAX)
    except RecursionError as error:
        raise _no_json(f"it is nested deeper than {DEPTH_MAX} levels") from error
    except ValueError as error:
        raise _no_json(str(error)) from error
    if not isinstance(body, dict):
        raise bad_request("the body is no JSON object", 'send {"params": {...}}')
    whole: dict[str, Any] = whole_numbers(body)
    return whole


def unwrap(body: dict[str, Any], wrapper: str) -> dict[str, Any]:
    """Return the wrapper's parameters with the tags that may stand beside it or in it."""
    inner = body[wrapper]
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise bad_request(f"'{wrapper}' is no object", f'send {{"{wrapper}": {{...}}}}')
    given = dict(inner)
    for key in TAG_KEYS:
        outside, inside = body.get(key), given.get(key)
        if not outside:
            continue
        if isinstance(outside, list) and isinstance(inside or [], list):
            given[key] = [*(inside or []), *outside]
        elif not inside:
            given[key] = outside
    return given


def _no_json(reason: str) -> HardpointError:
    return bad_request(f"the body is no JSON that is taken: {reason}", "correct it and send it again")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key '{key[:64]}' comes twice in one object")
        made[key] = value
    return made


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise RecursionError
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)
