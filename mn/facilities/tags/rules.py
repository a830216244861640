"""Which system tags there may be, and how tags are written with their resource."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from agentkit.errors import Blame, HardpointError
from mn.db.schema import new_uuid, now_s
from mn.db.tags import SYSTEM, USER, tag_table
from mn.query.resource import Resource

Check = Callable[[str], None]
"""Raises ValueError, saying what would be right, for a value that the tag must not have."""


@dataclass(frozen=True)
class Pattern:
    """A kind of system tag: `host::reservedMemory::{capacity}`; a resource has at most one of a kind."""

    resource: str
    text: str
    meaning: str
    check: Check | None = None

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern as a regular expression; each `{name}` takes anything but nothing."""
        parts = re.split(r"\{(\w+)\}", self.text)
        return re.compile(
            "".join(f"(?P<{p}>.+)" if i % 2 else re.escape(p) for i, p in enumerate(parts)), re.DOTALL
        )


_patterns: dict[str, list[Pattern]] = {}


def register(resource: str, text: str, meaning: str, check: Check | None = None) -> None:
    """Make a kind of system tag known for a resource (`Zone`)."""
    _patterns.setdefault(resource, []).append(Pattern(resource, text, meaning, check))


def known_patterns(resource: str) -> list[Pattern]:
    """Return the kinds of system tags that a resource may have."""
    return _patterns.get(resource, [])


def type_name(resource: Resource) -> str:
    """Return a resource's name as tags have it, `ZoneVO`."""
    return f"{resource.name}VO"


def pattern_of(resource: str, tag: str) -> Pattern:
    """Return the kind of a system tag.

    Raises HardpointError (SYS.1007) when there is none or its value is wrong.
    """
    for pattern in known_patterns(resource):
        match = pattern.regex.fullmatch(tag)
        if match is None:
            continue
        for value in match.groupdict().values():
            _check_value(pattern, tag, value)
        return pattern
    known = ", ".join(p.text for p in known_patterns(resource)) or "none"
    raise _bad_tag(
        f"system tag '{tag}' is none that a {resource} may have", f"system tags of a {resource}: {known}"
    )


def _check_value(pattern: Pattern, tag: str, value: str) -> None:
    if pattern.check is None:
        return
    try:
        pattern.check(value)
    except ValueError as error:
        raise _bad_tag(f"system tag '{tag}': {error}", f"write it as {pattern.text}") from error


def check_tags(resource: Resource, system_tags: Iterable[str]) -> None:
    """Raise HardpointError (SYS.1007) for system tags that a new resource must not have."""
    kinds: set[str] = set()
    for tag in system_tags:
        pattern = pattern_of(resource.name, tag)
        if pattern.text in kinds:
            raise _bad_tag(f"two system tags of the kind {pattern.text}", "give one")
        kinds.add(pattern.text)


def write_tags(
    connection: Connection,
    resource: Resource,
    uuid: str,
    system_tags: Iterable[str],
    user_tags: Iterable[str],
) -> None:
    """Write the tags of a new resource."""
    check_tags(resource, system_tags)
    rows = [tag_row(resource, uuid, tag, SYSTEM) for tag in system_tags]
    rows += [tag_row(resource, uuid, tag, USER) for tag in dict.fromkeys(user_tags)]
    if rows:
        connection.execute(insert(tag_table), rows)


def tag_row(resource: Resource, uuid: str, tag: str, kind: str) -> dict[str, Any]:
    """Return a row of the tag table."""
    now = now_s()
    return {
        "uuid": new_uuid(),
        "resource_uuid": uuid,
        "resource_type": type_name(resource),
        "tag": tag,
        "type": kind,
        "inherent": False,
        "create_date": now,
        "last_op_date": now,
    }


def drop_tags(connection: Connection, uuid: str) -> None:
    """Delete the tags of a resource that is gone."""
    connection.execute(delete(tag_table).where(tag_table.c.resource_uuid == uuid))


def same_kind(connection: Connection, resource: str, uuid: str, tag: str) -> str | None:
    """Return a resource's system tag of the same kind as `tag`, None when it has none."""
    pattern = pattern_of(resource, tag)
    query = select(tag_table.c.tag).where(tag_table.c.resource_uuid == uuid, tag_table.c.type == SYSTEM)
    return next((t for t in connection.execute(query).scalars() if pattern.regex.fullmatch(t)), None)


def _bad_tag(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)


_SIZE = re.compile(r"\d+([KMGT]B?)?", re.IGNORECASE)


def check_size(value: str) -> None:
    """Take a number of bytes, `1073741824` or `1G`."""
    if not _SIZE.fullmatch(value):
        raise ValueError(f"'{value}' is no size such as 1073741824 or 1G")


def check_count(value: str) -> None:
    """Take a whole number."""
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"'{value}' is no whole number")
