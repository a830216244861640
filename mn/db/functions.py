"""SQL functions that SQLite lacks, so that list replies can be built in SQL on it as on PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
import sys
from datetime import UTC, datetime
from functools import cache, lru_cache

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=16384)
def format_date(epoch_s: int | None) -> str | None:
    """Return seconds since 1970 as the API prints dates, `Jan 6, 2017 3:51:16 AM` in UTC; None stays None."""
    if epoch_s is None:
        return None
    moment = datetime.fromtimestamp(epoch_s, UTC)
    hour = moment.hour % 12 or 12
    half = "PM" if moment.hour >= 12 else "AM"
    month = _MONTHS[moment.month - 1]
    return f"{month} {moment.day}, {moment.year} {hour}:{moment:%M:%S} {half}"


@cache
def _folds() -> dict[int, int]:
    """Return the characters that another stands for when case does not count (Unicode's simple folding)."""
    folds = {}
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        folded = character.casefold()
        if len(folded) > 1:
            folded = character.lower()
        if len(folded) == 1 and folded != character:
            folds[number] = ord(folded)
    return folds


def folded_characters() -> tuple[str, str]:
    """Return the characters that folding replaces, and as many that it puts in their place."""
    return "".join(map(chr, _folds())), "".join(map(chr, _folds().values()))


def fold(text: str) -> str:
    """Return a text in which case does not count, character by character: `ΣΊΣΥΦΟΣ` and `σίσυφος` are one."""
    return text.lower() if text.isascii() else text.translate(_folds())


@lru_cache(maxsize=512)
def _like_pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern, folded, as a regular expression that takes what is between two `%` where it comes
    first.

    The groups are atomic: trying all other places would take for ever on `%a%a%a%a%a%a%b`.
    """
    first, *others = (
        "".join("." if c == "_" else re.escape(c) for c in run) for run in fold(pattern).split("%")
    )
    if others:
        first += "".join(f"(?>.*?{run})" for run in others[:-1] if run) + ".*" + others[-1]
    return re.compile(first, re.DOTALL)


def like(pattern: str | None, value: object) -> int | None:
    """Return 1 when `value` matches a `%` and `_` pattern as MySQL's like does, without regard to
    case.
    """
    if pattern is None or value is None:
        return None
    return int(_like_pattern(pattern).fullmatch(fold(str(value))) is not None)


def register_functions(connection: sqlite3.Connection) -> None:
    """Make the functions known to one connection."""
    connection.create_function("api_date", 1, format_date, deterministic=True)
    connection.create_function("api_like", 2, like, deterministic=True)
