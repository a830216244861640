"""Which system tags there may be, and how tags are written with their resource."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.schema import new_uuid, now_s
from mn.db.tags import SYSTEM, TAG_LENGTH, USER, tag_table
from mn.query.resource import Resource

Check = Callable[[str], None]
"""Raises ValueError, saying what would be right, for a value that the tag must not have."""
Follow = Callable[[Connection, str], None]
"""Is called with a resource's uuid after a tag of a kind was written, changed or taken away."""


@dataclass(frozen=True)
class Pattern:
    """A kind of system tag: `host::reservedMemory::{capacity}`; a resource has at most one of a kind.

    An inherent one is written by the system only. One with a `whole` may be given to that, too, when both are
    made at once: to a VM for its root volume.
    """

    resource: str
    text: str
    meaning: str
    check: Check | None = None
    inherent: bool = False
    follow: Follow | None = None
    whole: str | None = None

    def with_value(self, value: str) -> str:
        """Return the tag that has a value."""
        return re.sub(r"\{\w+\}", lambda _: value, self.text)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern as a regular expression; each `{name}` takes anything but nothing."""
        parts = re.split(r"\{(\w+)\}", self.text)
        return re.compile(
            "".join(f"(?P<{p}>.+)" if i % 2 else re.escape(p) for i, p in enumerate(parts)), re.DOTALL
        )


_patterns: dict[str, list[Pattern]] = {}


def register(
    resource: str,
    text: str,
    meaning: str,
    check: Check | None = None,
    follow: Follow | None = None,
    whole: str | None = None,
) -> None:
    """Make a kind of system tag known for a resource (`Zone`)."""
    pattern = Pattern(resource, text, meaning, check, follow=follow, whole=whole)
    _patterns.setdefault(resource, []).append(pattern)


def tags_for_part(whole: str, part: str, tags: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return which system tags given to a resource are its own, and which are those of a part of it."""
    patterns = [pattern for pattern in _patterns.get(part, []) if pattern.whole == whole]
    given = list(tags)
    theirs = [tag for tag in given if any(pattern.regex.fullmatch(tag) for pattern in patterns)]
    return [tag for tag in given if tag not in theirs], theirs


def register_inherent(resource: str, text: str, meaning: str) -> None:
    """Make a kind of system tag known that the system itself writes (`write_inherent`)."""
    _patterns.setdefault(resource, []).append(Pattern(resource, text, meaning, inherent=True))


def known_patterns(resource: str) -> list[Pattern]:
    """Return the kinds of system tags that users may give to a resource."""
    return [pattern for pattern in _patterns.get(resource, []) if not pattern.inherent]


def type_name(resource: Resource) -> str:
    """Return a resource's name as tags have it, `ZoneVO`."""
    return f"{resource.name}VO"


def pattern_of(resource: str, tag: str) -> Pattern:
    """Return the kind of a system tag.

    Raises HardpointError (SYS.1007) when there is none, its value is wrong, or only the system writes it.
    """
    for pattern in _patterns.get(resource, []):
        match = pattern.regex.fullmatch(tag)
        if match is None:
            continue
        if pattern.inherent:
            raise _bad_tag(f"system tag '{tag}' is written by the system, from what it sees", "leave it out")
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
    for tag in system_tags:
        follow_tag(connection, resource.name, uuid, tag)


def follow_tag(connection: Connection, resource: str, uuid: str, tag: str) -> None:
    """Let what depends on a system tag follow, which was written, changed or taken away."""
    for pattern in _patterns.get(resource, []):
        if pattern.follow is not None and pattern.regex.fullmatch(tag):
            pattern.follow(connection, uuid)


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


def drop_tags(connection: Connection, *uuids: str) -> None:
    """Delete the tags of resources that are gone."""
    connection.execute(delete(tag_table).where(tag_table.c.resource_uuid.in_(uuids)))


def write_inherent(
    connection: Connection, resource: Resource, uuid: str, values: Mapping[str, str | None]
) -> None:
    """Write the inherent tags of a resource: a value for each pattern's text, None takes the tag away.

    Patterns that are not among `values` keep what they have.
    """
    inherent = {p.text: p for p in _patterns.get(resource.name, []) if p.inherent}
    mine = (tag_table.c.resource_uuid == uuid) & tag_table.c.inherent
    rows = list(connection.execute(select(tag_table.c.uuid, tag_table.c.tag).where(mine)))
    fresh = []
    for text, value in values.items():
        pattern = inherent[text]
        tag = pattern.with_value(value)[:TAG_LENGTH] if value else None
        old = next((row for row in rows if pattern.regex.fullmatch(row.tag)), None)
        if old is None and tag is not None:
            fresh.append({**tag_row(resource, uuid, tag, SYSTEM), "inherent": True})
        elif old is not None and tag is None:
            connection.execute(delete(tag_table).where(tag_table.c.uuid == old.uuid))
        elif old is not None and old.tag != tag:
            changed = {"tag": tag, "last_op_date": now_s()}
            connection.execute(update(tag_table).where(tag_table.c.uuid == old.uuid).values(**changed))
    if fresh:
        connection.execute(insert(tag_table), fresh)


def tag_value(connection: Connection, resource: str, uuid: str, text: str) -> str | None:
    """Return the value of a resource's system tag of the kind `text`, None when it has none."""
    pattern = next(p for p in _patterns[resource] if p.text == text)
    query = select(tag_table.c.tag).where(tag_table.c.resource_uuid == uuid, tag_table.c.type == SYSTEM)
    found = (pattern.regex.fullmatch(tag) for tag in connection.execute(query).scalars())
    return next((match[1] for match in found if match), None)


def same_kind(connection: Connection, resource: str, uuid: str, tag: str) -> str | None:
    """Return a resource's system tag of the same kind as `tag`, None when it has none."""
    pattern = pattern_of(resource, tag)
    query = select(tag_table.c.tag).where(tag_table.c.resource_uuid == uuid, tag_table.c.type == SYSTEM)
    return next((t for t in connection.execute(query).scalars() if pattern.regex.fullmatch(t)), None)


def set_tag(connection: Connection, resource: Resource, uuid: str, tag: str) -> None:
    """Give a resource a system tag, in place of one of the same kind."""
    old = same_kind(connection, resource.name, uuid, tag)
    if old is None:
        connection.execute(insert(tag_table), tag_row(resource, uuid, tag, SYSTEM))
    elif old != tag:
        mine = (tag_table.c.resource_uuid == uuid) & (tag_table.c.tag == old) & (tag_table.c.type == SYSTEM)
        connection.execute(update(tag_table).where(mine).values(tag=tag, last_op_date=now_s()))


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


def check_truth(value: str) -> None:
    """Take `true` or `false`."""
    if value not in ("true", "false"):
        raise ValueError(f"'{value}' is neither true nor false")


def check_addresses(value: str) -> None:
    """Take IP addresses with commas."""
    for address in value.split(","):
        try:
            ipaddress.ip_address(address.strip())
        except ValueError:
            raise ValueError(f"'{address}' is no IP address") from None
