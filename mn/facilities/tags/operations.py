"""Create, change, delete and query tags."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from msgspec import Meta
from sqlalchemy import Connection, Row, delete, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.schema import now_s
from mn.db.tags import SYSTEM, TAG_LENGTH, USER, tag_table
from mn.facilities.common import DeletionMode, find, inventory
from mn.facilities.tags.rules import follow_tag, pattern_of, same_kind, tag_row
from mn.query.resource import Resource, known_resources
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Ref, Uuid

Tag = Annotated[
    str, Meta(min_length=1, max_length=TAG_LENGTH, description=f"a text of 1 to {TAG_LENGTH} characters")
]

SYSTEM_TAG = Resource("SystemTag", tag_table, only={"type": SYSTEM})
USER_TAG = Resource("UserTag", tag_table, only={"type": USER})


class CreateSystemTag(Create, path="/system-tags", reply=SYSTEM_TAG):
    """Give a resource a system tag of a kind that its type may have."""

    resource_type: Ref
    resource_uuid: Ref
    tag: Tag

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = await job.transact(insert_tag, self.resource_type, self.resource_uuid, self.tag, SYSTEM)
        return await inventory(job.services, SYSTEM_TAG, uuid)


class CreateUserTag(Create, path="/user-tags", reply=USER_TAG):
    """Give a resource a tag of one's own."""

    resource_type: Ref
    resource_uuid: Ref
    tag: Tag

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = await job.transact(insert_tag, self.resource_type, self.resource_uuid, self.tag, USER)
        return await inventory(job.services, USER_TAG, uuid)


class UpdateSystemTag(Action, path="/system-tags/{uuid}/actions", reply=SYSTEM_TAG):
    """Change a system tag's value; its kind stays."""

    uuid: Ref
    tag: Tag

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(change_tag, self.uuid, self.tag)
        return await inventory(job.services, SYSTEM_TAG, self.uuid)


class DeleteTag(Delete, path="/tags/{uuid}"):
    """Take a tag away."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    async def run(self, job: Job) -> Reply:
        """Delete the row; one that is gone is no fault."""
        await job.transact(delete_tag, self.uuid)
        return {}


class QuerySystemTag(Query, path=("/system-tags", "/system-tags/{uuid}"), reply=SYSTEM_TAG):
    """Query system tags."""


class QueryUserTag(Query, path=("/user-tags", "/user-tags/{uuid}"), reply=USER_TAG):
    """Query user tags."""


def insert_tag(connection: Connection, resource_type: str, resource_uuid: str, tag: str, kind: str) -> str:
    """Insert a tag of a resource and return its uuid.

    Raises HardpointError for an unknown type or resource, a system tag of no known kind, and a tag that is
    there.
    """
    resource = _resource(resource_type)
    find(connection, resource, resource_uuid)
    if kind == SYSTEM and (other := same_kind(connection, resource.name, resource_uuid, tag)):
        raise _there(resource, resource_uuid, other)
    same = tag_table.c.resource_uuid == resource_uuid, tag_table.c.tag == tag, tag_table.c.type == kind
    if connection.execute(select(tag_table.c.uuid).where(*same)).first():
        raise _there(resource, resource_uuid, tag)
    row = tag_row(resource, resource_uuid, tag, kind)
    connection.execute(insert(tag_table), row)
    if kind == SYSTEM:
        follow_tag(connection, resource.name, resource_uuid, tag)
    return str(row["uuid"])


def change_tag(connection: Connection, uuid: str, tag: str) -> None:
    """Change a system tag. Raises HardpointError when the system keeps it (SYS.1006), or when that would
    make it another kind.
    """
    row = find(connection, SYSTEM_TAG, uuid)
    if row.inherent:
        raise _kept(row)
    resource = row.resource_type.removesuffix("VO")
    if pattern_of(resource, tag) != pattern_of(resource, row.tag):
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"system tag '{tag}' is of another kind than '{row.tag}'",
            remedy="delete the tag and create the other one",
            blame=Blame.CALLER,
        )
    values = {"tag": tag, "last_op_date": now_s()}
    connection.execute(update(tag_table).where(tag_table.c.uuid == uuid).values(**values))
    follow_tag(connection, resource, row.resource_uuid, tag)


def delete_tag(connection: Connection, uuid: str) -> None:
    """Delete a tag. Raises HardpointError (SYS.1006) when the system keeps it."""
    row = connection.execute(select(tag_table).where(tag_table.c.uuid == uuid)).first()
    if row is not None and row.inherent:
        raise _kept(row)
    connection.execute(delete(tag_table).where(tag_table.c.uuid == uuid))
    if row is not None and row.type == SYSTEM:
        follow_tag(connection, row.resource_type.removesuffix("VO"), row.resource_uuid, row.tag)


def _resource(resource_type: str) -> Resource:
    known = {f"{name}VO": resource for name, resource in known_resources().items() if resource.only is None}
    if resource_type in known:
        return known[resource_type]
    close = difflib.get_close_matches(resource_type, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"there is no resource type '{resource_type}'",
        remedy=f"{hint}resource types: {', '.join(sorted(known))}",
        blame=Blame.CALLER,
    )


def _kept(row: Row[Any]) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"tag '{row.tag}' of {row.resource_type} {row.resource_uuid} is kept by the system",
        remedy="leave it: it follows what the system sees, and goes with its resource",
        blame=Blame.CALLER,
    )


def _there(resource: Resource, uuid: str, tag: str) -> HardpointError:
    return HardpointError(
        "TAG.1000",
        "Bad tag",
        f"{resource.name} {uuid} has the tag '{tag}' already",
        remedy="update or delete that tag",
        blame=Blame.CALLER,
    )
