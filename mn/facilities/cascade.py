"""What goes with what: deleting a resource deletes its children first, changing its state changes theirs.

A facility says of what its resources are children (`child_of`); parents know nothing of their children.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from agentkit.errors import HardpointError
from mn.db.schema import now_s
from mn.facilities.common import DeletionMode
from mn.facilities.tags.rules import drop_tags
from mn.query.resource import Resource, known_resources
from mn.rest.services import Job

log = logging.getLogger(__name__)

Remove = Callable[[Job, str, DeletionMode], Awaitable[None]]
"""Takes a resource out of the world: all but its own row and its children."""


@dataclass(frozen=True)
class Child:
    """Rows of `resource` whose `column` is the parent's uuid."""

    resource: Resource
    column: str
    remove: Remove | None
    kept_states: tuple[str, ...]
    """States that a parent's change of state leaves alone."""


@dataclass(frozen=True)
class Part:
    """Rows of `resource` that are nothing without the parent whose uuid their `column` has."""

    resource: Resource
    column: str


_children: dict[str, list[Child]] = {}
_parts: dict[str, list[Part]] = {}
_farewells: dict[str, list[Callable[[Connection, str], None]]] = {}


def child_of(
    parent: Resource,
    resource: Resource,
    column: str,
    *,
    remove: Remove | None = None,
    kept_states: tuple[str, ...] = (),
) -> None:
    """Say that `resource` goes with `parent`."""
    _children.setdefault(parent.name, []).append(Child(resource, column, remove, kept_states))


def part_of(parent: Resource, resource: Resource, column: str) -> None:
    """Say that rows of `resource` are parts of `parent`: they go in its own transaction, with their tags."""
    _parts.setdefault(parent.name, []).append(Part(resource, column))


def when_deleted(resource: Resource, farewell: Callable[[Connection, str], None]) -> None:
    """Have `farewell(connection, uuid)` called in the transaction that deletes a row, before it goes."""
    _farewells.setdefault(resource.name, []).append(farewell)


async def delete_tree(job: Job, resource: Resource, uuid: str, mode: DeletionMode) -> None:
    """Delete a resource with all that is below it, the leaves first; one that does not exist is deleted
    already.

    Permissive: the first failure ends it, what is above stays (SYS.1004). Enforcing: failures are logged,
    rows go.
    """
    for child in _children.get(resource.name, []):
        for child_uuid in await job.transact(list_children, child.resource.name, child.column, uuid):
            await delete_tree(job, child.resource, child_uuid, mode)
    remove = _remover(resource)
    if remove is not None:
        try:
            await remove(job, uuid, mode)
        except HardpointError as error:
            if mode == "Permissive":
                raise _cannot_delete(resource, uuid, error) from error
            log.warning("deleted all the same", extra={"resource": uuid, "reason": error.details})
    await job.transact(delete_row, resource.name, uuid)


def list_children(connection: Connection, name: str, column: str, parent: str) -> list[str]:
    """Return the uuids of a parent's children."""
    table = known_resources()[name].table
    return list(connection.execute(select(table.c.uuid).where(table.c[column] == parent)).scalars())


def delete_row(connection: Connection, name: str, uuid: str) -> None:
    """Delete a row with its parts and tags.

    Raises HardpointError (SYS.1004) when it has got a child meanwhile.
    """
    for child in _children.get(name, []):
        table = child.resource.table
        added = (
            connection.execute(select(table.c.uuid).where(table.c[child.column] == uuid)).scalars().first()
        )
        if added is not None:
            reason = f"{child.resource.name} {added} was added to it meanwhile"
            raise HardpointError(
                "SYS.1004",
                "Delete resource failed",
                f"{name} {uuid} was not deleted: {reason}",
                remedy="delete it again",
            )
    for part in _parts.get(name, []):
        below = part.resource.table.c[part.column] == uuid
        uuids = list(connection.execute(select(part.resource.table.c.uuid).where(below)).scalars())
        connection.execute(delete(part.resource.table).where(below))
        drop_tags(connection, *uuids)
    for farewell in _farewells.get(name, []):
        farewell(connection, uuid)
    table = known_resources()[name].table
    connection.execute(delete(table).where(table.c.uuid == uuid))
    drop_tags(connection, uuid)


def change_state_tree(connection: Connection, resource: Resource, uuids: list[str], state: str) -> None:
    """Write a state to resources and to all that is below them."""
    for child in _children.get(resource.name, []):
        table = child.resource.table
        if "state" not in table.c:
            continue
        below = table.c[child.column].in_(uuids) & table.c.state.not_in(child.kept_states)
        found = list(connection.execute(select(table.c.uuid).where(below)).scalars())
        if found:
            change_state_tree(connection, child.resource, found, state)
    table = resource.table
    where = table.c.uuid.in_(uuids) & (table.c.state != state)
    connection.execute(update(table).where(where).values(state=state, last_op_date=now_s()))


def _remover(resource: Resource) -> Remove | None:
    for children in _children.values():
        for child in children:
            if child.resource.name == resource.name:
                return child.remove
    return None


def _cannot_delete(resource: Resource, uuid: str, error: HardpointError) -> HardpointError:
    return HardpointError(
        "SYS.1004",
        "Delete resource failed",
        f"{resource.name} {uuid} was not deleted: {error.details}",
        remedy=f"{error.remedy or 'remove the cause'}, or delete with deleteMode=Enforcing",
        cause=error,
    )
